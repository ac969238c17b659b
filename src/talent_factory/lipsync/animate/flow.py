"""Frames in the order of time become made faces, whether the network sees one at a time or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talent_factory.lipsync.animate.speaker import BATCH, Face, Pairs, Speaker


class Flow:
    """One run of frames without a break; gives the same faces however the frames are cut into pieces.

    A network with attention over time sees windows of the `length` frames it was trained on, each half a
    window after the one before; the last ends with the run. Where windows overlap their latents are blended,
    those near the middle of a window counting most. Faces then come up to `length` frames late.
    """

    def __init__(self, speaker: Speaker) -> None:
        self._speaker, self._length = speaker, speaker.length
        self._hop = max(1, self._length // 2)
        self._held: list[_Frame] = []
        self._past: list[_Frame] = []

    def push(self, faces: Pairs, windows: NDArray[Any], gates: NDArray[Any]) -> NDArray[np.uint8]:
        """Add B frames as `Speaker.paint` takes them; the faces (N, S, S, 3) that are certain now."""
        if self._length == 1:
            made = [
                self._speaker.paint(faces[k : k + BATCH], windows[k : k + BATCH], gates[k : k + BATCH])
                for k in range(0, len(faces), BATCH)
            ]
            return self._speaker.show(made)
        self._held += [_Frame(*given) for given in zip(faces, windows, gates, strict=True)]
        done: list[_Frame] = []
        while len(self._held) >= self._length:
            self._look(self._held[: self._length])
            done += self._held[: self._hop]
            del self._held[: self._hop]
        self._past = [*self._past, *done][-self._length :]
        return self._shown(done)

    def finish(self) -> NDArray[np.uint8]:
        """The run ends here: the faces that are left. The next frame begins another run."""
        left, past = self._held, self._past
        self._held, self._past = [], []
        if any(frame.weight == 0 for frame in left):
            seen = [*past, *left][-self._length :]
            settled = {id(frame) for frame in past}
            self._look(seen + [seen[-1]] * (self._length - len(seen)), settled)
        return self._shown(left)

    def _look(self, frames: Sequence[_Frame], settled: frozenset[int] | set[int] = frozenset()) -> None:
        """Paint a whole window, and add what came to its frames; what repeats the last one counts no more."""
        made = self._speaker.paint(
            [frame.faces for frame in frames],
            np.stack([frame.window for frame in frames]),
            np.array([frame.gate for frame in frames], np.float32),
        )
        taken = set(settled)
        for place, frame in enumerate(frames):
            if id(frame) not in taken:
                frame.add(made[place : place + 1], min(place + 1, self._length - place))
            taken.add(id(frame))

    def _shown(self, frames: Sequence[_Frame]) -> NDArray[np.uint8]:
        return self._speaker.show([frame.latents() for frame in frames])


class _Frame:
    """What one frame is made from, and the sum of what was made of it."""

    __slots__ = ("_sum", "faces", "gate", "weight", "window")

    def __init__(self, faces: tuple[Face, Face], window: NDArray[Any], gate: float) -> None:
        self.faces, self.window, self.gate = faces, window, gate
        self.weight = 0
        self._sum: Tensor | None = None

    def add(self, latents: Tensor, weight: int) -> None:
        """Count `latents` (1, C, h, w) with `weight`."""
        with torch.inference_mode():
            added = latents.float() * weight
            self._sum = added if self._sum is None else self._sum + added
        self.weight += weight

    def latents(self) -> Tensor:
        """The mean, (1, C, h, w) float32."""
        assert self._sum is not None
        with torch.inference_mode():
            return self._sum / self.weight
