"""Reads how open and how wide a mouth is from the lower half of an aligned frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from talent_factory.core.errors import BaseError

SIDE = 64
"""Frames are brought to this size first."""
READER_FILE = Path(__file__).resolve().parents[2] / "assets" / "lipsync" / "reader.safetensors"
_BATCH = 256


class MouthReader(nn.Module):
    """A small convolutional network: the lower half (B, 3, 32, 64) in [-1, 1] to (B, 2) opening and width.

    It was calibrated on drawn heads of its own seed (`reader_training`). It never sees the upper half, and
    brightness and contrast are taken out before it looks.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 24, 32, 48)
        layers: list[nn.Module] = []
        before = 3
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.SiLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.SiLU()]
            before = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(48 * 2 * 4, 48), nn.SiLU(), nn.Linear(48, 2))

    def forward(self, halves: Tensor) -> Tensor:
        """(B, 3, 32, 64) to (B, 2)."""
        centred = halves - halves.mean(dim=(2, 3), keepdim=True)
        spread = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        answer: Tensor = self.head(self.body(centred / (spread + 0.05)))
        return answer


def lower_halves(frames: Sequence[NDArray[Any]] | NDArray[Any]) -> Tensor:
    """(S, S, 3) uint8 frames to what the reader takes: (B, 3, 32, 64) float32 in [-1, 1]."""
    import cv2

    small = [
        frame if frame.shape[0] == SIDE else cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        for frame in frames
    ]
    lower = np.stack(small)[:, SIDE // 2 :]
    return torch.from_numpy(lower.astype(np.float32) / 127.5 - 1.0).permute(0, 3, 1, 2).contiguous()


@cache
def load_reader() -> MouthReader:
    """The embedded reader.

    Raises:
        BaseError: its file is missing or broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    reader = MouthReader()
    try:
        reader.load_state_dict(load_file(READER_FILE))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BaseError(
            f"{READER_FILE} cannot be read: {error}",
            remedy="reinstall talent-factory: the file ships with it",
        ) from None
    return reader.eval()


@torch.no_grad()
def read_mouths(frames: Sequence[NDArray[Any]] | NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Opening and width (T,) of aligned (S, S, 3) uint8 frames, about 0 to 1."""
    reader = load_reader()
    parts = [reader(lower_halves(frames[start : start + _BATCH])) for start in range(0, len(frames), _BATCH)]
    both = torch.cat(parts).numpy().astype(np.float32) if parts else np.zeros((0, 2), np.float32)
    return both[:, 0], both[:, 1]


def read_dark(frames: Sequence[NDArray[Any]] | NDArray[Any]) -> NDArray[Any]:
    """A rough opening (T,) that needs no calibration: the share of dark pixels where an aligned face has its
    mouth, in comparison with the skin around. For photographs, on which the reader was not fitted.
    """
    found = np.zeros(len(frames), np.float32)
    for index, frame in enumerate(frames):
        size = frame.shape[0]
        grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        area = grey[int(0.6 * size) : int(0.86 * size), int(0.36 * size) : int(0.64 * size)]
        skin = float(np.median(grey[int(0.5 * size) : int(0.62 * size), int(0.3 * size) : int(0.7 * size)]))
        found[index] = float((area < 0.45 * skin).mean())
    return found
