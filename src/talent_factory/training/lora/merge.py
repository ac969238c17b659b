"""Add a LoRA into the weights of a model, and take it out again without a trace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from talent_factory.core.errors import KitError
from talent_factory.training.lora.names import UNET_PREFIX, Namer, kohya_name, target_layers


@dataclass
class Merged:
    """What a merge replaced, so that it can be taken back exactly; usable as a context manager."""

    originals: Sequence[tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return len(self.originals)

    @torch.no_grad()
    def undo(self) -> None:
        """Put the saved weights back bit for bit; several merges are undone in reverse order."""
        for parameter, original in self.originals:
            parameter.copy_(original)
        self.originals = ()

    def __enter__(self) -> Merged:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


@torch.no_grad()
def merge_into(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    weight: float = 1.0,
    *,
    prefix: str = UNET_PREFIX,
    name: Namer = kohya_name,
) -> Merged:
    """Add `weight * alpha / rank * up @ down` to each layer that `tensors` names under `prefix`.

    The sum is made in float32 and rounded once to the layer's dtype. Raises KitError when a name has no
    layer in `module` or a shape does not fit; then nothing has changed.
    """
    names = sorted({key.split(".", 1)[0] for key in tensors if key.startswith(f"{prefix}_")})
    changes = {key: low_rank_delta(tensors, key) for key in names}
    shapes = {key: tuple(change.shape) for key, change in changes.items()}
    planned: list[tuple[Tensor, Tensor]] = []
    for key, parameter in fitting_layers(module, shapes, prefix=prefix, name=name):
        change = changes.pop(key).to(parameter.device).view(parameter.shape)
        lengths = tensors.get(f"{key}.dora_scale")
        own = parameter.detach().float()
        planned.append((parameter, own + weight * whole_change(own, change, lengths)))
    originals = [(parameter, parameter.detach().clone()) for parameter, _ in planned]
    for parameter, merged in planned:
        parameter.copy_(merged)
    return Merged(originals)


def fitting_layers(
    module: nn.Module,
    shapes: Mapping[str, Sequence[int]],
    *,
    prefix: str = UNET_PREFIX,
    name: Namer = kohya_name,
) -> list[tuple[str, Tensor]]:
    """The weights of the layers that a LoRA names, by name; `shapes` are those of its changes (out, in, ...).

    Raises KitError when a name has no layer in `module` or a shape does not fit.
    """
    layers = dict(target_layers(module, prefix=prefix, name=name))
    found: list[tuple[str, Tensor]] = []
    for key in sorted(shapes):
        if key not in layers:
            raise KitError(
                f"the LoRA names {key}, which this base does not have", remedy="choose a kit of this base"
            )
        parameter = layers[key].weight
        shape = tuple(shapes[key])
        if math.prod(shape) != parameter.numel() or shape[0] != parameter.shape[0]:
            raise KitError(
                f"the LoRA layer {key} gives {shape}, the base has {tuple(parameter.shape)}",
                remedy="choose a kit of this base",
            )
        found.append((key, parameter))
    return found


def whole_change(own: Tensor, change: Tensor, lengths: Tensor | None) -> Tensor:
    """What a LoRA at weight 1 adds to `own` (out, in, ...): `change`, and what DoRA's lengths do to both."""
    if lengths is None:
        return change
    whole = own + change
    now = whole.transpose(0, 1).flatten(1).norm(dim=1).clamp_min(1e-6)
    factor = (lengths.to(own.device).float().flatten() / now).view(1, -1, *[1] * (own.dim() - 2))
    # each input's weights at the trained length
    added: Tensor = whole * factor - own
    return added


def low_rank_delta(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """`alpha / rank * up @ down` of one layer in float32, in the shape (out, in) or (out, in, k, k).

    A missing alpha means alpha = rank, as all readers take it. Raises KitError when up or down is missing.
    """
    try:
        down = tensors[f"{name}.lora_down.weight"].float()
        up = tensors[f"{name}.lora_up.weight"].float()
    except KeyError as error:
        raise KitError(f"the LoRA layer {name} is incomplete: no {error}") from None
    rank = down.shape[0]
    alpha = float(tensors[f"{name}.alpha"]) if f"{name}.alpha" in tensors else float(rank)
    if up.flatten(1).shape[1] != rank:
        raise KitError(f"the LoRA layer {name} has rank {rank} below and {up.flatten(1).shape[1]} above")
    return (alpha / rank * (up.flatten(1) @ down.flatten(1))).view(up.shape[0], *down.shape[1:])
