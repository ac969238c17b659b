"""How the head is held in each frame, which tells references that differ in the mouth alone from others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_path
from talent_factory.lipsync.data.metadata import content_hash
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.ports import Clips

ROWS, COLUMNS = 12, 24
_MOST_FRAMES = 200_000
_AT_ONCE = 64


def clip_poses(
    clips: Clips, mask: FaceMask, cache: Path, *, reporter: Reporter
) -> list[NDArray[np.float16]] | None:
    """(T, ROWS * COLUMNS) float16 for each clip: the grey of what lies above the mask, made small.

    None when there are too many frames to look at. They are read once and kept in `cache`. Raises ClipError
    and StorageError when a frame cannot be read.
    """
    metadata = clips.metadata
    counts = [len(clip.frames) for clip in metadata.clips]
    if sum(counts) > _MOST_FRAMES:
        reporter.message(f"more than {_MOST_FRAMES} frames: references are not chosen by pose")
        return None
    path = cache / f"poses-{content_hash(metadata)[:16]}-{mask.top:g}.npy"
    kept = _read(path, sum(counts))
    if kept is None:
        parts = []
        for number, count in enumerate(counts):
            parts += [_of(clips, number, first, min(first + _AT_ONCE, count), mask)
                      for first in range(0, count, _AT_ONCE)]  # fmt: skip
            reporter.progress("poses", number + 1, len(counts), unit="clip")
        kept = np.concatenate(parts)
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.save(stream, kept, allow_pickle=False)
    return list(np.split(kept, np.cumsum(counts)[:-1]))


def _of(clips: Clips, number: int, first: int, last: int, mask: FaceMask) -> NDArray[np.float16]:
    import cv2

    clips.expect([(number, first, last)], audio=False)
    rows = []
    for index in range(first, last):
        frame = clips.frame(number, index)
        above = frame[: max(1, int(mask.top * len(frame)))]
        grey = cv2.cvtColor(np.ascontiguousarray(above), cv2.COLOR_RGB2GRAY)
        rows.append(cv2.resize(grey, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA).reshape(-1))
    return np.stack(rows).astype(np.float16)


def _read(path: Path, count: int) -> NDArray[np.float16] | None:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return found if found.shape == (count, ROWS * COLUMNS) and found.dtype == np.float16 else None
