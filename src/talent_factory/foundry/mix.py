"""Mix kits by their exact weighted sum, merged into a base and taken out of it without a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from talent_factory.core.errors import KitError
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient, check_same_base
from talent_factory.training.lora import merge_into

if TYPE_CHECKING:
    from talent_factory.training.families.port import Base


def combine(parts: Sequence[tuple[Mapping[str, Tensor], float]]) -> dict[str, Tensor]:
    """One LoRA in kohya form whose change is exactly the sum of `weight * change` of all parts.

    Ranks add up: the downs stand below each other, the ups side by side with their factor, and alpha equals
    the rank. Raises KitError when a layer is incomplete or two parts disagree about its shape.
    """
    names = sorted({key.split(".", 1)[0] for tensors, _ in parts for key in tensors})
    combined: dict[str, Tensor] = {}
    for name in names:
        downs: list[Tensor] = []
        ups: list[Tensor] = []
        for tensors, weight in parts:
            if f"{name}.lora_down.weight" not in tensors:
                continue
            down, up, factor = _layer(tensors, name)
            downs.append(down)
            ups.append(up * (weight * factor))
        if any(down.shape[1:] != downs[0].shape[1:] for down in downs) or any(
            up.shape[0] != ups[0].shape[0] for up in ups
        ):
            raise KitError(f"the kits give layer {name} different shapes", remedy="choose kits of one base")
        combined[f"{name}.lora_down.weight"] = torch.cat(downs, dim=0)
        combined[f"{name}.lora_up.weight"] = torch.cat(ups, dim=1)
        combined[f"{name}.alpha"] = torch.tensor(float(sum(down.shape[0] for down in downs)))
    return combined


def _layer(tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor, float]:
    """Down, up and alpha / rank of one layer, in float32; a missing alpha means alpha = rank."""
    down, up = tensors[f"{name}.lora_down.weight"].float(), tensors.get(f"{name}.lora_up.weight")
    if up is None or up.shape[1] != down.shape[0]:
        raise KitError(
            f"the LoRA layer {name} is incomplete", remedy="talent kit validate tells which kit it is"
        )
    alpha = tensors.get(f"{name}.alpha")
    return down, up.float(), 1.0 if alpha is None else float(alpha) / down.shape[0]


class Mixture:
    """Kits merged into a base: the weights that each sampling step wants are put in place before it."""

    def __init__(self, mix: Mix) -> None:
        self.steady = mix.steady
        """Whether all steps want the same weights: then layers may be packed for a whole batch."""

    def before_step(self, index: int, steps: int) -> None:
        """Make the weights right for step `index` of `steps`; nothing is done when they already are."""


@contextmanager
def mixed(base: Base, mix: Mix) -> Iterator[Mixture]:
    """Within this context `base` draws with the kits of `mix`; after it, every weight has its old bits again.

    The order of the kits makes no difference, not even in the last bit. Raises KitError when kits are for
    different bases or do not fit this one; then nothing was changed.
    """
    check_same_base(mix.ingredients)
    ordered = sorted(mix.ingredients, key=lambda ingredient: (ingredient.kit.sha256, ingredient.weight))
    parts = [(_read(ingredient), ingredient.weight) for ingredient in ordered]
    tensors, weight = parts[0] if _lengths_alone(parts) else (combine(parts), 1.0)
    with ExitStack() as merges:
        for prefix, module in base.modules():
            merged = merge_into(module, tensors, weight, prefix=prefix, name=base.lora_name)
            merges.enter_context(merged)
        yield Mixture(mix)


def _lengths_alone(parts: Sequence[tuple[Mapping[str, Tensor], float]]) -> bool:
    """Whether there is one kit and it has DoRA's lengths, which divide: no sum of matrices stands for it.

    Raises KitError when such a kit is to be mixed with others.
    """
    if not any(name.endswith(".dora_scale") for tensors, _ in parts for name in tensors):
        return False
    if len(parts) > 1:
        raise KitError(
            "a kit trained with DoRA cannot be mixed exactly", remedy="use it alone, or train without dora"
        )
    return True


def _read(ingredient: Ingredient) -> dict[str, Tensor]:
    try:
        return load_file(ingredient.kit.weights)
    except (OSError, SafetensorError) as error:
        raise KitError(
            f"{ingredient.kit.weights} cannot be read: {error}",
            remedy=f"talent kit validate {ingredient.kit.id}",
        ) from error
