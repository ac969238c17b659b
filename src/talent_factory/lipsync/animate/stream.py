"""Speak while sound arrives: samples in, pictures out, one after the other and 80 ms behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from talent_factory.lipsync.animate.ear import Ear
from talent_factory.lipsync.animate.flow import Flow
from talent_factory.lipsync.animate.speaker import BATCH, Speaker
from talent_factory.lipsync.animate.stage import Shot, Stage
from talent_factory.lipsync.animate.timeline import RATE, frame_count, moment_of

# The pattern of phases of any rate that films have repeats within these many frames.
_PATTERN = 4000

Made: TypeAlias = tuple[Shot, NDArray[Any] | None]
"""A shot and its made face, None where its picture shows none."""


class Stream:
    """Takes mono 16 kHz sound in pieces and gives the frames that it is time for.

    A frame comes when the sound of the `right` frames after its own (and at least two) is there: 80 ms with
    the usual window, and as many frames later as a network with attention over time sees at once.
    """

    def __init__(self, stage: Stage, speaker: Speaker, *, rate: Fraction = Fraction(25)) -> None:
        self._stage, self._rate = stage, rate
        phases = {moment_of(index, rate).phase for index in range(_PATTERN)}
        self._ear = Ear(speaker.extractor, speaker.conditioner, phases=phases)
        self._next = 0
        self._flow = Flow(speaker)
        self._waiting: deque[Shot] = deque()

    def push(self, samples: NDArray[Any]) -> Iterator[NDArray[np.uint8]]:
        """Hear `samples` (N,) float32 in [-1, 1]; yields the frames (H, W, 3) uint8 that are ready."""
        self._ear.push(samples)
        yield from self._composed(ended=False)

    def finish(self) -> Iterator[NDArray[np.uint8]]:
        """The sound is over; yields the frames that are left."""
        self._ear.push(np.zeros(0, np.float32), last=True)
        yield from self._composed(ended=True)

    def finish_of(self, wave: NDArray[Any]) -> Iterator[NDArray[np.uint8]]:
        """All frames of a whole sound."""
        for shot, face in self.made([wave]):
            yield self._stage.compose(shot, face)

    def made(self, pieces: Iterable[NDArray[Any]]) -> Iterator[Made]:
        """All frames of the sound in `pieces` as (shot, made face), for `Stage.compose` in another thread."""
        held: NDArray[Any] | None = None
        for piece in pieces:
            if held is not None:
                self._ear.push(held)
                yield from self._ready(ended=False)
            held = piece
        self._ear.push(np.zeros(0, np.float32) if held is None else held, last=True)
        yield from self._ready(ended=True)

    def _composed(self, *, ended: bool) -> Iterator[NDArray[np.uint8]]:
        for shot, face in self._ready(ended=ended):
            yield self._stage.compose(shot, face)

    def _ready(self, *, ended: bool) -> Iterator[Made]:
        count = frame_count(self._ear.heard, self._rate)
        while self._next < count:
            ready: list[tuple[NDArray[Any], float]] = []
            while self._next + len(ready) < count and len(ready) < BATCH:
                moment = moment_of(self._next + len(ready), self._rate)
                if not (ended or self._ear.ready(moment)):
                    break
                ready.append(self._ear.window(moment))
            if not ready:
                return
            places = range(self._next, self._next + len(ready))
            shots = [self._stage.shot(float(place / self._rate)) for place in places]
            self._next += len(ready)
            windows = np.stack([window for window, _ in ready])
            yield from self._speak(shots, windows, np.array([gate for _, gate in ready]))
        if ended:
            yield from self._settled(self._flow.finish())

    def _speak(self, shots: Sequence[Shot], windows: NDArray[Any], gates: NDArray[Any]) -> Iterator[Made]:
        for there, run in groupby(range(len(shots)), key=lambda k: self._stage.shows_face(shots[k])):
            part = list(run)
            if there:
                self._waiting.extend(shots[k] for k in part)
                pairs = self._stage.pairs([shots[k] for k in part])
                yield from self._settled(self._flow.push(pairs, windows[part], gates[part]))
            else:
                # nothing is carried over a gap: what comes after it may be another take
                yield from self._settled(self._flow.finish())
                yield from ((shots[k], None) for k in part)

    def _settled(self, faces: NDArray[Any]) -> Iterator[Made]:
        for face in faces:
            yield self._waiting.popleft(), face


def pieces_of(wave: NDArray[Any], *, seconds: float) -> Iterator[NDArray[Any]]:
    """`wave` at 16 kHz in pieces of `seconds`."""
    length = max(1, round(seconds * RATE))
    for start in range(0, len(wave), length):
        yield wave[start : start + length]
