"""Merge the kits of a mix into a base's weights, a set of weights for each turn, and take them out again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from talent_factory.foundry.blend import Mix
from talent_factory.foundry.mix import Part, combined, read_layers
from talent_factory.foundry.schedule import Weights, text_weights, weights_at
from talent_factory.training.devices import device_facts
from talent_factory.training.lora import fitting_layers, whole_change

if TYPE_CHECKING:
    from talent_factory.training.families.port import Base

UNET = "lora_unet"
# Numbers of a change that a processor makes at once: they stay in its cache until they are added.
_PIECE = 1 << 19


class Mixture:
    """Kits merged into a base: the weights that each sampling step wants are put in place before it.

    The base's own weights are never written. Beside them stands a set of merged ones, and one more for each
    further turn of the mix while a set takes at most half of the memory that is free: what comes back in a
    later step is put in place by pointing at it. Where memory is short the last set is made anew.
    """

    def __init__(self, mix: Mix, base: Base) -> None:
        """Find every layer; nothing is changed yet. Raises KitError as `mixed` does."""
        self.steady = mix.steady
        """Whether all steps want the same weights."""
        self._mix = mix
        self._sets: dict[Weights, list[Tensor]] = {}
        self._now: Weights | None = None
        self._device = base.device
        self._unet: list[_Layer] = []
        self._texts: list[_Layer] = []
        layers, shapes = read_layers(mix)
        for prefix, module in base.modules():
            own = {name: shape for name, shape in shapes.items() if name.startswith(f"{prefix}_")}
            places = self._unet if prefix == UNET else self._texts
            for name, parameter in fitting_layers(module, own, prefix=prefix, name=base.lora_name):
                parts = [_at(part, parameter.device) for part in layers[name]]
                places.append(_Layer(parameter, parameter.data, parts))

    @torch.no_grad()
    def put_in(self) -> None:
        """Merge the text encoders for good, and the rest as the first step wants it."""
        for layer in self._texts:
            layer.parameter.data = layer.merged(text_weights(self._mix), self._mix)
        self._put(text_weights(self._mix) if self.steady else weights_at(self._mix, 0, 1000))

    @torch.no_grad()
    def before_step(self, index: int, steps: int) -> None:
        """Make the weights right for step `index` of `steps`; nothing is done when they already are."""
        if not self.steady:
            self._put(weights_at(self._mix, index, steps))

    @torch.no_grad()
    def take_out(self) -> None:
        """Give the base its own weights back."""
        for layer in (*self._texts, *self._unet):
            layer.parameter.data = layer.original
        self._sets.clear()

    def _put(self, weights: Weights) -> None:
        if weights == self._now:
            return
        self._now = None  # until all layers are done
        if weights not in self._sets:
            crowded = self._sets and not self._room()
            self._sets[weights] = self._again(weights) if crowded else self._new(weights)
        self._point(self._sets[weights])
        self._now = weights

    def _new(self, weights: Weights) -> list[Tensor]:
        return [layer.merged(weights, self._mix) for layer in self._unet]

    def _again(self, weights: Weights) -> list[Tensor]:
        """The last set with other weights; of those that go round, the first ones are worth more."""
        _, last = self._sets.popitem()
        self._point(last)
        for layer in self._unet:
            # by way of the parameter: who remembers what followed from its weights hears that they changed
            layer.merge(weights, self._mix, layer.parameter.detach())
        return last

    def _point(self, tensors: list[Tensor]) -> None:
        for layer, tensor in zip(self._unet, tensors, strict=True):
            layer.parameter.data = tensor

    def _room(self) -> bool:
        """Whether one more set takes at most half of what is free."""
        size = sum(layer.original.nbytes for layer in self._unet)
        return 2 * size <= free_memory(self._device)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; on a card also those that torch keeps for later, as after a render."""
    if device.type != "cuda":
        return device_facts("cpu").free
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer of the base: where its weights go, what they were, and what the kits do to them."""

    parameter: Tensor
    original: Tensor
    parts: list[Part]

    def merged(self, weights: Weights, mix: Mix) -> Tensor:
        """New weights, laid out as the old ones."""
        out = torch.empty_like(self.original)
        self.merge(weights, mix, out)
        return out

    def merge(self, weights: Weights, mix: Mix, out: Tensor) -> None:
        """Write the sum into `out`: made in float32 from the base's weights and rounded once."""
        if any(part.lengths is not None for part in self.parts):
            out.copy_(self._with_lengths(weights))
            return
        found = combined(self.parts, weights, mix)
        if found is None:
            out.copy_(self.original)
            return
        add_product(self.original, *found, out=out)

    def _with_lengths(self, weights: Weights) -> Tensor:
        """The sum where a kit was trained with DoRA: each one's whole change to the base's own weights."""
        own = self.original.float()
        merged = own.clone()
        for part in self.parts:
            scale = weights[part.kit] * part.factor
            if scale:
                change = (part.up @ part.down).view(own.shape)
                merged += scale * whole_change(own, change, part.lengths)
        return merged


def add_product(own: Tensor, up: Tensor, down: Tensor, *, out: Tensor) -> None:
    """Write `own` (out, in, ...) plus the product of `up` (out, r) and `down` (r, in ...) into `out`.

    `out` is laid out as `own`. A processor makes the sum piece by piece, so that the product, which is as
    large as the layer and in float32, never goes to memory; every number is as if it were made at once.
    """
    if own.is_contiguous():
        rows, out_rows = own.flatten(1), out.flatten(1)
    elif own.is_contiguous(memory_format=torch.channels_last):
        rows, out_rows = (one.permute(0, 2, 3, 1).flatten(1) for one in (own, out))
        down = down.view(-1, *own.shape[1:]).permute(0, 2, 3, 1).flatten(1)
    else:
        out.copy_((up @ down).view(own.shape).add_(own))
        return
    count, width = rows.shape
    # of few rows a product may be summed up in another order
    step = max(16, _PIECE // width // 16 * 16) if own.device.type == "cpu" else count
    product = torch.empty(min(step, count), width, device=own.device)
    for start in range(0, count, step):
        some = slice(start, min(start + step, count))
        change = torch.mm(up[some], down, out=product[: some.stop - start])
        if own.dtype == torch.float32:
            torch.add(rows[some], change, out=out_rows[some])
        else:
            out_rows[some].copy_(change.add_(rows[some]))


def _at(part: Part, device: torch.device) -> Part:
    if part.up.device == device:
        return part
    lengths = None if part.lengths is None else part.lengths.to(device)
    return Part(part.kit, part.up.to(device), part.down.to(device), part.factor, lengths)


@contextmanager
def mixed(base: Base, mix: Mix) -> Iterator[Mixture]:
    """Within this context `base` draws with the kits of `mix`; after it, every weight has its old bits again.

    The order of the kits makes no difference, not even in the last bit, unless they take turns. Raises
    KitError when kits are for different bases or do not fit this one; then nothing was changed.
    """
    mixture = Mixture(mix, base)
    try:
        mixture.put_in()
        yield mixture
    finally:
        mixture.take_out()
