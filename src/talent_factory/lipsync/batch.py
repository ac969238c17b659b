"""A batch of training samples as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """What one step of training needs; B samples on one device.

    `images` (B, 3, S, S) in [-1, 1] are the true frames, None when no loss looks at pixels. `target`,
    `masked` and `reference` (B, C, S/f, S/f) are latents of the true frame, of the same frame with its lower
    face covered, and of the reference frame; `tokens` (B, N, 384) is the audio of the window with the
    positions added, as the conditioner makes it.
    """

    images: torch.Tensor | None
    target: torch.Tensor
    masked: torch.Tensor
    reference: torch.Tensor
    tokens: torch.Tensor
    length: int = 1
    """Frames that follow each other in the batch; samples are ordered clip by clip."""
