"""`talent kit export`, `prompt` and `subject`: hand a kit on, write for it, say whom it shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from talent_factory.cli.common import DryRunOption, JsonOption, WorkspaceOption, emit, printable, reporter
from talent_factory.core.errors import UsageError

if TYPE_CHECKING:
    from talent_factory.kits.export import Export
    from talent_factory.kits.manifest import Subject
    from talent_factory.kits.prompting import ToolPrompt

BaseDirOption = Annotated[
    Path | None,
    typer.Option(
        "--base-dir", show_default="talents/avatar", help="Folder that holds the <talent_id>/ folders."
    ),
]
OwnBaseOption = Annotated[
    str | None, typer.Option("--base", help="The model of a kit that is for none of the usual bases.")
]
KitArgument = Annotated[str, typer.Argument(metavar="ID", help="The kit.")]


def export(
    talent_id: KitArgument,
    target: Annotated[
        str,
        typer.Option("--target", "-t", help="a1111, forge, comfy, invoke, diffusers, hf, civitai or zip."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write to, such as the program's own for LoRAs.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", show_default="TOKEN_lora", help="What programs call the LoRA.")
    ] = None,
    minimal_metadata: Annotated[
        bool, typer.Option("--minimal-metadata", help="Leave out how the kit was made, by whom, from what.")
    ] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Ask for consent as hf and civitai always do.")
    ] = False,
    base: OwnBaseOption = None,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a kit in the form that a program or a place of sharing reads."""
    from functools import partial

    from talent_factory.kits.export import TARGETS, export_kit, plan_export

    if target not in TARGETS:
        raise UsageError(f"no target called {target[:40]!r}", remedy=f"choose from {', '.join(TARGETS)}")
    folder, own = kit_folder(talent_id, base_dir, workspace), own_base(base)
    with reporter() as progress:
        make = plan_export if dry_run else partial(export_kit, reporter=progress)
        done = make(
            folder,
            target=target,
            out=out,
            name=name,
            minimal=minimal_metadata,
            publish=publish,
            base_folder=own,
        )
    emit(done, as_json, lambda: _show_export(done))


def prompt(
    talent_id: KitArgument,
    text: Annotated[str, typer.Argument(help="What to draw, in plain words: Peter climbing a tree.")],
    tool: Annotated[str, typer.Option("--tool", help="a1111, forge, comfy, invoke or diffusers.")] = "a1111",
    also: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="ID[:WEIGHT]", help="Another kit to mix in; may be repeated."),
    ] = None,
    weight: Annotated[
        float | None, typer.Option("--weight", show_default="the kit's own", help="Strength of the kit.")
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="What the exported file is called, once for each kit in order."),
    ] = None,
    negative: Annotated[str, typer.Option("--negative", help="What else to keep out of the picture.")] = "",
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn plain words into the prompt of a program: kits named, their words in place, negatives beside."""
    from talent_factory.kits.manifest import read_manifest, read_prompts
    from talent_factory.kits.prompting import TOOLS, PromptKit, read_weighted_id, write_prompt

    if tool not in TOOLS:
        raise UsageError(f"no tool called {tool[:40]!r}", remedy=f"choose from {', '.join(TOOLS)}")
    wanted = [(talent_id, weight), *(read_weighted_id(item) for item in also or ())]
    if names and len(names) != len(wanted):
        raise UsageError(f"{len(names)} names for {len(wanted)} kits", remedy="give --name once for each")
    uses = []
    for number, (each, strength) in enumerate(wanted):
        folder = kit_folder(each, base_dir, workspace)
        manifest = read_manifest(folder)
        name = names[number] if names else None
        uses.append(PromptKit.of(manifest, read_prompts(folder), weight=strength, name=name))
    made = write_prompt(text, uses, tool=tool, negative=negative)
    emit(made, as_json, lambda: _show_prompt(made))


def subject(
    talent_id: KitArgument,
    real_person: Annotated[
        bool | None, typer.Option("--real-person/--fictional", help="Whether the kit shows a real person.")
    ] = None,
    consent: Annotated[
        str | None,
        typer.Option("--consent", help="none, self (you are the person) or written (add --evidence)."),
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option("--evidence", help="The document of consent; only its sha256 is kept.")
    ] = None,
    minor: Annotated[
        bool | None, typer.Option("--minor/--adult", help="Whether the person shown is a minor.")
    ] = None,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say whom a kit shows and whether they consented; without options, show what it says."""
    from talent_factory.kits.consent import set_subject, subject_of
    from talent_factory.kits.manifest import read_manifest
    from talent_factory.kits.signing import SIGNATURE_FILES

    folder = kit_folder(talent_id, base_dir, workspace)
    signed = any((folder / name).is_file() for name in SIGNATURE_FILES)
    if consent not in (None, "none", "self", "written"):
        raise UsageError(f"no consent called {consent[:40]!r}", remedy="choose none, self or written")
    if (real_person, consent, evidence, minor) == (None, None, None, None):
        stated = subject_of(read_manifest(folder))
    else:
        word = cast("Literal['none', 'self', 'written'] | None", consent)
        stated = set_subject(
            folder, real_person=real_person, consent=word, evidence=evidence, minor=minor, dry_run=dry_run
        )
    unsigned = signed and not any((folder / name).is_file() for name in SIGNATURE_FILES)
    document = {"kit": talent_id, "subject": stated, "unsigned": unsigned}
    emit(document, as_json, lambda: _show_subject(talent_id, stated, unsigned=unsigned))


