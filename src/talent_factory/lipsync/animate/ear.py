"""Listen while sound arrives: features and gate of each frame, the same however the sound is cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.lipsync.animate.gate import AHEAD, BEHIND, SAMPLES, gate_of, loud_rows
from talent_factory.lipsync.animate.timeline import HOP, PHASES, RATE, Moment
from talent_factory.lipsync.audio.conditioner import AudioConditioner
from talent_factory.lipsync.ports import Extractor

# What an extractor that does not say so may need of the past: the window that Whisper sees at once.
_LONG_MEMORY = 30 * RATE
_ENDLESS = 1 << 60


@dataclass
class _Track:
    """Rows of the sound from sample 160·phase on, as far as they are known and still needed."""

    phase: int
    first: int = 0
    rows: list[NDArray[Any]] = field(default_factory=list)
    loud: list[bool] = field(default_factory=list)

    @property
    def known(self) -> int:
        return self.first + len(self.rows)


class Ear:
    """Takes mono 16 kHz sound in pieces of any length and answers for moments, in rising order.

    An extractor that never looks ahead gives the very windows it gives for the whole sound; one that does
    (Whisper) hears each piece with 30 s before it and nothing after, so give it the whole in one piece.
    """

    def __init__(self, extractor: Extractor, conditioner: AudioConditioner, *, phases: set[int]) -> None:
        self._extractor, self._conditioner = extractor, conditioner
        memory = int(getattr(extractor, "memory", _LONG_MEMORY))
        # whole rows, so that steps fall where they fall in the whole sound
        self._memory = -(-memory // SAMPLES) * SAMPLES
        self._tracks = {phase: _Track(phase) for phase in sorted(phases)}
        self._sound = np.zeros(0, np.float32)
        self._dropped = 0
        self._ended = False
        self._ahead = max(conditioner.right, AHEAD)

    @property
    def heard(self) -> int:
        """Samples so far."""
        return self._dropped + len(self._sound)

    def push(self, samples: NDArray[Any], *, last: bool = False) -> None:
        """Hear more, (N,) float32 in [-1, 1]; with `last` the sound ends here."""
        self._sound = np.concatenate([self._sound, np.asarray(samples, np.float32).reshape(-1)])
        self._ended = self._ended or last
        for track in self._tracks.values():
            self._listen(track)
        # each track is at most a row and its phase behind; what lies before their memories is done with
        spare = self.heard - self._memory - 2 * SAMPLES - HOP * PHASES - self._dropped
        spare -= spare % SAMPLES
        if spare > 0:
            self._sound = self._sound[spare:]
            self._dropped += spare

    def ready(self, moment: Moment) -> bool:
        """Whether all that the frame listens to has arrived."""
        return self._ended or self._tracks[moment.phase].known > moment.row + self._ahead

    def window(self, moment: Moment) -> tuple[NDArray[Any], float]:
        """The window (frames, 10, 384) of a moment that is `ready`, and how open its gate is.

        Rows before it are forgotten, up to what the next frame needs.
        """
        track = self._tracks[moment.phase]
        if track.known == 0:
            return np.zeros((self._conditioner.frames, *self._row_shape()), np.float32), 0.0
        # sound that ends within the frame's last quarter leaves a shifted track one row short
        row = min(moment.row, track.known - 1)
        length = track.known if self._ended else _ENDLESS
        begin, end = self._conditioner.span(row, length)
        rows = np.stack(track.rows[begin - track.first : end - track.first])
        window = self._conditioner.window(rows, first=begin, index=row, length=length)
        low = max(track.first, row - BEHIND)
        loud = np.array(track.loud[low - track.first : row + AHEAD + 1 - track.first])
        gate = float(gate_of(loud)[row - low])
        self._forget(track, min(begin, low))
        return window, gate

    def _listen(self, track: _Track) -> None:
        start = HOP * track.phase
        arrived = max(0, self.heard - start)
        complete = -(-arrived // SAMPLES) if self._ended else arrived // SAMPLES
        if complete <= track.known:
            return
        begin = max(0, SAMPLES * track.known - self._memory)
        low = start + begin - self._dropped
        piece = self._sound[low : start + SAMPLES * complete - self._dropped]
        skip = track.known - begin // SAMPLES
        track.rows.extend(self._extractor.features(piece)[skip:])
        track.loud.extend(loud_rows(piece)[skip:].tolist())

    @staticmethod
    def _forget(track: _Track, before: int) -> None:
        count = before - track.first
        if count > 0:
            del track.rows[:count], track.loud[:count]
            track.first = before

    def _row_shape(self) -> tuple[int, int]:
        from talent_factory.lipsync.records import STEPS, WIDTH

        return STEPS, WIDTH
