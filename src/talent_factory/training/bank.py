"""All that a run learns from, on the device at once: posteriors, masks and texts, picked by row numbers.

Thirty images of 512 pixels are two megabytes as latents: a step has nothing to read, copy or encode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from talent_factory.training.draws import Size
from talent_factory.training.families.port import Base, TextStates, join_texts
from talent_factory.training.latents import LatentSet

TextRows = Callable[[Tensor], TextStates]
"""Rows of the text table (n,) int64 to what the UNet reads."""

_CHUNK = 32


@dataclass(frozen=True, eq=False)
class SizeBank:
    """The images of one size: (m n, C, h, w) mean and deviation, plain images before mirrored ones.

    `places` leads from the number of an item to its row; `masks` are (m n, 1, h, w) weights or None.
    """

    places: Mapping[int, int]
    mean: Tensor
    deviation: Tensor
    masks: Tensor | None
    weights: Tensor
    """(m n,): how much each image counts."""

    @property
    def images(self) -> int:
        """Number of images, without mirrored ones."""
        return len(self.places)

    def latents(self, rows_B: Tensor, noise_BCHW: Tensor) -> Tensor:
        """A fresh sample of each row's posterior: (B, C, h, w)."""
        return self.mean[rows_B] + self.deviation[rows_B] * noise_BCHW


def build_banks(
    latents: LatentSet,
    masks: Sequence[tuple[Tensor, Tensor]] | None,
    *,
    weights: Sequence[float] | None = None,
    device: torch.device,
) -> dict[Size, SizeBank]:
    """One bank a size; `masks` are (1, h, w) weights of each item, plain and mirrored, `weights` one each."""
    banks = {}
    for size in sorted(set(latents.sizes)):
        items = [item for item, own in enumerate(latents.sizes) if own == size]
        posteriors = [side[item] for side in latents.sides() for item in items]
        sides = range(len(latents.sides()))
        own_masks = None
        if masks is not None:
            own_masks = torch.stack([masks[item][side] for side in sides for item in items]).to(device)
        shares = [1.0 if weights is None else weights[item] for _ in sides for item in items]
        banks[size] = SizeBank(
            places={item: place for place, item in enumerate(items)},
            mean=torch.stack([p.mean for p in posteriors]).to(device),
            deviation=torch.stack([p.std for p in posteriors]).to(device),
            masks=own_masks,
            weights=torch.tensor(shares, device=device),
        )
    return banks


class TextTable:
    """The finite texts of a run, each once; row 0 is the empty text."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts: tuple[str, ...] = tuple(dict.fromkeys(["", *texts]))
        self._rows = {text: row for row, text in enumerate(self.texts)}

    def row(self, text: str) -> int:
        """The row of a text; KeyError for one that is not in the table."""
        return self._rows[text]

    @torch.no_grad()
    def encoded(self, base: Base) -> TextRows:
        """Encode all texts now; rows are looked up later."""
        chunks = [self.texts[start : start + _CHUNK] for start in range(0, len(self.texts), _CHUNK)]
        table = join_texts([base.encode_prompts(chunk) for chunk in chunks])
        return lambda rows: table[rows]

    def live(self, base: Base) -> TextRows:
        """Encode rows anew each time, since the text encoder learns; gradients flow."""
        ids = base.token_ids(self.texts)
        return lambda rows: base.encode_ids(ids[rows])
