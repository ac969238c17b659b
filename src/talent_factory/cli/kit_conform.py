"""`talent kit conform`: find the file and its base, ask every program, show the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from talent_factory.cli.common import printable
from talent_factory.core.errors import KitError, UsageError

if TYPE_CHECKING:
    from talent_factory.kits.conform import ConformReport


def check(target: str, *, tools: Sequence[str], base: str | None, folder: Path) -> ConformReport:
    """Judge the kit called `target` in `folder`, or the file of that name.

    Raises UsageError when the base cannot be told or a tool is unknown, KitError or BaseError when a file or
    the base cannot be read.
    """
    from talent_factory.foundry.conform import conform, family_of
    from talent_factory.kits.conform import TOOLS, open_lora
    from talent_factory.kits.conform.family import family
    from talent_factory.training.families import load_base

    unknown = [tool for tool in tools if tool not in TOOLS]
    if unknown:
        raise UsageError(f"no tool called {unknown[0][:60]!r}", remedy=f"choose from {', '.join(TOOLS)}")
    path, stated = _locate(target, folder)
    file = open_lora(path)
    name = base or stated or file.family
    if not name:
        raise UsageError(
            f"{path.name} does not show which base it is for", remedy="say it: --base sd15, --base sdxl"
        )
    if not base and name != "mini" and file.family != name:
        raise UsageError(
            f"{target} was trained on a model of another shape than {name}",
            remedy="name that model: --base FOLDER",
        )
    wanted = tuple(tools) or TOOLS
    if name in ("sd15", "sdxl"):
        known = family("sdxl" if name == "sdxl" else "sd15").name
        return conform(file, family=known, base=None, tools=wanted)
    model = load_base(name)
    return conform(file, family=family_of(model), base=model, tools=wanted)


def show(report: ConformReport) -> None:
    """Print a few lines a program: the verdict, what it takes the file for, what it leaves aside."""
    from talent_factory.kits.conform.report import VERDICTS

    print(f"{printable(report.file)}: {report.modules} modules, {report.tensors} tensors, base {report.base}")
    for tool in report.tools:
        print(f"{tool.tool:10} {tool.verdict:8} {VERDICTS[tool.verdict]}")
        if tool.verdict == "foreign":
            continue
        how = tool.method
        if tool.difference is not None:
            how += f", factors differ by {tool.difference:.1g}"
        if tool.forward_difference is not None:
            how += f", outputs by {tool.forward_difference:.1g}"
        print(f"  {tool.matched} modules, {tool.unmatched} tensors left over ({how})")
        if tool.taken_for:
            print(f"  taken for {tool.taken_for}, called {printable(tool.called)}")
        for remark in tool.remarks:
            print(f"  {printable(remark)}")
        for name in tool.unmatched_names:
            print(f"  no effect: {printable(name)}")


def _locate(target: str, folder: Path) -> tuple[Path, str]:
    """The weights, and the name of the base that their kit states ("" for a bare file)."""
    from talent_factory.core.workspace import check_id
    from talent_factory.kits.keys import base_of
    from talent_factory.kits.manifest import WEIGHTS_FILE, read_manifest

    path = Path(target).expanduser()
    if path.is_file() or path.suffix == ".safetensors":
        return path, ""
    if path.is_dir() and (path / WEIGHTS_FILE).is_file():
        folder, target = path.parent, path.resolve().name
    kit = folder / check_id(target)
    if not kit.is_dir():
        raise KitError(f"there is no kit {target} in {folder}", remedy="talent kit list shows what there is")
    manifest = read_manifest(kit)
    return kit / WEIGHTS_FILE, base_of(manifest.base_model, manifest.sdx_version)
