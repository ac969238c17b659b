"""The judge of pictures: patches at several sizes, its losses, and the matching of what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

GanKind = Literal["hinge", "ls"]


class PatchDiscriminator(nn.Module):
    """Says of every patch whether it is true, at `scales` sizes of the picture (Wang et al. 2018, pix2pixHD).

    Group norms rather than batch norms: a judgement does not depend on the other pictures of a batch, hence
    not on how a batch is split over processes.
    """

    def __init__(self, *, width: int = 64, depth: int = 3, scales: int = 2) -> None:
        super().__init__()
        self.nets = nn.ModuleList([_PatchNet(width, depth) for _ in range(scales)])

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        """(B, 3, H, W) to, for each scale, the features of its layers; the last are the judgements."""
        answers = []
        for index, net in enumerate(self.nets):
            if index:
                images = functional.avg_pool2d(images, 2)
            answers.append(net(images))
        return answers


class _PatchNet(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        widths = [min(width << level, 8 * width) for level in range(depth + 1)]
        layers: list[nn.Module] = [nn.Sequential(_conv(3, widths[0], 2), nn.LeakyReLU(0.2))]
        for level in range(depth):
            step = 2 if level < depth - 1 else 1
            layers.append(
                nn.Sequential(
                    _conv(widths[level], widths[level + 1], step),
                    nn.GroupNorm(min(8, widths[level + 1]), widths[level + 1]),
                    nn.LeakyReLU(0.2),
                )
            )
        layers.append(_conv(widths[-1], 1, 1))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        answers = []
        for layer in self.layers:
            x = layer(x)
            answers.append(x)
        return answers


def _conv(before: int, after: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 4 if stride == 2 else 3, stride, 1)


def discriminator_loss(
    true: Sequence[Sequence[Tensor]], made: Sequence[Sequence[Tensor]], kind: GanKind
) -> Tensor:
    """What the judge learns from, over all scales: hinge (Lim and Ye 2017) or least squares (Mao 2017)."""
    parts = []
    for t, m in zip(true, made, strict=True):
        if kind == "hinge":
            parts.append((functional.relu(1 - t[-1]).mean() + functional.relu(1 + m[-1]).mean()) / 2)
        else:
            parts.append(((t[-1] - 1).square().mean() + m[-1].square().mean()) / 2)
    return torch.stack(parts).mean()


def generator_loss(made: Sequence[Sequence[Tensor]], kind: GanKind) -> Tensor:
    """What the painter learns from: to be judged true."""
    parts = [-m[-1].mean() if kind == "hinge" else (m[-1] - 1).square().mean() for m in made]
    return torch.stack(parts).mean()


def feature_matching(true: Sequence[Sequence[Tensor]], made: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean distance of the judge's features of true and made pictures, without its judgements.

    No gradient goes into the features of the true pictures.
    """
    parts = [
        (a.detach() - b).abs().mean()
        for t, m in zip(true, made, strict=True)
        for a, b in zip(t[:-1], m[:-1], strict=True)
    ]
    return torch.stack(parts).mean()
