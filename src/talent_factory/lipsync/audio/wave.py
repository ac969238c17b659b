"""Sound files: any container in, 16 kHz mono out, in step with the pictures beside it."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import ClipError, UsageError
from talent_factory.core.files import write_bytes

RATE = 16_000

# Time stamps of compressed sound are rounded; only a gap that can be heard is filled.
_GAP_SECONDS = 0.02
# Ten hours: a broken time stamp must not ask for all memory.
_LONGEST_SECONDS = 10 * 3600


def read_wave(path: str | Path, *, rate: int = RATE) -> NDArray[np.float32]:
    """The first sound track of a file: (N,) float32 mono at `rate` samples a second, in [-1, 1].

    Sample 0 stands at time 0 of the container (`origin_of`), as its pictures count it: what a track begins
    earlier is cut, what it begins later, and gaps in it, are silence. Raises ClipError for a file that is
    missing, damaged or without sound, UsageError where PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise UsageError("reading sound needs PyAV", remedy="pip install 'talent-factory[lipsync]'") from None
    remedy = "name a file that ffmpeg can play, such as a wav, mp3 or mp4"
    if not Path(path).is_file():
        raise ClipError(f"{path} is not a file", remedy=remedy)
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise ClipError(f"{path} has no sound", remedy=remedy)
            return _decoded(container, rate, av)
    except (av.FFmpegError, ValueError) as error:
        raise ClipError(f"the sound of {path} cannot be read: {error}", remedy=remedy) from error


def origin_of(container: Any) -> float:
    """Time 0 of an open PyAV container, in seconds of its own clock: where players begin.

    Streams of broadcasts begin at any time, an mp3 after its encoder's delay; both count from there.
    """
    return max(0.0, (container.start_time or 0) / 1_000_000)


def write_wave(path: str | Path, samples: NDArray[Any], *, rate: int = RATE) -> None:
    """Write (N,) float in [-1, 1] as a mono wav of 16 bits; louder samples are clipped."""
    whole = np.round(np.clip(np.asarray(samples, np.float64).reshape(-1), -1, 1) * 32767).astype("<i2")
    held = io.BytesIO()
    with wave.open(held, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(whole.tobytes())
    write_bytes(Path(path), held.getvalue())


class _Run:
    """Sound without a gap: where it begins, in samples, and what the resampler made of it so far."""

    def __init__(self, place: int, rate: int, av: Any) -> None:
        self.place = place
        self.seconds = 0.0
        self._resampler = av.AudioResampler(format="fltp", rate=rate)
        self._pieces: list[NDArray[np.float32]] = []

    def take(self, frame: Any) -> None:
        """Add a frame; None at the end gives out what the resampler still holds."""
        # the mean of the channels: ffmpeg's own mono adds them up to more than they can hold
        self._pieces += [item.to_ndarray().mean(axis=0) for item in self._resampler.resample(frame)]
        self.seconds += frame.samples / frame.sample_rate if frame is not None else 0.0

    def samples(self) -> NDArray[np.float32]:
        """All of it."""
        return np.concatenate([*self._pieces, np.zeros(0, np.float32)])


def _runs(container: Any, rate: int, av: Any) -> Iterator[_Run]:
    origin, run = origin_of(container), None
    for frame in container.decode(container.streams.audio[0]):
        place = None if frame.pts is None else round((float(frame.pts * frame.time_base) - origin) * rate)
        if place is not None and place > _LONGEST_SECONDS * rate:
            raise ClipError(
                f"{container.name} jumps to {place / rate:.0f} s of sound",
                remedy="cut the file into pieces below ten hours, or write its time stamps anew",
            )
        if run and place is not None and place - run.place > (run.seconds + _GAP_SECONDS) * rate:
            run.take(None)
            yield run
            run = None
        run = run or _Run(place or 0, rate, av)
        run.take(frame)
    if run:
        run.take(None)
        yield run


def _decoded(container: Any, rate: int, av: Any) -> NDArray[np.float32]:
    answer = np.zeros(0, np.float32)
    for run in _runs(container, rate, av):
        sound = run.samples()[max(0, -run.place) :]
        gap = max(0, run.place) - len(answer)
        # runs that overlap by a rounded time stamp are joined
        answer = np.concatenate([answer, np.zeros(max(0, gap), np.float32), sound])
    return answer
