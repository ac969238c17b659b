"""`talent train choose`: show how a run chose its checkpoint, or ship another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit, reporter

if TYPE_CHECKING:
    from talent_factory.training.likeness.records import Choice


def choose_checkpoint(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its id in the workspace.")],
    step: Annotated[
        int | None, typer.Option("--step", min=1, help="Ship the weights of this step instead.")
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option("--weight", min=0.0, max=2.0, help="Strength to recommend; as measured if unset."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which checkpoint ships and why; with --step, ship another one and pack the kit again."""
    from talent_factory.core.errors import FileError, UsageError
    from talent_factory.core.workspace import check_id, workspace_from
    from talent_factory.training.likeness.book import read_choice
    from talent_factory.training.runs import read_run

    place = workspace_from(workspace)
    path = Path(run).expanduser()
    folder = path if path.is_dir() else place.runs / check_id(run)
    read_run(folder)
    known = read_choice(folder)
    if known is None:
        raise FileError(
            f"{folder} has chosen nothing: it was not measured, or is not finished",
            remedy="write choose: {measure: true} and train again, or talent train status",
        )
    if step is None and weight is not None:
        step = known.step
    if step is not None:
        if step not in {score.step for score in known.scores if score.step}:
            measured = ", ".join(str(score.step) for score in known.scores if score.step)
            raise UsageError(
                f"step {step} was not measured", remedy=f"choose one of {measured}: talent train choose {run}"
            )
        from talent_factory.pipeline import choose_step

        with reporter() as progress:
            choose_step(folder, step, weight=weight, workspace=place, reporter=progress)
        known = read_choice(folder)
        assert known is not None
    page = place.reports / folder.name / "choice.html"
    shown = {**known.model_dump(mode="json"), "page": str(page) if page.is_file() else None}
    emit(shown, as_json, lambda: _show(known, page))


def _show(choice: Choice, page: Path) -> None:
    lines = [choice.reason, f"recommended strength: {choice.default_weight:g}", ""]
    for score in choice.scores:
        if not score.step:
            continue
        mark = "ships" if score.step == choice.step else "best" if score.step == choice.best_step else ""
        lines.append(
            f"{score.step:>8}  {score.score:.3f} ({score.low:.3f} to {score.high:.3f})  identity "
            f"{score.identity:.2f}  prompt {score.adherence:.2f}  drift {score.drift:.2f}  {mark}".rstrip()
        )
    if choice.report is not None:
        told = choice.report
        lines += ["", f"on {told.prompts} other prompts, by {told.by} (identity, prompt, harmonic mean):"]
        for name, figures in (("base", told.base), ("measured", told.chosen), ("last", told.last)):
            lines.append(
                f"{name:>8}  {figures.identity:.3f}  {figures.adherence:.3f}  {figures.harmonic:.3f}"
            )
    if page.is_file():
        lines += ["", f"see it: {page}"]
    console().print("\n".join(lines), markup=False, soft_wrap=True)
