"""How loud each frame of the clips is, which tells other mouths from alike ones, and closed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import Cancelled
from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_path
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.data.metadata import content_hash
from talent_factory.lipsync.ports import Clips

_MOST_FRAMES = 2_000_000
_AT_ONCE = 256
_AHEAD = 2
"""Clips whose sound is asked for before it is needed."""


def clip_energies(
    clips: Clips, cache: Path, *, reporter: Reporter, stop: StopSignal
) -> list[NDArray[Any]] | None:
    """(T,) float32 for each clip, None when the features of its extractor are not about loudness.

    They are read from the audio files once and kept in `cache`. Raises ClipError and StorageError when a
    file cannot be read, Cancelled on `stop`.
    """
    metadata = clips.metadata
    if metadata.extractor is None or not metadata.extractor.startswith("mel"):
        reporter.message("the audio features do not tell how loud they are: no silence augmentation")
        return None
    counts = [len(clip.frames) for clip in metadata.clips]
    if sum(counts) > _MOST_FRAMES:
        reporter.message(f"more than {_MOST_FRAMES} frames: no silence augmentation")
        return None
    path = cache / f"energies-{content_hash(metadata)[:16]}.npy"
    kept = _read(path, sum(counts))
    if kept is None:
        # the first clips of far places come while the ones before are heard
        _expect(clips, range(min(_AHEAD, len(counts))))
        parts = []
        for number in range(len(counts)):
            if stop.requested:
                raise Cancelled("stopped before the first step", remedy="run the same command again")
            _expect(clips, range(number + _AHEAD, min(number + _AHEAD + 1, len(counts))))
            parts.append(_of(clips, number, reporter))
        kept = np.concatenate(parts)
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.save(stream, kept, allow_pickle=False)
    return list(np.split(kept, np.cumsum(counts)[:-1]))


def _expect(clips: Clips, numbers: range) -> None:
    clips.expect([(n, 0, len(clips.metadata.clips[n].frames)) for n in numbers], pictures=False)


def _of(clips: Clips, number: int, reporter: Reporter) -> NDArray[Any]:
    count = len(clips.metadata.clips[number].frames)
    parts = [
        # log-mel of silence is zero, and grows with the power
        clips.audio(number, first, min(first + _AT_ONCE, count)).mean(axis=(1, 2), dtype=np.float64)
        for first in range(0, count, _AT_ONCE)
    ]
    reporter.progress("loudness", number + 1, len(clips.metadata.clips), unit="clip")
    return np.concatenate(parts).astype(np.float32)


def _read(path: Path, count: int) -> NDArray[Any] | None:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return found if found.shape == (count,) and found.dtype == np.float32 else None
