"""From raw measures to one score with an interval, by a paired bootstrap over the prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.seeds import derive_seed
from talent_factory.training.likeness.records import Measure, Score

Floats = NDArray[np.float64]

RESAMPLES = 1000
INTERVAL = 0.9
# Below this share of the variety of real pictures a model has collapsed, and the score falls in proportion.
_LEAST_DIVERSITY = 0.5
# Full drift takes this much off: it decides between equals and never outweighs likeness.
_DRIFT_COST = 0.1
# A real picture and the base may score alike, when the base knows the subject; then every gain counts.
_LEAST_SPAN = 1e-3


def harmonic(one: float, other: float) -> float:
    """The harmonic mean of two shares, 0 when either is not positive."""
    return 2.0 * one * other / (one + other) if one > 0.0 and other > 0.0 else 0.0


def resampled_groups(groups: Sequence[int], *, seed: int, count: int = RESAMPLES) -> NDArray[np.int64]:
    """Weights of each picture in `count` resamples of the prompts with replacement: (count, pictures).

    The same for all checkpoints of a run, so that their differences are paired. Pictures of one prompt stay
    together: they are not independent.
    """
    numbers, inverse = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(derive_seed("bootstrap", seed))
    drawn = rng.multinomial(len(numbers), np.full(len(numbers), 1.0 / len(numbers)), size=count)
    return drawn[:, inverse]


def bootstrap(measure: Measure, baseline: Measure, *, seed: int) -> Floats:
    """The score of `measure` in each resample: (RESAMPLES,)."""
    weights = resampled_groups(measure.groups, seed=seed).astype(np.float64)
    return _parts(measure, baseline, weights)["score"]


def score(measure: Measure, baseline: Measure, *, seed: int) -> Score:
    """The score of a checkpoint against the base at scale 0 (`baseline`, drawn from the same prompts)."""
    point = _parts(measure, baseline, np.ones((1, len(measure.groups))))
    low, high = np.quantile(bootstrap(measure, baseline, seed=seed), [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    named = {name: round(float(value[0]), 6) for name, value in point.items()}
    return Score(
        step=measure.step,
        weight=measure.weight,
        **named,
        low=round(float(min(low, point["score"][0])), 6),
        high=round(float(max(high, point["score"][0])), 6),
    )


def _parts(measure: Measure, baseline: Measure, weights: Floats) -> Mapping[str, Floats]:
    """All parts of the score for every row of `weights` (R, pictures): each (R,)."""
    if measure.groups != baseline.groups:
        raise ValueError(f"step {measure.step} was measured on other prompts than step {baseline.step}")
    shares = weights / weights.sum(axis=1, keepdims=True)
    floor = shares @ np.asarray(baseline.identity)
    span = np.maximum(measure.yardstick.identity - floor, _LEAST_SPAN)
    identity = np.clip((shares @ np.asarray(measure.identity) - floor) / span, 0.0, 1.0)
    told = np.maximum(shares @ np.asarray(baseline.adherence), _LEAST_SPAN)
    adherence = np.clip(shares @ np.asarray(measure.adherence) / told, 0.0, 1.0)
    copied = shares @ (np.asarray(measure.nearest) > measure.yardstick.copy_limit).astype(np.float64)
    diversity = np.full(len(weights), measure.diversity / max(measure.yardstick.diversity, _LEAST_SPAN))
    drift = np.full(len(weights), np.clip(np.mean(measure.drift), 0.0, 1.0) if measure.drift else 0.0)
    total = identity + adherence
    both = np.divide(2.0 * identity * adherence, total, out=np.zeros_like(total), where=total > 0)
    kept = (1.0 - copied) * np.clip(diversity / _LEAST_DIVERSITY, 0.0, 1.0) * (1.0 - _DRIFT_COST * drift)
    return {
        "identity": identity,
        "adherence": adherence,
        "copied": copied,
        "diversity": diversity,
        "drift": drift,
        "score": both * kept,
    }