def own_base(base: str | None) -> Path | None:
    """Return what says which modules a model has; None for the usual bases. BaseError when there is none."""
    if base is None:
        return None
    from talent_factory.training.resolve import resolve_base

    return resolve_base(base).kit_folder


def kit_folder(talent_id: str, base_dir: Path | None, workspace: Path | None) -> Path:
    """Return the folder of a kit; UsageError for what is no id, KitError when there is no such kit."""
    from talent_factory.core.errors import KitError
    from talent_factory.core.workspace import check_id, workspace_from
    from talent_factory.kits.index import DEFAULT_FOLDER

    root = base_dir or (workspace_from(workspace).talents if workspace is not None else DEFAULT_FOLDER)
    folder = root / check_id(talent_id)
    if not folder.is_dir():
        raise KitError(f"there is no kit {talent_id} in {root}", remedy="talent kit list shows what there is")
    return folder


def _show_export(done: Export) -> None:
    print(f"{done.kit} for {done.target}, called {done.name}" + ("" if done.written else " (dry run)"))
    for file in done.files:
        print(f"  {printable(str(file.path))}  {file.bytes:,} bytes")
    for remark in done.remarks:
        print(f"  note: {remark}")


def _show_prompt(made: ToolPrompt) -> None:
    # the words come from kits, and kits from anywhere
    print(printable(made.positive))
    if made.negative:
        print(f"\nnegative: {printable(made.negative)}")
    if made.setup:
        print("\n" + "\n".join(printable(line) for line in made.setup.splitlines()))
    for remark in made.remarks:
        print(f"note: {remark}")


def _show_subject(talent_id: str, stated: Subject | None, *, unsigned: bool) -> None:
    if stated is None:
        print(f"{talent_id} does not say whether it shows a real person")
        print(f"next: talent kit subject {talent_id} --fictional")
        return
    who = "a real person" if stated.real_person else "no real person"
    age = ", a minor" if stated.minor else ""
    print(f"{talent_id} shows {who}{age}; consent: {stated.consent}")
    if stated.evidence_sha256:
        print(f"  evidence: sha256 {stated.evidence_sha256}")
    if unsigned:
        print(f"its signature covered the old words and is gone: talent kit sign {talent_id}")
