"""Which part of a face is covered before the network sees it, so that the mouth must come from the sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, Field, model_validator

from talent_factory.core.records import Record

if TYPE_CHECKING:
    import torch

Kind = Literal["half", "rectangle", "ellipse"]


class FaceMask(Record):
    """The covered part of an aligned frame, in fractions of its height and width.

    `half` covers every row from `top` down. `rectangle` leaves `side` free at the left and right and `below`
    under it. `ellipse` covers the lower half of the ellipse that touches `side` and `below` and is widest at
    `top`. The covered part has to reach below the chin of a wide-open mouth: a jaw that can be seen tells
    how far the mouth is open, and the network learns to look instead of to listen.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    kind: Kind = "half"
    """Shape of the covered part."""
    top: float = Field(0.5, ge=0.0, le=0.9)
    """Where it begins, as a share of the height from above."""
    side: float = Field(0.06, ge=0.0, le=0.4)
    """Share of the width that stays free at the left and at the right; not for `half`."""
    below: float = Field(0.02, ge=0.0, le=0.4)
    """Share of the height that stays free under it; not for `half`."""

    @model_validator(mode="after")
    def _covers_something(self) -> FaceMask:
        if self.kind != "half" and self.top + self.below > 0.95:
            raise ValueError("top and below leave nothing to cover")
        return self

    @property
    def id(self) -> str:
        """Names the mask, for caches and checkpoints: "half-0.5", "ellipse-0.5-0.06-0.02"."""
        shape = [self.top] if self.kind == "half" else [self.top, self.side, self.below]
        return "-".join([self.kind, *(f"{value:g}" for value in shape)])

    def covered(self, height: int, width: int) -> torch.Tensor:
        """(height, width) bool, True where the face is covered; a row is covered from H*top on."""
        import torch

        y = (torch.arange(height, dtype=torch.float64) + 0.5)[:, None] / height
        x = (torch.arange(width, dtype=torch.float64) + 0.5)[None, :] / width
        under = y >= self.top
        if self.kind == "half":
            return under.expand(height, width).clone()
        if self.kind == "rectangle":
            return under & (y <= 1 - self.below) & (x >= self.side) & (x <= 1 - self.side)
        across = (x - 0.5) / (0.5 - self.side)
        down = (y - self.top) / (1 - self.below - self.top)
        return under & (across.square() + down.square() <= 1)

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """A copy of (..., 3, H, W) in [-1, 1] with the covered part black (-1)."""
        covered = self.covered(images.shape[-2], images.shape[-1]).to(images.device)
        return images.masked_fill(covered, -1.0)

    def kept(self, height: int, width: int) -> torch.Tensor:
        """(1, 1, height, width) float32, 1 where a latent sees the face, for networks fed the mask."""
        return (~self.covered(height, width)).float()[None, None]

    def touched(self, height: int, width: int, factor: int) -> torch.Tensor:
        """(1, 1, height/factor, width/factor) float32, 1 where a latent holds any covered pixel."""
        import torch

        return torch.nn.functional.max_pool2d(self.covered(height, width).float()[None, None], factor)

    def weights(self, height: int, width: int, *, mouth: float = 2.0) -> torch.Tensor:
        """(height, width) float32 with mean 1 over the covered part and 0 outside: what a pixel loss counts.

        A soft bump of `mouth` times the rest lies where an aligned face has its mouth: across the middle,
        halfway between `top` and the lower edge.
        """
        import torch

        covered = self.covered(height, width).float()
        y = (torch.arange(height, dtype=torch.float32) + 0.5)[:, None] / height
        x = (torch.arange(width, dtype=torch.float32) + 0.5)[None, :] / width
        middle = self.top + (1 - self.top) / 2
        distance = ((x - 0.5) / 0.22).square() + ((y - middle) / (0.55 * (1 - self.top))).square()
        raw = covered * (1 + (mouth - 1) * torch.exp(-distance))
        return raw * (covered.sum() / raw.sum().clamp(min=1e-6))
