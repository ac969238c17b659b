"""What the painter of mouths learns from: latents, pixels, slopes, features of VGG, agreement with sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from talent_factory.core.errors import FileError

Compare = Callable[[Tensor, Tensor], Tensor]
"""Pictures made and true, (B, 3, H, W) in [-1, 1], to a loss; gradients flow to the made ones."""

_SCALES = 4
_VGG19 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
# The activations after the first convolution of each of the five blocks.
_LOOKED_AT = (1, 6, 11, 20, 29)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SyncJudge(Protocol):
    """Says how well faces and sound agree, as a cosine."""

    def agreement(self, faces: Tensor, sound: Tensor) -> Tensor:
        """Faces (B, T, 3, S, S) in [-1, 1] and features of the same frames (B, T, 10, 384) to (B,)."""
        ...


def latent_l1(made: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of latents (B, C, h, w)."""
    return (made.float() - true.float()).abs().mean()


def pixel_l1(made: Tensor, true: Tensor, weights: Tensor) -> Tensor:
    """Mean absolute difference of (B, 3, H, W) under `weights` (H, W), per pixel that counts.

    `FaceMask.weights` makes weights that look at the covered part, at the mouth most of all.
    """
    difference = (made.float() - true.float()).abs().mean(dim=1)
    counted = (weights > 0).sum().clamp(min=1)
    return (difference * weights).sum() / (counted * len(made))


def gradient_loss(made: Tensor, true: Tensor) -> Tensor:
    """Distance of the slopes of pictures at four sizes: a perceptual loss that needs no weights.

    It asks for edges where the truth has them; L1 alone leaves teeth and lips blurred.
    """
    parts = []
    made, true = made.float(), true.float()
    for scale in range(_SCALES):
        if scale:
            made, true = functional.avg_pool2d(made, 2), functional.avg_pool2d(true, 2)
        if min(made.shape[-2:]) < 2:
            break
        error = made - true
        parts.append(error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
    return torch.stack(parts).mean()


def open_perceptual(vgg_weights: str | Path | None = None, *, device: str = "cpu") -> Compare:
    """The loss of perception: features of a local VGG19 where weights are given, slopes where not.

    Raises FileError when the weights are missing, no safetensors, or not those of VGG19.
    """
    if vgg_weights is None:
        return gradient_loss
    return VggLoss(Path(vgg_weights)).to(device)


class VggLoss(nn.Module):
    """L1 of five activations of VGG19 (Simonyan and Zisserman 2015) at four sizes of the pictures, frozen.

    `weights` is a safetensors file with "features.N.weight" and "features.N.bias" as torchvision names them.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in _VGG19:
            if width:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        _load_vgg(self.features, weights)
        self.requires_grad_(False)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None])
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None])

    def forward(self, made: Tensor, true: Tensor) -> Tensor:
        """The loss of (B, 3, H, W) in [-1, 1]."""
        parts: list[Tensor] = []
        for scale in range(_SCALES):
            if scale:
                made, true = functional.avg_pool2d(made, 2), functional.avg_pool2d(true, 2)
            if min(made.shape[-2:]) < 16:
                break
            with torch.no_grad():
                wanted = self._look(true)
            parts += [(a - b).abs().mean() for a, b in zip(self._look(made), wanted, strict=True)]
        return torch.stack(parts).sum()

    def _look(self, images: Tensor) -> list[Tensor]:
        x = ((images.float() + 1) / 2 - self.mean) / self.deviation
        answers = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _LOOKED_AT:
                answers.append(x)
        return answers


def _load_vgg(features: nn.Sequential, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
        own = {key: found[f"features.{key}"] for key in features.state_dict()}
        features.load_state_dict(own)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise FileError(
            f"vgg_weights {path} is not VGG19 as safetensors: {line}",
            remedy="leave vgg_weights out: slopes at four sizes need no weights",
        ) from None


def sync_loss(judge: SyncJudge, faces: Tensor, sound: Tensor) -> Tensor:
    """Cross entropy of the judge's agreement being full, as Wav2Lip has it (Prajwal et al. 2020).

    `faces` (B, T, 3, S, S) and `sound` (B, T, 10, 384) are of the same frames; gradients flow to the faces.
    """
    likely = (1 + judge.agreement(faces, sound).float()) / 2
    return -likely.clamp(min=1e-4).log().mean()
