"""Mix kits by their exact weighted sum: what each does to each layer, and what they do together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from talent_factory.core.errors import KitError
from talent_factory.core.files import sha256_bytes
from talent_factory.foundry.blend import Mix, refuse_projected_lengths, refuse_single_file
from talent_factory.foundry.blocks import block_namer, factor_of
from talent_factory.foundry.discover import Ingredient, check_same_base
from talent_factory.foundry.projection import kept_out, read_directions
from talent_factory.foundry.schedule import Weights, text_weights


@dataclass(frozen=True)
class Part:
    """What one kit does to one layer: up (out, r) with alpha / rank in it, down (r, in) and DoRA's lengths.

    `factor` is that of the layer's block; a convolution's kernel is flattened into `in`.
    """

    kit: int
    up: Tensor
    down: Tensor
    factor: float
    lengths: Tensor | None = None


Layers = dict[str, list[Part]]


def read_layers(mix: Mix) -> tuple[Layers, dict[str, tuple[int, ...]]]:
    """What each kit of a mix does to each layer, by the layer's name, and each down's shape without the rank.

    Parts stand in an order that does not depend on that of the ingredients: so their sums do not, in the last
    bit. Raises KitError when the kits are for different bases, when a file or a layer of it is broken, and as
    `refuse_projected_lengths`.
    """
    check_same_base(mix.ingredients)
    refuse_projected_lengths(mix)
    layers: Layers = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for number, use in sorted(enumerate(mix.ingredients), key=lambda item: _rank(item[1])):
        block_of = block_namer(use.kit.base)
        tensors = _read(use)
        for name in sorted({key.split(".", 1)[0] for key in tensors}):
            down, up, ratio = _layer(tensors, name)
            shape = (up.shape[0], *down.shape[1:])
            if shapes.setdefault(name, shape) != shape:
                raise KitError(
                    f"the kits give layer {name} different shapes", remedy="choose kits of one base"
                )
            part = Part(
                kit=number,
                up=up.flatten(1) * ratio,
                down=down.flatten(1),
                factor=factor_of(block_of(name), use.blocks) if use.blocks else 1.0,
                lengths=tensors.get(f"{name}.dora_scale"),
            )
            layers.setdefault(name, []).append(part)
    return layers, shapes


def _rank(use: Ingredient) -> tuple[object, ...]:
    return use.kit.sha256, use.weight, use.blocks, use.begin, use.end


def combined(parts: Sequence[Part], weights: Weights, mix: Mix) -> tuple[Tensor, Tensor] | None:
    """Up and down of one layer whose product is the weighted sum of all parts, None when it is nothing.

    The downs stand below each other, the ups side by side with their weights.
    """
    acting = [(part, weights[part.kit] * part.factor) for part in parts]
    acting = [(part, weight) for part, weight in acting if weight]
    if not acting:
        return None
    directions, strength = _style_directions(acting, mix)
    downs = [
        kept_out(part.down, directions, strength)
        if directions is not None and _is_identity(mix.ingredients[part.kit])
        else part.down
        for part, _ in acting
    ]
    return torch.cat([part.up * weight for part, weight in acting], dim=1), torch.cat(downs)


def _style_directions(acting: Sequence[tuple[Part, float]], mix: Mix) -> tuple[Tensor | None, float]:
    """What the styles of a layer read, and how strictly identities are kept out of it.

    The paper's strength is for a style at full weight; at less it falls along, so that a style that fades
    away ends as none at all.
    """
    styles = [(part, weight) for part, weight in acting if not _is_identity(mix.ingredients[part.kit])]
    if not mix.projection or not styles or len(styles) == len(acting):
        return None, 0.0
    full = min(1.0, max(abs(weight) for _, weight in styles))
    return read_directions([(part.up * weight, part.down) for part, weight in styles]), mix.projection * full


def _is_identity(use: Ingredient) -> bool:
    return use.kit.id.startswith("avatar.identity.")


def combine(mix: Mix) -> dict[str, Tensor]:
    """One LoRA in kohya form whose change is exactly that of the mix; ranks add up, alpha equals the rank.

    Raises KitError as `read_layers` and `refuse_single_file`.
    """
    refuse_single_file(mix)
    layers, shapes = read_layers(mix)
    tensors: dict[str, Tensor] = {}
    for name, parts in layers.items():
        found = combined(parts, text_weights(mix), mix)
        if found is None:
            continue
        up, down = found
        tail = [1] * (len(shapes[name]) - 2)
        tensors[f"{name}.lora_down.weight"] = down.view(-1, *shapes[name][1:]).contiguous()
        tensors[f"{name}.lora_up.weight"] = up.view(*up.shape, *tail).contiguous()
        tensors[f"{name}.alpha"] = torch.tensor(float(len(down)))
    return tensors


def _layer(tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor, float]:
    """Down, up and alpha / rank of one layer, in float32; a missing alpha means alpha = rank."""
    down, up = tensors.get(f"{name}.lora_down.weight"), tensors.get(f"{name}.lora_up.weight")
    if down is None or up is None or up.flatten(1).shape[1] != down.shape[0]:
        raise KitError(
            f"the LoRA layer {name} is incomplete", remedy="talent kit validate tells which kit it is"
        )
    alpha = tensors.get(f"{name}.alpha")
    return down.float(), up.float(), 1.0 if alpha is None else float(alpha) / down.shape[0]


def _read(ingredient: Ingredient) -> dict[str, Tensor]:
    kit = ingredient.kit
    try:
        data = kit.weights.read_bytes()
        if sha256_bytes(data) != kit.sha256:
            raise KitError(f"{kit.id} changed after it was checked", remedy="run the command again")
        return load(data)
    except (OSError, SafetensorError) as error:
        raise KitError(
            f"{ingredient.kit.weights} cannot be read: {error}",
            remedy=f"talent kit validate {ingredient.kit.id}",
        ) from error
