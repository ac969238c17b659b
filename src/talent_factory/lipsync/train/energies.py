"""How loud each frame of the clips is, which tells other mouths from alike ones, and closed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.events import Reporter
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.data.metadata import content_hash
from talent_factory.lipsync.ports import Clips
from talent_factory.lipsync.train.once import figures_once

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

    def loudness(number: int) -> NDArray[Any]:
        count = counts[number]
        # the next clips of far places come while this one is heard
        first_new = number + _AHEAD if number else 0
        clips.expect(
            [(n, 0, counts[n]) for n in range(first_new, min(number + _AHEAD + 1, len(counts)))],
            pictures=False,
        )
        parts = [
            # log-mel of silence is zero, and grows with the power
            clips.audio(number, first, min(first + _AT_ONCE, count)).mean(axis=(1, 2), dtype=np.float64)
            for first in range(0, count, _AT_ONCE)
        ]
        return np.concatenate(parts)

    return figures_once(
        loudness,
        counts,
        cache / f"energies-{content_hash(metadata)[:16]}.npy",
        row=(),
        dtype=np.float32,
        named="loudness",
        reporter=reporter,
        stop=stop,
    )
