"""Gather how a run chose its checkpoint: the grid of pictures, the scores, and how to overrule it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from talent_factory.report.content import ChoiceContent, ChoiceRow, LossPoint, SheetCell
from talent_factory.training.likeness import book
from talent_factory.training.likeness.records import Choice, MeasurePlan, Score
from talent_factory.training.runs import read_losses, read_validation

_MAX_ROWS = 10
_MAX_COLUMNS = 8


def gather_choice(run: Path) -> ChoiceContent | None:
    """What to show of the study in `run`, None for a run that was not measured.

    Raises FileError when its records are damaged.
    """
    choice = book.read_choice(run)
    if choice is None:
        return None
    plan = book.read_plan(run)
    columns = _columns(plan)
    unrelated = len(plan.subject)
    prompts = [plan.subject[index].prompt for index in columns] + [plan.unrelated[0].prompt]
    shown = [*columns, unrelated]
    rows = [_row(run, plan, score, shown, _tags(choice, score)) for score in _shown(choice)]
    sweep = [
        _row(run, plan, score, shown, ("recommended",) if score.weight == choice.default_weight else ())
        for score in choice.sweep
    ]
    return ChoiceContent(
        run=run.name,
        reason=choice.reason,
        by_person=choice.chosen_by == "person",
        step=choice.step,
        weight=choice.default_weight,
        prompts=tuple(prompts),
        rows=tuple(rows),
        sweep=tuple(sweep) if len(sweep) > 1 else (),
        report=choice.report,
        judges=tuple(choice.judges),
        held_out=plan.held_out,
        references=len(plan.references),
        pictures=len(plan.subject),
        command=shlex.join(["talent", "train", "choose", str(run), "--step"]) + " STEP",
        loss=loss_points(run),
        validation=validation_points(run),
    )


def loss_points(run: Path) -> tuple[LossPoint, ...]:
    """The loss of each step of a run."""
    return tuple(LossPoint(step=int(row["step"]), loss=row["loss"]) for row in read_losses(run))


def validation_points(run: Path) -> tuple[LossPoint, ...]:
    """The loss on held-out images, where a run has any."""
    return tuple(
        LossPoint(step=int(row["step"]), loss=float(row["validation"]))  # type: ignore[arg-type]
        for row in read_validation(run)
    )


def _columns(plan: MeasurePlan) -> list[int]:
    """The first picture of each prompt, as many prompts as fit."""
    first: dict[int, int] = {}
    for index, shot in enumerate(plan.subject):
        first.setdefault(shot.group, index)
    return list(first.values())[:_MAX_COLUMNS]


def _shown(choice: Choice) -> list[Score]:
    """All scores, or, of many, the base, those that matter and others spread between."""
    scores = sorted(choice.scores, key=lambda score: score.step)
    if len(scores) <= _MAX_ROWS:
        return scores
    needed = {0, choice.step, choice.best_step, choice.last_step}
    others = [score.step for score in scores if score.step not in needed]
    room = _MAX_ROWS - len(needed)
    spread = {others[round(index * (len(others) - 1) / max(1, room - 1))] for index in range(room)}
    return [score for score in scores if score.step in needed | spread]


def _tags(choice: Choice, score: Score) -> tuple[str, ...]:
    tags = [("ships", choice.step), ("best score", choice.best_step), ("last", choice.last_step)]
    return tuple(tag for tag, step in tags if step == score.step)


def _row(
    run: Path, plan: MeasurePlan, score: Score, shown: Sequence[int], tags: tuple[str, ...]
) -> ChoiceRow:
    sheet = book.sheet_path(run, score.step, score.weight)
    shots = (*plan.subject, *plan.unrelated)
    name = "the base" if score.step == 0 else f"step {score.step}"
    cells = (
        SheetCell(sheet=sheet, box=book.cell_box(index, plan.size), text=f"{name}: {shots[index].prompt}")
        for index in shown
    )
    return ChoiceRow(score=score, tags=tags, cells=tuple(cells))
