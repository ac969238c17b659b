"""`talent kit import`: take in kits, archives, LoRA files and the LoRA folders of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit, printable, reporter

if TYPE_CHECKING:
    from talent_factory.kits.intake.facts import Wishes
    from talent_factory.kits.intake.outcome import Taken


PathsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH...",
        help="Kit archives (.zip, .tar, .tar.gz), kit folders, .safetensors files, folders of a program.",
    ),
]
BaseOption = Annotated[
    str | None,
    typer.Option("--base", help="mini, sd15 or sdxl where it must be that one; else the model's name."),
]
IdOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        help="Id of the new kit; it also says identity or style.",
        show_default="from the file's name",
    ),
]
TokenOption = Annotated[
    str | None, typer.Option("--token", "-t", help="The word that wakes it.", show_default="from the file")
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Put it in the place of a kit of that id.")]
LookOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and tell what it would become; write nothing.")
]


def import_kits(
    paths: PathsArgument,
    base: BaseOption = None,
    talent_id: IdOption = None,
    token: TokenOption = None,
    replace: ReplaceOption = False,
    dry_run: LookOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make kits of what others made: nothing in it is trusted, pickle files are never opened.

    Exit code 0 when all is here now, 1 when nothing could be taken, 3 when some of it was refused.
    """
    from talent_factory.core.workspace import workspace_from
    from talent_factory.kits.intake.bring import bring
    from talent_factory.kits.intake.outcome import Order

    order = Order(
        root=workspace_from(workspace).talents,
        id=talent_id,
        base=base,
        wishes=_wishes(talent_id, token),
        replace=replace,
        dry_run=dry_run,
    )
    with reporter(quiet=as_json or None) as report:
        taken = bring(
            paths, order, progress=lambda done, total: report.progress("import", done, total, unit="file")
        )
    counts = {
        status: sum(item.status == status for item in taken) for status in ("imported", "known", "refused")
    }
    emit({"dry_run": dry_run, **counts, "items": taken}, as_json, lambda: _show(taken, dry_run))
    if counts["refused"]:
        raise typer.Exit(1 if counts["refused"] == len(taken) else 3)


def _wishes(talent_id: str | None, token: str | None) -> Wishes:
    """What the options say; raises UsageError for an id or a token that is none."""
    from talent_factory.core.errors import UsageError
    from talent_factory.core.workspace import check_id
    from talent_factory.kits.intake.facts import Wishes

    if token is not None and not (token.isascii() and token.replace("_", "a").isalnum() and len(token) <= 64):
        raise UsageError(f"{token[:80]!r} is no token", remedy="use letters, digits and _, at most 64")
    kind: Literal["identity", "style"] | None = None
    if talent_id is not None:
        kind = "identity" if check_id(talent_id).startswith("avatar.identity.") else "style"
    return Wishes(token=token, kind=kind)


def _show(taken: list[Taken], dry_run: bool) -> None:
    for item in taken:
        if item.status == "refused":
            print(f"REFUSED   {printable(item.source)}: {printable(item.message)}  [{item.code}]")
            print(f"            try: {printable(item.remedy)}")
        elif item.status == "known":
            print(f"known     {item.id}  {printable(item.message)}")
        else:
            rank = f"rank {item.rank}" + (f", alpha {item.alpha:g}" if item.alpha is not None else "")
            word = "would be" if dry_run else "imported"
            print(f"{word}  {item.id}  from {printable(item.source)}: {item.form}, {item.base}, {rank}")
            if len(taken) <= 5:
                _show_reasons(item)
    if len(taken) == 1 and taken[0].status == "imported" and not dry_run:
        console().print(f"next: talent kit show {taken[0].id}", soft_wrap=True)


def _show_reasons(item: Taken) -> None:
    for reason in item.reasons:
        print(f"            {reason.field}: {printable(reason.value) or '-'}  ({printable(reason.why)})")
    for text in (*item.changes, *item.warnings):
        print(f"            {printable(text)}")
