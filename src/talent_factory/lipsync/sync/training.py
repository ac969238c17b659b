"""Training the SyncNet: pairs of one moment against all other moments and speakers of the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from talent_factory.core.errors import Cancelled, ClipError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.records import Record
from talent_factory.core.seeds import derive_seed
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.ports import Clips
from talent_factory.lipsync.score.reader import lower_halves
from talent_factory.lipsync.sync.network import FRAMES, SyncNet

_NEAR = 2  # windows of one clip nearer than this are neither the same moment nor another


class SyncOptions(Record):
    """How long and how: `clips` x `windows` pairs make one batch; the rate falls along a cosine."""

    steps: int = 1200
    clips: int = 12
    windows: int = 6
    rate: float = 1.5e-3
    seed: int = 0


@dataclass(frozen=True)
class Material:
    """One clip as the towers take it: halves (T, 3, 32, 64) uint8-valued tensor, features (T, 10, 384)."""

    halves: Tensor
    features: Tensor

    @classmethod
    def of(cls, frames: Sequence[NDArray[np.uint8]], features: NDArray[np.float32]) -> Material:
        """From aligned frames (S, S, 3) uint8 and their features."""
        return cls(lower_halves(frames).half(), torch.from_numpy(np.asarray(features, np.float16)))


def material_of(clips: Clips, chosen: Sequence[int], *, reporter: Reporter | None = None) -> list[Material]:
    """The clips `chosen` in memory; those shorter than a window are left out.

    Raises:
        ClipError: a file is missing or broken, or no clip is long enough.
    """
    shown = reporter or SilentReporter()
    found = []
    for done, clip in enumerate(chosen):
        length = len(clips.metadata.clips[clip].frames)
        if length > FRAMES:
            frames = [clips.frame(clip, k) for k in range(length)]
            found.append(Material.of(frames, clips.audio(clip, 0, length)))
        shown.progress("read clips", done + 1, len(chosen), unit="clip")
    if not found:
        raise ClipError("no clip is longer than five frames", remedy="give longer clips")
    return found


def train_syncnet(
    material: Sequence[Material],
    options: SyncOptions,
    *,
    extractor: str = "mel-1",
    reporter: Reporter | None = None,
    stop: StopSignal | None = None,
) -> SyncNet:
    """A SyncNet fitted by InfoNCE in both directions (van den Oord et al. 2018).

    Raises:
        Cancelled: `stop` was asked for.
    """
    shown = reporter or SilentReporter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("syncnet", options.seed))
        network = SyncNet(extractor)
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=0.02)
    for step in range(options.steps):
        if stop is not None and stop.requested:
            raise Cancelled(f"stopped at step {step} of {options.steps}", remedy="run the command again")
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / 50)
            group["lr"] = options.rate * warm * 0.5 * (1 + math.cos(math.pi * step / options.steps))
        halves, features, places = _batch(material, options, step)
        loss, right = contrast(network, halves, features, places)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 19 or step + 1 == options.steps:
            note = f"loss {float(loss.detach()):.3f}, {100 * float(right):.0f} % right"
            shown.progress("train SyncNet", step + 1, options.steps, note=note)
    return network.eval().requires_grad_(False)


def contrast(network: SyncNet, halves: Tensor, features: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, share of faces whose nearest sound is their own) of pairs at `places` (B, 2): clip and frame."""
    cosines = network.see(halves) @ network.hear(features).T
    logits = cosines * network.sharpness.exp().clamp(max=40.0)
    apart = (places[:, None] - places[None, :]).abs()
    near = (apart[..., 0] == 0) & (apart[..., 1] < _NEAR)
    near.fill_diagonal_(False)
    logits = logits.masked_fill(near, -1e4)
    own = torch.arange(len(logits))
    loss = 0.5 * (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own))
    return loss, (logits.argmax(dim=1) == own).float().mean()


def _batch(material: Sequence[Material], options: SyncOptions, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Halves (B, 5, 3, 32, 64), features (B, 5, 10, 384) and places of one step, from the seed."""
    draw = torch.Generator().manual_seed(derive_seed("syncnet batch", options.seed, step))
    chosen = torch.randint(len(material), (options.clips,), generator=draw)
    halves, features, places = [], [], []
    for clip in chosen.tolist():
        item = material[clip]
        starts = torch.randint(len(item.halves) - FRAMES + 1, (options.windows,), generator=draw)
        gain = 1 + 0.2 * (torch.rand((), generator=draw) - 0.5)
        for start in starts.tolist():
            halves.append(item.halves[start : start + FRAMES].float() * gain)
            features.append(item.features[start : start + FRAMES].float())
            places.append((clip, start))
    return torch.stack(halves), torch.stack(features), torch.tensor(places)
