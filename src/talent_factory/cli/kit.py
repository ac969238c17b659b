"""`talent kit`: validate, index, list, show and conform the kits of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit, printable
from talent_factory.cli.kit_export import export, prompt, subject
from talent_factory.cli.kit_registry import registry
from talent_factory.cli.kit_sign import keygen, sign, trust, verify

if TYPE_CHECKING:
    from talent_factory.kits.findings import KitReport
    from talent_factory.kits.validate import Inspection

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Validate and index Talent Kits.")

BaseDirOption = Annotated[
    Path | None,
    typer.Option(
        "--base-dir", show_default="talents/avatar", help="Folder that holds the <talent_id>/ folders."
    ),
]
TalentArgument = Annotated[
    str | None, typer.Argument(metavar="[TALENT_ID]", help="One kit; all kits without it.")
]


@app.command("validate")
def validate(
    talent_id: TalentArgument = None,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show remedies and warnings too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Open every file of one kit or of all kits and say what is wrong; exit code 1 when a kit is invalid."""
    if not validate_folder(
        _folder(base_dir, workspace), talent_id=talent_id, verbose=verbose, as_json=as_json
    ):
        raise typer.Exit(1)


@app.command("index")
def index(
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, not to stdout.")
    ] = None,
    pretty: Annotated[bool, typer.Option("--pretty", help="Indent the JSON.")] = False,
    include_invalid: Annotated[
        bool, typer.Option("--include-invalid", help="List invalid kits too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print a JSON array with one entry a kit, for programs that choose among kits (always JSON)."""
    index_folder(_folder(base_dir, workspace), output=output, pretty=pretty, include_invalid=include_invalid)


app.command("registry")(registry)
app.command("export")(export)
app.command("prompt")(prompt)
app.command("subject")(subject)
app.command("keygen")(keygen)
app.command("sign")(sign)
app.command("verify")(verify)
app.command("trust")(trust)


@app.command("list")
def list_kits(
    base_dir: BaseDirOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """List the kits, invalid ones too."""
    from talent_factory.kits.index import index_kits

    entries = index_kits(_folder(base_dir, workspace), include_invalid=True)
    emit(entries, as_json, lambda: _print_table(entries))


@app.command("show")
def show(
    talent_id: Annotated[str, typer.Argument(help="The kit to show.")],
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one kit: its manifest and what the validator says."""
    from talent_factory.kits.index import entry

    inspection = _inspect_one(_folder(base_dir, workspace), talent_id)
    document = {**entry(inspection), "manifest": inspection.raw, "findings": inspection.report.findings}
    emit(document, as_json, lambda: _print_kit(inspection))


@app.command("conform")
def conform(
    target: Annotated[str, typer.Argument(metavar="ID|FILE", help="A kit, or any LoRA file.")],
    tool: Annotated[
        list[str] | None,
        typer.Option("--tool", help="diffusers, a1111, forge, comfyui or invokeai; may be repeated."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help="sd15 or sdxl for their shape alone; mini or a model to compare outputs on it too."
        ),
    ] = None,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which programs read the weights, and what each makes of them; exit code 1 when one loses any."""
    from talent_factory.cli.kit_conform import check, show

    report = check(target, tools=tool or (), base=base, folder=_folder(base_dir, workspace))
    emit(report, as_json, lambda: show(report))
    if not report.good:
        raise typer.Exit(1)


@app.command("schema")
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, not to stdout.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the JSON schema of talent.json (always JSON)."""
    from talent_factory.core.files import write_text
    from talent_factory.kits.manifest import schema_text

    if output is None:
        print(schema_text(), end="")
    else:
        write_text(output, schema_text())


def validate_folder(base_dir: Path, *, talent_id: str | None, verbose: bool, as_json: bool) -> bool:
    """Validate one kit or all kits of `base_dir`, show the reports and return whether all are valid.

    Raises UsageError for a text that is no talent id and KitError when `base_dir` is no folder.
    """
    from talent_factory.kits.index import inspect_kits

    inspections = [_inspect_one(base_dir, talent_id)] if talent_id else inspect_kits(base_dir)
    reports = [inspection.report for inspection in inspections]
    valid = all(report.valid for report in reports)
    emit({"valid": valid, "kits": reports}, as_json, lambda: _print_reports(reports, base_dir, verbose))
    return valid


def index_folder(base_dir: Path, *, output: Path | None, pretty: bool, include_invalid: bool) -> None:
    """Print the index of `base_dir` as a JSON array, or write it to `output` in one step.

    Raises KitError when `base_dir` is no folder.
    """
    from talent_factory.core.files import write_text
    from talent_factory.kits.index import index_kits

    entries = index_kits(base_dir, include_invalid=include_invalid)
    # a folder's name may be no UTF-8: escapes can say it all the same
    text = json.dumps(entries, indent=2 if pretty else None)
    if output is None:
        print(text)
    else:
        write_text(output, text + "\n")


def _folder(base_dir: Path | None, workspace: Path | None) -> Path:
    from talent_factory.core.workspace import workspace_from
    from talent_factory.kits.index import DEFAULT_FOLDER

    if base_dir is not None:
        return base_dir
    # without a workspace the path stays relative, and so do the paths in the index
    return workspace_from(workspace).talents if workspace is not None else DEFAULT_FOLDER


def _inspect_one(base_dir: Path, talent_id: str) -> Inspection:
    from talent_factory.core.workspace import check_id
    from talent_factory.kits.validate import inspect_kit

    return inspect_kit(base_dir / check_id(talent_id))


def _print_reports(reports: list[KitReport], base_dir: Path, verbose: bool) -> None:
    for report in reports:
        print(f"{'valid  ' if report.valid else 'INVALID'}  {printable(report.id)}")
        for finding in report.findings if verbose else report.errors:
            where = f"{finding.file}: " if finding.file else ""
            print(f"  {finding.severity:7}  {printable(where + finding.message)}  [{finding.code}]")
            if verbose:
                print(f"           try: {finding.remedy}")
    bad = sum(not report.valid for report in reports)
    weak = sum(len(report.warnings) for report in reports)
    hint = " (--verbose shows them)" if weak and not verbose else ""
    print(
        f"{len(reports)} kits in {base_dir}: {len(reports) - bad} valid, {bad} invalid, {weak} warnings{hint}"
    )


def _print_table(entries: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("kit", "token", "base", "rank", "weight", "MB", "valid")
    for item in entries:
        cells = [
            item[name] for name in ("id", "token", "base_model", "lora_rank", "default_weight", "size_mb")
        ]
        shown = ["" if cell is None else str(cell)[:80] for cell in cells]
        # Text, because a broken kit may hold anything, markup included
        table.add_row(*(Text(printable(cell)) for cell in shown), "yes" if item["valid"] else "NO")
    console().print(table)


def _print_kit(inspection: Inspection) -> None:
    from talent_factory.core.files import json_text

    _print_reports([inspection.report], Path(inspection.report.path).parent, verbose=True)
    if inspection.raw is not None:
        print(json_text(inspection.raw), end="")
