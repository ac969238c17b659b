"""Figures of every frame of the clips, worked out once and kept on the disk for the next training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from talent_factory.core.errors import Cancelled
from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_path
from talent_factory.core.stop import StopSignal


def figures_once(
    work: Callable[[int], NDArray[Any]],
    counts: list[int],
    kept: Path,
    *,
    row: tuple[int, ...],
    dtype: DTypeLike,
    named: str,
    reporter: Reporter,
    stop: StopSignal,
) -> list[NDArray[Any]]:
    """(T, *row) of `dtype` for each of the clips, which have `counts` frames: what `work(clip)` gives.

    They are read from the file `kept` where it holds that many, and written there otherwise; `named` is what
    the progress calls them. Raises Cancelled on `stop`, and what `work` raises.
    """
    shape, found = (sum(counts), *row), _read(kept)
    if found is None or found.shape != shape or found.dtype != dtype:
        parts = []
        for number in range(len(counts)):
            if stop.requested:
                raise Cancelled("stopped before the first step", remedy="run the same command again")
            parts.append(work(number).astype(dtype) if counts[number] else np.zeros((0, *row), dtype))
            reporter.progress(named, number + 1, len(counts), unit="clip")
        found = np.concatenate(parts)
        with atomic_path(kept) as temporary, open(temporary, "wb") as stream:
            np.save(stream, found, allow_pickle=False)
    return list(np.split(found, np.cumsum(counts)[:-1]))


def _read(path: Path) -> NDArray[Any] | None:
    try:
        found: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return found
