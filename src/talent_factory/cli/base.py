"""`talent base`: build, show and measure the embedded base model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talent_factory.cli.common import DryRunOption, JsonOption, console, emit, reporter, show_plan

app = typer.Typer(help="Build and inspect the embedded base model.", no_args_is_help=True)

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


def _assets(out: Path | None) -> Path:
    return out if out is not None else Path(__file__).resolve().parents[1] / "assets"


def _summary(assets: Path) -> object:
    from rich.markdown import Markdown

    return Markdown((assets / "mini" / "README.md").read_text(encoding="utf-8"))
