"""All trained numbers of a run in a few long vectors: clipped, stepped and sent by one call each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from talent_factory.training.lora import LoraNetwork

# Each tensor begins at a multiple of this many numbers, so that its view is aligned for vector units.
_ALIGNMENT = 16


@dataclass
class Vector:
    """One group of parameters with one learning rate; the parameters are views into `weights`."""

    name: str
    weights: nn.Parameter
    """(n,) float32; its `.grad` is the vector that all views' gradients lie in."""
    rate: float
    """Peak learning rate."""

    @property
    def gradient(self) -> Tensor:
        """(n,) float32, never None: gradients are added into it where it lies."""
        assert self.weights.grad is not None
        return self.weights.grad


class FlatParameters:
    """The vectors of a run in a fixed order; the networks' parameters become views into them."""

    def __init__(
        self, networks: Sequence[tuple[LoraNetwork, float]], *, lora_plus: float = 1.0, compute: torch.dtype
    ) -> None:
        """`lora_plus` times the rate for the up matrices (Hayou et al. 2024, arXiv:2402.12354).

        `compute` is the precision of the base: layers read a copy in it, which `refresh` renews at once.
        """
        self.vectors: list[Vector] = []
        self._copies: list[tuple[Tensor, Tensor]] = []
        for number, (network, rate) in enumerate(networks):
            layers = list(network.named_layers())
            below = [(layer, part) for _, layer in layers for part in ("down", "lengths")]
            above = [(layer, "up") for _, layer in layers]
            if lora_plus == 1.0:
                self._gather(f"{number}", [*below, *above], rate, compute)
            else:
                self._gather(f"{number}.down", below, rate, compute)
                self._gather(f"{number}.up", above, rate * lora_plus, compute)
        self.refresh()

    def _gather(
        self, name: str, places: Sequence[tuple[nn.Module, str]], rate: float, compute: torch.dtype
    ) -> None:
        """Move the named parameters into one vector, in order."""
        present = [(module, part, getattr(module, part)) for module, part in places]
        present = [(module, part, own) for module, part, own in present if own is not None]
        starts, total = [], 0
        for _, _, own in present:
            starts.append(total)
            total += -(-own.numel() // _ALIGNMENT) * _ALIGNMENT
        device = present[0][2].device
        weights = nn.Parameter(torch.zeros(total, device=device))
        weights.grad = torch.zeros(total, device=device)
        copy = None if compute == torch.float32 else torch.zeros(total, device=device, dtype=compute)
        for (module, part, own), start in zip(present, starts, strict=True):
            rows = slice(start, start + own.numel())
            view = weights.data[rows].view(own.shape)
            view.copy_(own.data)
            own.data = view
            own.grad = weights.grad[rows].view(own.shape)
            if copy is not None and part != "lengths":
                setattr(module, f"{part}_c", copy[rows].view(own.shape))
        if copy is not None:
            self._copies.append((copy, weights.data))
        self.vectors.append(Vector(name, weights, rate))

    def refresh(self) -> None:
        """Renew the copies in the precision of the base; to be called after the weights have changed."""
        for copy, weights in self._copies:
            copy.copy_(weights)

    def zero_gradients(self) -> None:
        """Set all gradients to zero where they lie: views must stay views."""
        for vector in self.vectors:
            vector.gradient.zero_()

    def gradients(self) -> list[Tensor]:
        """The gradient of each vector."""
        return [vector.gradient for vector in self.vectors]

    def scale_gradients(self, factor: float | Tensor) -> None:
        """Multiply all gradients."""
        for vector in self.vectors:
            vector.gradient.mul_(factor)

    def clip(self, limit: float) -> Tensor:
        """Scale the gradients down to the norm `limit`; returns their norm before, 0-dim, on the device."""
        norm: Tensor = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(vector.gradient) for vector in self.vectors])
        )
        self.scale_gradients((limit / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def groups(self) -> list[dict[str, object]]:
        """One parameter group a vector, for an optimiser."""
        return [{"params": [vector.weights], "lr": vector.rate} for vector in self.vectors]

    def weights(self) -> list[Tensor]:
        """The vectors themselves, without gradient."""
        return [vector.weights.data for vector in self.vectors]

    @contextmanager
    def holding(self, values: Sequence[Tensor]) -> Iterator[None]:
        """Within this context the parameters have `values`, such as an average; then their own again."""
        before = [own.clone() for own in self.weights()]
        self._put(values)
        try:
            yield
        finally:
            self._put(before)

    def _put(self, values: Sequence[Tensor]) -> None:
        for own, value in zip(self.weights(), values, strict=True):
            own.copy_(value)
        self.refresh()
