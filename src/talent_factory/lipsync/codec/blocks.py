"""A codec without weights: the cosine transform of small blocks, invertible and differentiable."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from talent_factory.core.errors import UsageError

# Deviation of a natural picture's coefficients: that of the block's mean in pixels of [-1, 1] by channel, and
# how fast it falls with the frequency (about as 1/f). Gains are powers of the inverse: power 1 would make all
# coefficients equally loud and noise as important as shape, power 0 leaves thirty-fold differences.
_MEAN_DEVIATION = (0.8, 0.16, 0.08)
_POWER = 0.5
# Measured on the drawn world and on photographs, so that the latents as a whole have about unit deviation.
_LOUDNESS = {4: 2.1, 8: 2.6}

# Lightness and two colour differences, orthonormal: colour varies little once lightness is apart.
_COLOURS = (
    (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    (1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)),
    (1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)),
)


class BlockCodec:
    """Orthonormal cosine transform of blocks of `side` pixels (DCT-II, Ahmed et al. 1974).

    Latents have 3 * side * side channels: lightness first, then two colour differences, each from low to high
    frequencies by rows. Every coefficient has a fixed gain; the way back divides by it, so that pictures come
    back to 1e-5.
    """

    def __init__(self, side: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.factor = side
        self.channels = 3 * side * side
        self.id = f"dct{side}"
        basis, gain = _basis(side), _gains(side)
        # one convolution does colours, transform and gains: (C, 3, side, side) with stride `side`
        self._forward = (basis * gain[:, None, None, None]).to(device, dtype)
        self._back = (basis / gain[:, None, None, None]).to(device, dtype)

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, 3·side², H/side, W/side). Raises UsageError for other sizes."""
        if images.shape[-1] % self.factor or images.shape[-2] % self.factor:
            raise UsageError(
                f"pictures of {images.shape[-1]}x{images.shape[-2]} are no whole blocks of {self.factor}",
                remedy=f"choose a size that is a multiple of {self.factor}",
            )
        return functional.conv2d(images, self._forward, stride=self.factor)

    def decode(self, latents: Tensor) -> Tensor:
        """The way back, exact up to rounding."""
        return functional.conv_transpose2d(latents, self._back, stride=self.factor)


def _basis(side: int) -> Tensor:
    """The transform as filters: (3·side², 3, side, side), orthonormal rows."""
    places = torch.arange(side, dtype=torch.float64)
    rows = torch.cos(math.pi / side * (places[None, :] + 0.5) * places[:, None]) * math.sqrt(2 / side)
    rows[0] /= math.sqrt(2)
    waves = torch.einsum("uy,vx->uvyx", rows, rows).reshape(side * side, side, side)
    colours = torch.tensor(_COLOURS, dtype=torch.float64)
    return torch.einsum("kc,wyx->kwcyx", colours, waves).reshape(-1, 3, side, side).float()


def _gains(side: int) -> Tensor:
    """The gain of each coefficient: (3·side²,)."""
    steps = torch.arange(side, dtype=torch.float64)
    frequency = torch.sqrt(steps[:, None] ** 2 + steps[None, :] ** 2).reshape(-1) / side
    falling = 1 / (1 + 24 * frequency)
    means = torch.tensor(_MEAN_DEVIATION, dtype=torch.float64) * side
    deviation = (means[:, None] * falling[None, :]).reshape(-1)
    return (_LOUDNESS[side] * deviation**-_POWER).float()
