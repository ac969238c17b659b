"""Say how kits are to be mixed: which, how strongly, in which blocks, at which steps, and against what."""

from __future__ import annotations

from pydantic import Field, model_validator

from talent_factory.core.records import Record
from talent_factory.foundry.discover import Ingredient


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
