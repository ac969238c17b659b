"""`talent train lr-find`: try which learning rate suits a config's images, before training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit, reporter

if TYPE_CHECKING:
    from talent_factory.training.rates import RateSearch

_BAR = 40


def find_learning_rate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML as in configs/avatar/.")],
    steps: Annotated[int, typer.Option("--steps", min=10, max=1000, help="Steps of the climb.")] = 40,
    low: Annotated[float, typer.Option("--from", min=1e-9, max=0.1, help="Rate to begin at.")] = 1e-5,
    high: Annotated[float, typer.Option("--to", min=1e-8, max=1.0, help="Rate to end at.")] = 1e-1,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a copy for a few steps while the rate climbs, and suggest a learning_rate; keeps nothing."""
    from talent_factory.core.errors import UsageError
    from talent_factory.core.workspace import workspace_from
    from talent_factory.dataset.prepare import prepare_cached
    from talent_factory.training.config import load_train_config

    if low >= high:
        raise UsageError(f"--from {low:g} is not below --to {high:g}", remedy="talent train lr-find --help")
    place = workspace_from(workspace)
    asked = load_train_config(config, place=place)
    folder = Path(asked.train_data_dir).expanduser()
    if not folder.exists() and not folder.is_absolute():
        folder = place.root / folder
    with reporter() as progress:
        dataset = prepare_cached(
            folder,
            datasets=place.cache / "rates",
            kind=asked.subject,
            token=asked.token or "",
            class_noun=asked.class_noun,
            resolution=asked.resolution,
            mode=asked.mode,
        )
        from talent_factory.training.rates import find_rate

        found = find_rate(
            asked,
            dataset=dataset,
            cache=place.cache / "rates",
            steps=steps,
            between=(low, high),
            reporter=progress,
        )
    emit(found, as_json, lambda: _show(found, asked.learning_rate))


def _show(found: RateSearch, now: float) -> None:
    top = max(found.losses)
    lines = [f"before    loss {found.losses[0]:.4f}"]
    for rate, loss in zip(found.rates, found.losses[1:], strict=True):
        mark = " <- lowest before it turned" if rate == found.lowest else ""
        lines.append(f"{rate:.1e}   loss {loss:.4f} {'#' * round(_BAR * loss / top)}{mark}")
    lines.append(f"learning_rate: {found.suggestion:g} (the config says {now:g})")
    console().print("\n".join(lines), markup=False, highlight=False)
