"""`talent train import`: turn what kohya's sd-scripts were told into a config of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, console, emit

if TYPE_CHECKING:
    from talent_factory.training.kohya import Imported, Wanted

_MARKS = {
    "mapped": ("now", "green"),
    "needless": ("not needed", "dim"),
    "differs": ("differs", "yellow"),
    "missing": ("filled in", "yellow"),
    "unknown": ("unknown", "bold red"),
}


def before_commands(
    ctx: typer.Context,
    import_kohya: Annotated[
        Path | None,
        typer.Option(
            "--import-kohya",
            metavar="FILE",
            help="Write a training of kohya's as our YAML; `talent train import` has more options.",
        ),
    ] = None,
) -> None:
    """Train a LoRA; resume it; see how far it is. `talent train CONFIG` is `talent train start CONFIG`."""
    if import_kohya is not None:
        if ctx.invoked_subcommand is not None:
            from talent_factory.core.errors import UsageError

            raise UsageError(
                "--import-kohya writes a config and trains nothing",
                remedy=f"talent train import {import_kohya}, then talent train CONFIG",
            )
        import_training(import_kohya)
    elif ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit(2)


def import_training(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A TOML of sd-scripts, a .json of kohya_ss, or a script with the command line.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The YAML to write.", show_default="NAME.yaml beside you"),
    ] = None,
    collect: Annotated[
        Path | None,
        typer.Option("--collect", help="Copy the images of all its folders into this new kohya folder."),
    ] = None,
    talent_id: Annotated[str, typer.Option("--id", help="Talent id, such as avatar.identity.NAME.")] = "",
    kind: Annotated[str, typer.Option("--kind", help="identity or style.")] = "identity",
    token: Annotated[
        str, typer.Option("--token", "-t", help="The trigger word, where no folder names it.")
    ] = "",
    class_noun: Annotated[str, typer.Option("--class-noun", help="What the subject is.")] = "",
    base: Annotated[str, typer.Option("--base", help="The base model, if another one.")] = "",
    data: Annotated[str, typer.Option("--data", help="The folder of images, if another one.")] = "",
    sdx_version: Annotated[str, typer.Option("--sdx-version", help='"1.5" or "xl", if it is not told.')] = "",
    as_json: JsonOption = False,
) -> None:
    """Read a training of kohya's and write it as our YAML, with a list of what differs; runs nothing."""
    from talent_factory.core.config import parse
    from talent_factory.core.errors import UsageError
    from talent_factory.core.files import write_text
    from talent_factory.training.kohya import Wanted, collect_images, import_kohya

    target = out or Path(f"{file.stem}.yaml")
    if target.exists():
        raise UsageError(f"{target} exists", remedy="name a new file with --out")
    told = {
        "id": talent_id, "kind": kind, "token": token, "class_noun": class_noun, "base": base, "data": data,
        "sdx_version": sdx_version,
    }  # fmt: skip
    wanted: Wanted = parse(Wanted, told, source="the options", remedy="talent train import --help")
    if collect is not None:
        collect_images(file, out=collect)
        wanted = wanted.model_copy(update={"data": str(collect)})
    made = import_kohya(file, wanted)
    write_text(target, made.text())
    document = {"config": target, "form": made.form, "keys": made.config, "notes": made.notes}
    emit(document, as_json, lambda: _show(made, target))


def _show(made: Imported, target: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("", "kohya", "value", "here"):
        table.add_column(header, overflow="fold")
    order = list(_MARKS)
    for note in sorted(made.notes, key=lambda note: order.index(note.outcome)):
        word, colour = _MARKS[note.outcome]
        table.add_row(Text(word, colour), Text(note.key), Text(note.value), Text(note.text))
    screen = console()
    screen.print(table)
    counts = {outcome: len(made.of(outcome)) for outcome in _MARKS}
    screen.print(
        f"{counts['mapped']} options taken over, {counts['needless']} not needed, "
        f"{counts['differs'] + counts['missing']} differ, {counts['unknown']} unknown",
        style="bold",
    )
    screen.print(Text(f"config: {target}"), soft_wrap=True)
    screen.print(Text(f"next: read it, then talent train {target} --dry-run"), soft_wrap=True)
