"""How well held-out speakers are painted: figures, and strips of pictures to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talent_factory.core.files import atomic_path
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.models.unet import Canvas
from talent_factory.lipsync.ports import Codec
from talent_factory.lipsync.sync.judge import REACH, judge
from talent_factory.lipsync.sync.network import FRAMES, SyncNet

FOLDER = "validation"
SYNC_LEAST = FRAMES + 2 * REACH
"""Frames in a row that a verdict on sync needs."""
_STRIPS = 8

Paint = Callable[[Batch, Canvas], Tensor]
"""A batch and the mask that the network is fed, if any, to latents."""


@dataclass(frozen=True)
class SyncCheck:
    """Frames in a row of one held-out clip, their features (T, 10, 384), and who judges the two."""

    network: SyncNet
    batches: Callable[[], Sequence[Batch]]
    features: NDArray[Any]


@dataclass(frozen=True)
class Validator:
    """Held-out batches that never change, and what they are painted with."""

    batches: Callable[[], Sequence[Batch]]
    codec: Codec
    mask: FaceMask
    canvas: Canvas
    sync: SyncCheck | None = None

    @torch.no_grad()
    def run(self, paint: Paint) -> tuple[dict[str, float], list[NDArray[Any]]]:
        """Figures, and strips (S, 4·S, 3) uint8 of [masked | reference | true | made].

        `latent_l1` is the mean gap of latents, `mouth_psnr` in dB and `mouth_ssim` are over the covered part
        of the decoded frames, made against true.
        """
        gaps, errors, likeness = [], [], []
        strips: list[NDArray[Any]] = []
        for batch in self.batches():
            made = paint(batch, self.canvas).float()
            gaps.append((made - batch.target).abs().mean(dim=(1, 2, 3)))
            assert batch.images is not None
            truth = batch.images.float()
            frames = self.codec.decode(made).float().clamp(-1, 1)
            covered = self.mask.covered(frames.shape[-2], frames.shape[-1]).to(frames.device)
            errors.append((frames - truth).square().mean(dim=1)[:, covered].mean(dim=1))
            likeness.append(ssim_map(frames, truth)[:, covered].mean(dim=1))
            if len(strips) < _STRIPS:
                reference = self.codec.decode(batch.reference).float()
                columns = (self.mask.apply(truth), reference, truth, frames)
                strips += _strips(columns, _STRIPS - len(strips))
        error = torch.cat(errors).mean().item()
        figures = {
            "latent_l1": torch.cat(gaps).mean().item(),
            # 2 is the range of [-1, 1]
            "mouth_psnr": 10 * math.log10(4.0 / max(error, 1e-12)),
            "mouth_ssim": torch.cat(likeness).mean().item(),
        }
        if self.sync is not None:
            figures |= self._sync(self.sync, paint)
        return figures, strips

    def _sync(self, check: SyncCheck, paint: Paint) -> dict[str, float]:
        """How well the painted lips follow the sound, by the SyncNet: see `sync.judge.Verdict`."""
        frames = []
        for batch in check.batches():
            made = self.codec.decode(paint(batch, self.canvas).float()).float().clamp(-1, 1)
            frames.append(((made + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
        verdict = judge(check.network, np.concatenate(frames), check.features)
        return {
            "sync_offset": float(verdict.offset),
            "sync_error": verdict.error,
            "sync_confidence": verdict.confidence,
        }


def ssim_map(one: Tensor, other: Tensor) -> Tensor:
    """The structural similarity around each pixel: (B, H, W) of (B, 3, H, W) in [-1, 1], mean of the colours.

    Wang et al. 2004, with a Gaussian of deviation 1.5 in a window of 11; edges are mirrored.
    """
    near = torch.arange(11, dtype=torch.float32, device=one.device) - 5
    row = torch.exp(-near.square() / (2 * 1.5**2))
    row = (row / row.sum()).expand(3, 1, 1, 11)

    def smooth(image: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(image, (5, 5, 5, 5), mode="reflect")
        across = torch.nn.functional.conv2d(padded, row, groups=3)
        return torch.nn.functional.conv2d(across, row.transpose(2, 3), groups=3)

    x, y = (one + 1) / 2, (other + 1) / 2
    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x.square(), smooth(y * y) - mean_y.square()
    both = smooth(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    return (top / ((mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2))).mean(dim=1)


def write_strips(run: Path, step: int, strips: Sequence[NDArray[Any]]) -> Path:
    """Write the strips below each other as `validation/step-N.png`; returns the path."""
    from PIL import Image

    target = run / FOLDER / f"step-{step:06d}.png"
    with atomic_path(target) as temporary:
        Image.fromarray(np.concatenate(list(strips), axis=0)).save(temporary, compress_level=6)
    return target


def _strips(columns: Sequence[Tensor], most: int) -> list[NDArray[Any]]:
    """Each row's pictures side by side."""
    wide = torch.cat([column[:most] for column in columns], dim=3)
    pixels = ((wide.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).cpu().numpy())
