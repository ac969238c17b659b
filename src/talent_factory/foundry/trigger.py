"""Does the kit's word call its subject? Draw with and without it, with the kit and without."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient

if TYPE_CHECKING:
    from talent_factory.training.ablation import Ablation
    from talent_factory.training.families.port import Base

# Four renders each: enough to see whether anything changes, little beside a kit's examples.
PROMPTS = 2
MOST_STEPS = 12


def kit_trigger(
    base: Base, use: Ingredient, *, prompts: Sequence[str], seed: int, steps: int
) -> Ablation | None:
    """The ablation of the kit's trigger on the first few of `prompts` that hold it, None when none does.

    The base leaves this function bit for bit as it came.
    """
    from talent_factory.foundry.merging import mixed
    from talent_factory.training.ablation import ablate, without_trigger

    token = use.kit.manifest.token
    if not token:
        return None
    chosen = [prompt for prompt in prompts if without_trigger(prompt, token) != prompt][:PROMPTS]
    if not chosen:
        return None
    return ablate(
        base,
        adapted=lambda: mixed(base, Mix(ingredients=(use,))),
        bare=nullcontext,
        token=token,
        prompts=chosen,
        seed=seed,
        steps=min(steps, MOST_STEPS),
    )
