"""Show an image while it is drawn: latents as small colours, by a linear map that is fitted to the base."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talent_factory.core.files import write_bytes

if TYPE_CHECKING:
    from talent_factory.training.families.port import Base

PREVIEW_FILE = "preview.png"
# Enough patches to fit five numbers for each colour, few enough that encoding them takes a moment.
_PICTURES, _CELLS, _PATCH = 6, 8, 2


def latent_colours(base: Base) -> Tensor:
    """The map (channels + 1, 3) from a latent's channels and 1 to RGB in -1..1, by least squares.

    Fitted on what the base's own autoencoder makes of patches of colour; a function of the base alone.
    """
    side = _CELLS * base.pixels_per_latent
    cells = _CELLS // _PATCH
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand((_PICTURES, 3, cells, cells), generator=generator) * 2.0 - 1.0
    pictures = torch.nn.functional.interpolate(colours, size=(side, side), mode="nearest")
    latents, _ = base.encode_images(pictures)
    # (pictures, channels, cells, cells) to rows of channels, each with the mean of its pixels
    rows = latents.cpu().flatten(2).transpose(1, 2).flatten(0, 1)
    wanted = torch.nn.functional.avg_pool2d(pictures, base.pixels_per_latent)
    known = wanted.flatten(2).transpose(1, 2).flatten(0, 1)
    fitted: Tensor = torch.linalg.lstsq(_with_one(rows), known).solution
    return fitted


def small_images(latents_BCHW: Tensor, colours: Tensor) -> NDArray[np.uint8]:
    """One pixel for each cell of a latent: (B, H, W, 3) uint8."""
    rows = latents_BCHW.detach().float().cpu().permute(0, 2, 3, 1)
    shown = ((_with_one(rows) @ colours + 1.0) * 127.5).round().clamp(0, 255)
    array: NDArray[np.uint8] = shown.to(torch.uint8).numpy()
    return array


class Preview:
    """Writes what the images of a batch look like so far into one PNG, every few steps."""

    def __init__(self, path: Path, *, every: int = 4) -> None:
        self.path = path
        self._every = every
        self._colours: Tensor | None = None

    def show(self, base: Base, index: int, latents_BCHW: Tensor) -> bool:
        """Write the file if step `index` is one to show; says whether it did."""
        if (index + 1) % self._every:
            return False
        if self._colours is None:
            self._colours = latent_colours(base)
        write_bytes(self.path, _side_by_side(small_images(latents_BCHW, self._colours)))
        return True

    def done(self) -> None:
        """The images themselves are there now."""
        self.path.unlink(missing_ok=True)


def _side_by_side(images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], *, height: int = 256) -> bytes:
    """PNG bytes of the images in a row, each `height` pixels high."""
    from PIL import Image

    row = Image.fromarray(np.concatenate(list(images), axis=1))
    scale = height / row.height
    stream = io.BytesIO()
    row.resize((round(row.width * scale), height), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


def _with_one(rows: Tensor) -> Tensor:
    return torch.cat([rows, torch.ones(*rows.shape[:-1], 1)], dim=-1)
