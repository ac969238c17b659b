"""Say how kits are to be mixed: which, how strongly, in which blocks, at which steps, and against what."""

from __future__ import annotations

from pydantic import Field, model_validator

from talent_factory.core.errors import KitError
from talent_factory.core.records import Record
from talent_factory.foundry.discover import Ingredient
from talent_factory.kits.lora_file import has_lengths


class Mix(Record):
    """Kits that act together; without any, the bare base.

    `projection` is NP-LoRA's μ: how much of an identity's change is kept out of the directions that a style
    reads (0: nothing, 1: half of it; arXiv 2511.11051). With `switch` the kits take turns, one a step
    (LoRA Switch, arXiv 2402.16843).
    """

    ingredients: tuple[Ingredient, ...] = ()
    projection: float = Field(default=0.0, ge=0, le=1000)
    switch: bool = False

    @model_validator(mode="after")
    def _turns_without_projection(self) -> Mix:
        if self.switch and self.projection:
            raise ValueError("projection is for kits that act together, switch for kits that take turns")
        return self

    @property
    def steady(self) -> bool:
        """Whether the same weights serve all steps, so that nothing need be asked before a step."""
        whole = all(use.begin == 0.0 and use.end == 1.0 for use in self.ingredients)
        return whole and not (self.switch and len(self.ingredients) > 1)


def refuse_projected_lengths(mix: Mix) -> None:
    """Raise KitError where a kit trained with DoRA is to be projected.

    Its change of a layer is no product of two small matrices, and only those can be projected exactly.
    """
    lengths = (use.kit for use in mix.ingredients if mix.projection and has_lengths(use.kit.weights))
    if (kit := next(lengths, None)) is not None:
        raise KitError(
            f"{kit.id} was trained with DoRA, which no projection is exact for",
            remedy="mix without --projection",
        )


def refuse_single_file(mix: Mix) -> None:
    """Raise KitError where no single LoRA does what the mix does: one of steps, or with a kit of DoRA."""
    if not mix.steady:
        raise KitError("a mix that changes from step to step is no single LoRA", remedy="mix without steps")
    kit = next((use.kit for use in mix.ingredients if has_lengths(use.kit.weights)), None)
    if kit is not None:
        raise KitError(
            f"{kit.id} was trained with DoRA, which changes layers as no single LoRA can",
            remedy="render the mix, or ship the kits themselves",
        )
