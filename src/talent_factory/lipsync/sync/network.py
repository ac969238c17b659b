"""The SyncNet: five frames of a lower face and their sound, each as a point on a sphere.

After Chung and Zisserman 2016 ("Out of time"): two towers trained so that faces and sound of one moment lie
close. Ours looks at pixels of the lower half only and hears the features of the dataset's extractor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from talent_factory.core.errors import FileError, UsageError
from talent_factory.core.files import write_bytes
from talent_factory.lipsync.records import STEPS, WIDTH

EMBEDDED = Path(__file__).resolve().parents[2] / "assets" / "lipsync" / "syncnet.safetensors"
"""A SyncNet trained on drawn heads and the embedded log-mel features."""
FRAMES = 5
"""Frames in a window: 0.2 s."""
SIDE = 64
_FORMAT = "talent-syncnet-1"
_POINT = 64
_LEVELS = 5


class SyncNet(nn.Module):
    """Two towers into a sphere of 64 dimensions; `extractor` is the id of the features it was trained on."""

    def __init__(self, extractor: str = "mel-1") -> None:
        super().__init__()
        self.extractor = extractor
        self.face = nn.Sequential(
            *_looking(3 * FRAMES, 24, stride=2),
            *_looking(24, 32, stride=2),
            *_looking(32, 48, stride=2),
            *_looking(48, 64, stride=2),
            nn.Flatten(),
            nn.Linear(64 * 2 * 4, _POINT),
        )
        self.ear = nn.Linear(_LEVELS * WIDTH, 64)
        self.sound = nn.Sequential(
            nn.SiLU(),
            nn.Conv1d(64, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv1d(64, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * FRAMES, _POINT),
        )
        self.sharpness = nn.Parameter(torch.tensor(2.5))
        """The logarithm of what cosines are multiplied by in training."""

    def see(self, halves: Tensor) -> Tensor:
        """Lower halves (B, 5, 3, 32, 64) in [-1, 1] to points (B, 64) of length 1."""
        flat = halves.flatten(1, 2)
        centred = flat - flat.mean(dim=(1, 2, 3), keepdim=True)
        spread = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return functional.normalize(self.face(centred / (spread + 0.05)), dim=1)

    def hear(self, features: Tensor) -> Tensor:
        """Features (B, 5, 10, 384) to points (B, 64) of length 1."""
        steps = features.reshape(len(features), FRAMES * STEPS // _LEVELS, _LEVELS * WIDTH)
        return functional.normalize(self.sound(self.ear(steps).transpose(1, 2)), dim=1)

    def agreement(self, faces: Tensor, sound: Tensor) -> Tensor:
        """Faces (B, T, 3, S, S) in [-1, 1] and features (B, T, 10, 384) of the same frames to cosines (B,).

        The mean over all windows of five frames; gradients flow to the faces. Raises UsageError for fewer.
        """
        count, length = faces.shape[:2]
        if length < FRAMES:
            raise UsageError(
                f"the SyncNet judges {FRAMES} frames at a time, not {length}",
                remedy=f"set frames: {FRAMES} or more in train.yaml, or sync_loss: 0",
            )
        halves = lower_half(faces.flatten(0, 1)).unflatten(0, (count, length))
        cosines = [
            (self.see(halves[:, k : k + FRAMES]) * self.hear(sound[:, k : k + FRAMES])).sum(dim=1)
            for k in range(length - FRAMES + 1)
        ]
        return torch.stack(cosines).mean(dim=0)


def lower_half(images: Tensor) -> Tensor:
    """(B, 3, S, S) to the lower half at the size the network sees: (B, 3, 32, 64)."""
    if images.shape[-1] != SIDE:
        images = functional.interpolate(
            images, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
        )
    return images[:, :, SIDE // 2 :]


def save_syncnet(path: Path, network: SyncNet, **notes: Any) -> None:
    """Write the weights as safetensors of half precision; the header says what they are for."""
    from safetensors.torch import save

    header = {"format": _FORMAT, "extractor": network.extractor}
    header |= {key: str(value) for key, value in notes.items()}
    weights = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(Path(path), save(weights, metadata=header))


def load_syncnet(path: Path, *, device: str = "cpu") -> SyncNet:
    """A SyncNet for judging: frozen, in float32.

    Raises:
        FileError: the file is missing, damaged or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as held:
            header = held.metadata() or {}
            if header.get("format") != _FORMAT:
                raise FileError(f"{path} is no SyncNet of ours", remedy="talent lipsync sync-train makes one")
            network = SyncNet(header.get("extractor", ""))
            network.load_state_dict({name: held.get_tensor(name).float() for name in held.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FileError(
            f"{path} cannot be read: {reason}", remedy="talent lipsync sync-train makes one"
        ) from None
    return network.eval().requires_grad_(False).to(device)


def _looking(before: int, after: int, *, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, 3, stride=stride, padding=1),
        nn.GroupNorm(8, after),
        nn.SiLU(),
        nn.Conv2d(after, after, 3, padding=1),
        nn.SiLU(),
    ]
