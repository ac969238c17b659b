"""Measure one state of a model: draw the plan's pictures as it is now, and lay the ruler beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.events import Reporter as Progress
from talent_factory.core.events import SilentReporter
from talent_factory.training.families.port import Base
from talent_factory.training.likeness.records import Measure, MeasurePlan, Shot
from talent_factory.training.likeness.ruler import Ruler
from talent_factory.training.sampler import sample

AtStrength = Callable[[float], AbstractContextManager[None]]
"""`with at(0.8):` the LoRA works at 0.8 of its strength; `at(0)` is the base itself."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one state draws for a plan: two (N, H, W, 3) uint8."""

    subject: NDArray[np.uint8]
    unrelated: NDArray[np.uint8]

    @property
    def all(self) -> NDArray[np.uint8]:
        """Subject first, then unrelated."""
        return np.concatenate([self.subject, self.unrelated])


def draw(base: Base, shots: Sequence[Shot], plan: MeasurePlan) -> NDArray[np.uint8]:
    """The pictures of `shots` by `base` as it is now, LoRA and all: (N, H, W, 3) uint8."""
    return sample(
        base,
        prompts=[shot.prompt for shot in shots],
        seeds=[shot.seed for shot in shots],
        steps=plan.steps,
        guidance=plan.guidance,
        size=plan.size,
        batch=plan.batch,
    )


def measure_checkpoint(
    base: Base,
    *,
    step: int,
    plan: MeasurePlan,
    ruler: Ruler,
    untouched: NDArray[np.uint8] | None,
    weight: float = 1.0,
    progress: Progress | None = None,
) -> tuple[Measure, Drawn]:
    """Draw with `base` as it is now and measure; a pure function of the weights and the plan.

    `untouched` are the unrelated pictures of the base at scale 0, None when that is what is measured.
    """
    told = progress or SilentReporter()
    told.progress("measure", 0, 2, unit="set", note=f"step {step}")
    subject = draw(base, plan.subject, plan)
    told.progress("measure", 1, 2, unit="set", note=f"step {step}")
    drawn = Drawn(subject, draw(base, plan.unrelated, plan))
    told.progress("measure", 2, 2, unit="set", note=f"step {step}")
    measured = ruler.measure(drawn.subject, drawn.unrelated, step=step, weight=weight, untouched=untouched)
    return measured, drawn


def scale_sweep(
    base: Base,
    at: AtStrength,
    weights: Sequence[float],
    *,
    known: Measure,
    plan: MeasurePlan,
    ruler: Ruler,
    untouched: NDArray[np.uint8],
) -> tuple[list[Measure], dict[float, Drawn]]:
    """Measure the attached LoRA at each of `weights`; `known` is its measure at 1, which is not drawn again.

    Returns the measures by rising weight, `known` among them, and the pictures of the new ones.
    """
    measures, pictures = {known.weight: known}, {}
    for weight in sorted(set(weights) - {known.weight}):
        with at(weight):
            measures[weight], pictures[weight] = measure_checkpoint(
                base, step=known.step, plan=plan, ruler=ruler, untouched=untouched, weight=weight
            )
    return [measures[weight] for weight in sorted(measures)], pictures
