"""Choose a checkpoint and a strength from measures, and tell when more steps no longer help."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talent_factory.core.errors import FileError
from talent_factory.core.records import Record
from talent_factory.training.likeness.records import Choice, Measure, Score
from talent_factory.training.likeness.scoring import bootstrap, score

# Measured: at 0.8 a checkpoint after a third of the steps stood once, and was clearly worse (docs/log.md).
CONFIDENCE = 0.55
# A strength other than 1 has to be clearly better: it is what every user of the kit would have to know.
STRENGTH_CONFIDENCE = 0.8
# A gain smaller than this is no progress: it lies far below what the prompts can resolve.
_LEAST_GAIN = 0.005


def choose(measures: Sequence[Measure], *, seed: int, confidence: float = CONFIDENCE) -> Choice:
    """The earliest checkpoint that the best one does not beat for sure.

    `measures` are one run's, step 0 (the base) among them. An earlier checkpoint stands when the best has
    the higher score in fewer than `confidence` of the paired bootstrap resamples: it lies within the best's
    interval, and less training drifts less. Raises FileError when nothing but the base was measured.
    """
    baseline, steps = _ordered(measures)
    scores = [score(item, baseline, seed=seed) for item in steps]
    best = max(range(len(steps)), key=lambda index: (scores[index].score, -steps[index].step))
    if scores[best].score <= 0.0:
        # Where nothing was learnt the measures say nothing: what the user asked for is the last step.
        best = len(steps) - 1
    summit = bootstrap(steps[best], baseline, seed=seed)
    chosen = best
    for index in range(best):
        beaten = float(np.mean(summit > bootstrap(steps[index], baseline, seed=seed)))
        if beaten < confidence and scores[index].score > 0.0:
            chosen = index
            break
    return Choice(
        step=steps[chosen].step,
        measured_step=steps[chosen].step,
        best_step=steps[best].step,
        last_step=steps[-1].step,
        confidence=confidence,
        reason=_reason(scores[chosen], scores[best], scores[-1]),
        scores=(score(baseline, baseline, seed=seed), *scores),
    )


def choose_weight(
    sweep: Sequence[Measure], baseline: Measure, *, seed: int, confidence: float = STRENGTH_CONFIDENCE
) -> tuple[float, tuple[Score, ...]]:
    """The strength to recommend, and the scores of all: the nearest to 1 that the best does not beat.

    `sweep` are measures of one checkpoint at several weights. Raises ValueError when there is none.
    """
    if not sweep:
        raise ValueError("no weight was measured")
    scores = [score(item, baseline, seed=seed) for item in sweep]
    best = max(range(len(sweep)), key=lambda index: (scores[index].score, -abs(sweep[index].weight - 1.0)))
    summit = bootstrap(sweep[best], baseline, seed=seed)
    standing = [best]
    for index, item in enumerate(sweep):
        if np.mean(summit > bootstrap(item, baseline, seed=seed)) < confidence and scores[index].score > 0.0:
            standing.append(index)
    nearest = min(standing, key=lambda index: (abs(sweep[index].weight - 1.0), sweep[index].weight))
    return sweep[nearest].weight, tuple(scores)


class Plateau(Record):
    """Whether more steps still help: a fold over scores, plain JSON, the same after any number of resumes."""

    patience: int
    best_step: int = 0
    best_score: float = 0.0
    waited: int = 0
    """Measured checkpoints since the best."""

    @property
    def reached(self) -> bool:
        """Whether `patience` checkpoints went by without a better one."""
        return self.waited >= self.patience

    def after(self, seen: Score) -> Plateau:
        """The state once `seen` is known too."""
        if seen.score > self.best_score + _LEAST_GAIN:
            return self.model_copy(update={"best_step": seen.step, "best_score": seen.score, "waited": 0})
        return self.model_copy(update={"waited": self.waited + 1})


def plateau(measures: Sequence[Measure], *, patience: int, seed: int) -> Plateau:
    """The state of the plateau after `measures`; a checkpoint that copies, collapses or is lost scores 0.

    Nothing counts before a first checkpoint scores above the base: a slow start is no plateau.
    """
    state = Plateau(patience=patience)
    if not any(item.step == 0 for item in measures):
        return state
    baseline, steps = min(measures, key=lambda item: item.step), [item for item in measures if item.step]
    for item in sorted(steps, key=lambda item: item.step):
        seen = score(item, baseline, seed=seed)
        if state.best_step or seen.score > _LEAST_GAIN:
            state = state.after(seen)
    return state


def _ordered(measures: Sequence[Measure]) -> tuple[Measure, list[Measure]]:
    ordered = sorted(measures, key=lambda item: item.step)
    if len(ordered) < 2 or ordered[0].step != 0:
        raise FileError(
            "there are no measures to choose from: the base and one checkpoint at least",
            remedy="write choose: {measure: true} and train again",
        )
    return ordered[0], ordered[1:]


def _reason(chosen: Score, best: Score, last: Score) -> str:
    if chosen.score <= 0.0:
        return f"no checkpoint is measurably nearer than the base, so the last one ships: step {chosen.step}"
    span = f"score {chosen.score:.3f} ({chosen.low:.3f} to {chosen.high:.3f})"
    ends = "the last step" if last.step == chosen.step else f"the last step {last.step} has {last.score:.3f}"
    if chosen.step == best.step:
        return f"step {chosen.step} is the best: {span}; {ends}"
    return (
        f"step {chosen.step} is the earliest that step {best.step} (score {best.score:.3f}) does not beat "
        f"for sure: {span}; {ends}"
    )
