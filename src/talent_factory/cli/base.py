"""`talent base`: build the embedded base model, and find, check and make others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import (
    DryRunOption,
    JsonOption,
    console,
    emit,
    printable,
    reporter,
    show_plan,
)

if TYPE_CHECKING:
    from talent_factory.training.base_check import BaseCard

app = typer.Typer(help="Build the embedded base model; find, check and make others.", no_args_is_help=True)

AssetsOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder that receives mini/ and probe/.", show_default="the package"),
]
WorkOption = Annotated[
    Path,
    typer.Option(
        "--work", help="Folder for corpora and checkpoints (about 2 GB); the build resumes from it."
    ),
]


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="The base to build; there is one: mini.")] = "mini",
    *,
    work: WorkOption = Path("build/mini"),
    out: AssetsOption = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe (JSON) other than the shipped one.")] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the embedded base from nothing: hours on two CPU cores, resumable at any moment."""
    from talent_factory.core.errors import ResumeRefused, UsageError
    from talent_factory.training.mini.build import build_mini, keep_recipe, load_recipe
    from talent_factory.training.mini.plan import build_plan

    if name != "mini":
        raise UsageError(
            f"there is no recipe for a base called {name[:60]!r}", remedy="talent base build mini"
        )
    chosen = load_recipe(recipe)
    if dry_run:
        show_plan(build_plan(chosen), as_json)
        return
    remedy = "give another --work folder, or delete this one"
    keep_recipe(chosen, work, lambda text: ResumeRefused(text, remedy=remedy))
    with reporter() as progress:
        card = build_mini(chosen, work=work, assets=_assets(out), reporter=progress)
    emit(card, as_json, lambda: console().print(_summary(_assets(out))))


@app.command()
def show(*, out: AssetsOption = None, as_json: JsonOption = False) -> None:
    """Show the card of the embedded base: how it was made and what was measured."""
    from talent_factory.core.errors import BaseError
    from talent_factory.core.files import read_json

    path = _assets(out) / "mini" / "card.json"
    if not path.is_file():
        raise BaseError(f"there is no base at {path.parent}", remedy="talent base build mini")
    emit(read_json(path), as_json, lambda: console().print(_summary(_assets(out))))


@app.command()
def measure(
    *, work: WorkOption = Path("build/mini"), out: AssetsOption = None, as_json: JsonOption = False
) -> None:
    """Measure the base again on held-out drawings and prompts and rewrite its card."""
    from talent_factory.core.errors import BaseError
    from talent_factory.core.records import read_record
    from talent_factory.training.mini.build import measure_card
    from talent_factory.training.mini.card import Card, write_card

    folder = _assets(out) / "mini"
    if not (folder / "card.json").is_file():
        raise BaseError(f"there is no base at {folder}", remedy="talent base build mini")
    with reporter() as progress:
        recipe = read_record(folder / "card.json", Card).recipe
        card = measure_card(recipe, work=work, assets=_assets(out), reporter=progress)
    write_card(card, folder)
    emit(card, as_json, lambda: console().print(_summary(_assets(out))))


@app.command("list")
def list_command(
    *,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Also look at what lies right inside this folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the bases on this machine: mini, the hub's cache and a folder of yours. No network is used."""
    from talent_factory.training.base_check import list_bases

    cards = list_bases(folder)
    emit([card.model_dump(mode="json") for card in cards], as_json, lambda: _print_cards(cards))


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="mini, a folder, a .safetensors checkpoint or a hub id.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Say what a base is and whether it is whole: family, form, size, revision. No network is used."""
    from talent_factory.training.base_check import check_base

    card = check_base(name)
    emit(card, as_json, lambda: _print_cards([card]))


@app.command()
def fetch(
    name: Annotated[
        str, typer.Argument(help="Id of the hub, such as stabilityai/stable-diffusion-xl-base-1.0.")
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Download a base from the hub, unless it is here already, and check it; safetensors only."""
    from talent_factory.training.base_check import check_base

    card = check_base(name, fetch=True)
    emit(card, as_json, lambda: _print_cards([card]))


@app.command()
def random(
    kind: Annotated[str, typer.Argument(help="sd15, sdxl, tiny or tiny-sdxl.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder, or file with --form checkpoint.")],
    form: Annotated[
        str, typer.Option("--form", help="folder (diffusers) or checkpoint (one file).")
    ] = "folder",
    precision: Annotated[str, typer.Option("--precision", help="fp32, fp16 or bf16.")] = "fp16",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed makes other weights.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a base with random weights and the true architecture: to test and to time without a download."""
    from talent_factory.core.errors import UsageError
    from talent_factory.training.base_check import base_card
    from talent_factory.training.resolve import resolve_base

    _one_of(kind, ("sd15", "sdxl", "tiny", "tiny-sdxl"), "KIND")
    _one_of(form, ("folder", "checkpoint"), "--form")
    _one_of(precision, ("fp32", "fp16", "bf16"), "--precision")
    if kind == "tiny" and form == "checkpoint":
        raise UsageError("a tiny SD 1.5 is always a folder", remedy="take tiny-sdxl, or --form folder")
    if form == "checkpoint" and out.suffix != ".safetensors":
        raise UsageError(f"{out} does not end in .safetensors", remedy=f"--out {out}.safetensors")
    if out.exists():
        raise UsageError(f"{out} is there already", remedy="give another --out, or delete it")
    from talent_factory.training.families.random_base import make_random_base

    make_random_base(out, kind, seed=seed, precision=precision, form=form)  # type: ignore[arg-type]
    card = base_card(resolve_base(str(out)))
    emit(card, as_json, lambda: _print_cards([card]))


def _one_of(value: str, known: tuple[str, ...], what: str) -> None:
    from talent_factory.core.errors import UsageError

    if value not in known:
        raise UsageError(f"{what} is {value[:40]!r}", remedy=f"write one of {', '.join(known)}")


def _print_cards(cards: Sequence[BaseCard]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("base", "family", "form", "pixels", "predicts", "size", "revision", box=None)
    for card in cards:
        size = f"{card.bytes / 1e9:.2f} GB" if card.bytes > 1e8 else f"{card.bytes / 1e6:.1f} MB"
        numbers = (str(card.resolution), card.prediction, size, card.revision[:12])
        table.add_row(Text(printable(card.name), overflow="fold"), card.family, card.form, *numbers)
    console().print(table)
    for card in cards:
        if card.note:
            console().print(Text(card.note))


def _assets(out: Path | None) -> Path:
    return out if out is not None else Path(__file__).resolve().parents[1] / "assets"


def _summary(assets: Path) -> object:
    from rich.markdown import Markdown

    return Markdown((assets / "mini" / "README.md").read_text(encoding="utf-8"))
