"""Which samples training sees: a pure function of the seed and the number of the sample, on any machine.

Sample g = ((step * A + micro) * W + rank) * B + slot, so the samples of a step depend only on A * W * B: one
process and eight see the same data, and a resumed run goes on with the very next sample.

A virtual epoch of N samples visits N evenly spaced places of the whole dataset in an order of its own (a
permutation by a Feistel network, Luby & Rackoff 1988), so a small dataset is repeated evenly, and no frame
waits for chance. Within its place a sample is moved at random, which also covers datasets longer than N.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from talent_factory.core.errors import ConfigError
from talent_factory.core.seeds import derive_seed
from talent_factory.lipsync.records import Clip, Draw
from talent_factory.training.philox import philox

SHORTEST_EPOCH = 6144
"""Samples of the shortest virtual epoch: one optimizer step of 12 x 512."""
_BLOCK = 4096
_STREAM = 0x4C495053
"""The last counter word of all draws, which no other part of the program uses with the same seed."""
_CANDIDATES = 6
_NEAR, _NEAREST = 8, 3
"""Far frames that are compared in pose, and how many of them may be taken for their mouth."""
_QUIET = 0.15
"""Share of a clip's frames, those of the lowest energy, that stand for a closed mouth."""


@dataclass(frozen=True)
class PlanRules:
    """How samples are drawn; shares are of all samples.

    `power` weighs clips by frames^power. `far`: a reference lies more than so many frames away, where the
    clip is long enough. `self_share` of samples have themselves as reference, as animate gives it;
    `mouth_share` of the others take, of six far frames, the one whose audio energy differs most (only with
    energies). `near_share` of the others rather take, of eight far frames, the three nearest in pose (only
    with poses), and of these the one whose audio energy differs most. `silent_share` teaches silence to close
    the mouth (only with energies), `dropped_share` has no audio. `window` frames from the target on belong to
    a sample. `epoch` is the length of the virtual epoch.
    """

    power: float = 0.5
    far: int = 5
    self_share: float = 0.1
    mouth_share: float = 0.5
    near_share: float = 0.0
    silent_share: float = 0.05
    dropped_share: float = 0.05
    window: int = 1
    epoch: int | None = None


