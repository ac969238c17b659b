"""How the head is held in each frame, which tells references that differ in the mouth alone from others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.events import Reporter
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.data.metadata import content_hash
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.ports import Clips
from talent_factory.lipsync.train.once import figures_once

ROWS, COLUMNS = 12, 24
_MOST_FRAMES = 200_000
_AT_ONCE = 64


def clip_poses(
    clips: Clips, mask: FaceMask, cache: Path, *, reporter: Reporter, stop: StopSignal
) -> list[NDArray[Any]] | None:
    """(T, ROWS * COLUMNS) float16 for each clip: the grey of what lies above the mask, made small.

    None when there are too many frames to look at. They are read once and kept in `cache`. Raises ClipError
    and StorageError when a frame cannot be read, Cancelled on `stop`.
    """
    metadata = clips.metadata
    counts = [len(clip.frames) for clip in metadata.clips]
    if sum(counts) > _MOST_FRAMES:
        reporter.message(f"more than {_MOST_FRAMES} frames: references are not chosen by pose")
        return None

    def poses(number: int) -> NDArray[Any]:
        return np.concatenate(
            [
                _of(clips, number, first, min(first + _AT_ONCE, counts[number]), mask)
                for first in range(0, counts[number], _AT_ONCE)
            ]
        )

    return figures_once(
        poses,
        counts,
        cache / f"poses-{content_hash(metadata)[:16]}-{mask.top:g}.npy",
        row=(ROWS * COLUMNS,),
        dtype=np.float16,
        named="poses",
        reporter=reporter,
        stop=stop,
    )


def _of(clips: Clips, number: int, first: int, last: int, mask: FaceMask) -> NDArray[Any]:
    import cv2

    clips.expect([(number, first, last)], audio=False)
    rows = []
    for index in range(first, last):
        frame = clips.frame(number, index)
        above = frame[: max(1, int(mask.top * len(frame)))]
        grey = cv2.cvtColor(np.ascontiguousarray(above), cv2.COLOR_RGB2GRAY)
        rows.append(cv2.resize(grey, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA).reshape(-1))
    return np.stack(rows)
