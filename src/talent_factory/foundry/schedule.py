"""Which weight each kit of a mix has in which sampling step."""

from __future__ import annotations

from talent_factory.foundry.blend import Mix

Weights = tuple[float, ...]


def weights_at(mix: Mix, index: int, steps: int) -> Weights:
    """The weight of each kit in step `index` (from 0) of `steps`, in the order of the ingredients.

    A kit acts while the middle of the step lies within its shares of all steps. With `switch` those that act
    take turns, the first of them first, each at its own weight (arXiv 2402.16843, LoRA Switch).
    """
    middle = (index + 0.5) / steps
    acting = [use.begin <= middle < use.end for use in mix.ingredients]
    if mix.switch and any(acting):
        turns = [number for number, acts in enumerate(acting) if acts]
        acting = [number == turns[index % len(turns)] for number in range(len(acting))]
    return tuple(use.weight if acts else 0.0 for use, acts in zip(mix.ingredients, acting, strict=True))


def text_weights(mix: Mix) -> Weights:
    """The weights in the text encoders, which read a prompt once for all steps.

    There a kit has its whole weight whatever its steps; kits that take turns share it, as they share steps.
    """
    turns = len(mix.ingredients) if mix.switch else 1
    return tuple(use.weight / turns for use in mix.ingredients)