class SamplePlan:
    """Draws samples from clips of known lengths."""

    def __init__(
        self,
        seed: int,
        lengths: Sequence[int],
        *,
        rules: PlanRules | None = None,
        clips: Sequence[int] | None = None,
        energies: Sequence[NDArray[Any]] | None = None,
        poses: Sequence[NDArray[Any]] | None = None,
    ) -> None:
        """Plan over `lengths`, frames of all clips of the metadata; `clips` are those to draw from, all by
        default. `energies` are (T,) for each clip of the metadata: how loud each frame is, `poses` (T, D)
        how the head is held, as numbers whose mean difference is a distance.

        Raises:
            ConfigError: no clip is as long as the window.
        """
        self.rules = rules or PlanRules()
        window = self.rules.window
        wanted = range(len(lengths)) if clips is None else clips
        self._clips = np.array([c for c in wanted if lengths[c] >= window], np.int64)
        if not len(self._clips):
            raise ConfigError(
                f"no clip has {window} frames to draw a sample from", remedy="add clips, or lower frames"
            )
        self._frames = np.array([lengths[c] for c in self._clips], np.int64)
        self._starts = self._frames - window + 1
        weights = self._starts.astype(np.float64) ** self.rules.power
        # whole numbers, so that the last bit of a power cannot move a border between clips
        parts = np.maximum(np.rint(weights / weights.sum() * 2**40), 1).astype(np.int64)
        self._ends = np.cumsum(parts).astype(np.float64)
        self._parts = parts.astype(np.float64)
        self.epoch = self.rules.epoch or max(int(self._starts.sum()), SHORTEST_EPOCH)
        self._key = derive_seed("lipsync plan", seed)
        self._loud = _Loudness(energies, self._clips) if energies is not None else None
        self._poses = _Poses(poses, self._clips) if poses is not None and self.rules.near_share else None
        self._block: tuple[int, list[Draw]] = (-1, [])

    @property
    def repeats(self) -> dict[int, float]:
        """How often a virtual epoch visits each frame of a clip, by the clip's index in the metadata."""
        visits = self._parts / self._ends[-1] * self.epoch / self._starts
        return {int(clip): float(value) for clip, value in zip(self._clips, visits, strict=True)}

    def draw(self, g: int) -> Draw:
        """Sample number `g` (from 0)."""
        block, place = divmod(g, _BLOCK)
        number, draws = self._block
        if number != block:
            draws = self.draws(np.arange(block * _BLOCK, (block + 1) * _BLOCK))
            # one assignment of a whole: threads may draw at the same time
            self._block = (block, draws)
        return draws[place]

    def batches(self, first: int, size: int, *, stride: int | None = None) -> Iterator[list[Draw]]:
        """Batches without end: `size` samples from number `first`, then again `stride` numbers later
        (`size` by default; world * size for one of several processes).
        """
        while True:
            yield [self.draw(g) for g in range(first, first + size)]
            first += stride or size

    def draws(self, numbers: NDArray[Any]) -> list[Draw]:
        """The samples of these numbers (n,) int64."""
        clips, targets, references, silent, dropped = (column.tolist() for column in self.table(numbers))
        rows = zip(numbers.tolist(), clips, targets, references, silent, dropped, strict=True)
        # every value is whole and in range by construction: checking each again would cost the most of all
        return [
            Draw.model_construct(sample=g, clip=c, target=t, reference=r, silent=s, dropped=d)
            for g, c, t, r, s, d in rows
        ]

    def table(self, numbers: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Clips, targets, references (int64), silent and dropped (bool) of these numbers, (n,) each."""
        numbers = np.asarray(numbers, np.int64)
        dice = self._dice(numbers)
        row, start = self._place(numbers, dice[0])
        rules = self.rules
        silent = np.zeros(len(numbers), bool)
        if self._loud is not None:
            silent = dice[1] < rules.silent_share
            start = np.where(silent, self._loud.quiet(row, dice[2], self._starts[row]), start)
        dropped = ~silent & (dice[1] >= 1 - rules.dropped_share)
        reference = self._far(row, start, dice[3])
        if self._loud is not None:
            mouth = dice[4] < rules.mouth_share
            reference = np.where(mouth, self._mouth_far(row, start, dice[6:]), reference)
        if self._poses is not None:
            near = dice[14] < rules.near_share
            reference = np.where(near, self._near(row, start, dice[6:]), reference)
        reference = np.where(dice[5] < rules.self_share, start, reference)
        return self._clips[row], start, reference, silent, dropped

    def _dice(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Sixteen numbers in [0, 1) for each sample: (16, n) float64 of 32 bits each."""
        low = torch.from_numpy(numbers & 0xFFFFFFFF)
        high = torch.from_numpy(numbers >> 32)
        words = []
        for place in range(4):
            counter = (torch.full_like(low, place), low, high, torch.full_like(low, _STREAM))
            words += list(philox(counter, self._key))
        return torch.stack(words).numpy() * 2.0**-32

    def _place(self, numbers: NDArray[Any], shift: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Row of the clip and first frame of each sample."""
        epoch, place = np.divmod(numbers, self.epoch)
        spot = (_shuffled(place, epoch, self.epoch, self._key) + shift) / self.epoch * self._ends[-1]
        row = np.minimum(np.searchsorted(self._ends, spot, side="right"), len(self._ends) - 1)
        inside = (spot - (self._ends[row] - self._parts[row])) / self._parts[row]
        start = np.floor(inside * self._starts[row]).astype(np.int64)
        return row, np.clip(start, 0, self._starts[row] - 1)

    def _far(self, row: NDArray[Any], start: NDArray[Any], chance: NDArray[Any]) -> NDArray[Any]:
        """A frame more than `far` from the sample's frames, evenly; the farthest where there is none."""
        far, last = self.rules.far, self._frames[row] - 1
        end = start + self.rules.window - 1
        before, after = np.maximum(start - far, 0), np.maximum(last - end - far, 0)
        pick = np.floor(chance * (before + after)).astype(np.int64)
        found = np.where(pick < before, pick, end + far + 1 + pick - before)
        farthest = np.where(start > last - end, 0, last)
        return np.clip(np.where(before + after > 0, found, farthest), 0, last)

    def _mouth_far(self, row: NDArray[Any], start: NDArray[Any], dice: NDArray[Any]) -> NDArray[Any]:
        """Of several far frames the one whose sound is most unlike the target's."""
        assert self._loud is not None
        frames = np.stack([self._far(row, start, chance) for chance in dice[:_CANDIDATES]])
        unlike = np.abs(self._loud.of(row, frames) - self._loud.of(row, start))
        return np.asarray(np.take_along_axis(frames, unlike.argmax(0)[None], 0)[0])

    def _near(self, row: NDArray[Any], start: NDArray[Any], dice: NDArray[Any]) -> NDArray[Any]:
        """Of several far frames one of those nearest in pose, with a mouth unlike the target's."""
        assert self._poses is not None
        frames = np.stack([self._far(row, start, chance) for chance in dice[:_NEAR]])
        apart = self._poses.apart(row, frames, start)
        nearest = np.take_along_axis(frames, np.argsort(apart, axis=0, kind="stable")[:_NEAREST], 0)
        if self._loud is None:
            return np.asarray(nearest[0])
        unlike = np.abs(self._loud.of(row, nearest) - self._loud.of(row, start))
        return np.asarray(np.take_along_axis(nearest, unlike.argmax(0)[None], 0)[0])


class _Poses:
    """The poses of all drawn clips in one array."""

    def __init__(self, poses: Sequence[NDArray[Any]], clips: NDArray[Any]) -> None:
        chosen = [np.asarray(poses[c]) for c in clips]
        self._first = np.cumsum([0, *map(len, chosen)])[:-1]
        self._all = np.concatenate(chosen)

    def apart(self, row: NDArray[Any], frames: NDArray[Any], start: NDArray[Any]) -> NDArray[Any]:
        """Distances of frames (k, n) from the frames `start` (n,) of the same rows: (k, n)."""
        own = self._all[self._first[row] + start].astype(np.float32)
        others = (self._all[self._first[row] + one].astype(np.float32) for one in frames)
        return np.stack([np.abs(other - own).mean(axis=1) for other in others])


class _Loudness:
    """The energies of all drawn clips in one array, and their frames from quiet to loud."""

    def __init__(self, energies: Sequence[NDArray[Any]], clips: NDArray[Any]) -> None:
        chosen = [np.asarray(energies[c], np.float64) for c in clips]
        self._first = np.cumsum([0, *map(len, chosen)])[:-1]
        self._all = np.concatenate(chosen)
        self._order = np.concatenate([np.argsort(values, kind="stable") for values in chosen])

    def of(self, row: NDArray[Any], frames: NDArray[Any]) -> NDArray[Any]:
        """Energies of frames of these rows."""
        return np.asarray(self._all[self._first[row] + frames])

    def quiet(self, row: NDArray[Any], chance: NDArray[Any], starts: NDArray[Any]) -> NDArray[Any]:
        """One of the quietest frames of each row's clip, held below `starts`."""
        count = np.maximum(1, np.floor(starts * _QUIET)).astype(np.int64)
        picked = self._order[self._first[row] + np.floor(chance * count).astype(np.int64)]
        return np.asarray(np.minimum(picked, starts - 1))


def lengths_of(clips: Sequence[Clip]) -> list[int]:
    """Frames of each clip."""
    return [len(clip.frames) for clip in clips]


def _shuffled(place: NDArray[Any], epoch: NDArray[Any], count: int, key: int) -> NDArray[Any]:
    """A permutation of 0 .. count-1, another one for each epoch: where each place goes, as int64.

    Six rounds of a Feistel network on the smallest even number of bits that holds `count`; what falls
    outside goes round again until it falls inside.
    """
    half = max(1, (max(count - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    salt = _mixed(epoch.astype(np.uint64) ^ np.uint64(key))
    value, open_ = place.astype(np.uint64), np.ones(len(place), bool)
    while open_.any():
        left, right = value[open_] >> np.uint64(half), value[open_] & mask
        for turn in range(6):
            # each turn has a word of its own, or a network of equal turns would be its own mirror
            word = _mixed(right + (salt[open_] ^ np.uint64((turn + 1) * 0x9E3779B97F4A7C15 & (2**64 - 1))))
            left, right = right, left ^ (word & mask)
        value[open_] = (left << np.uint64(half)) | right
        open_ = value >= count
    return value.astype(np.int64)


def _mixed(word: NDArray[Any]) -> NDArray[Any]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014) on uint64 words."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(word ^ (word >> np.uint64(31)))
