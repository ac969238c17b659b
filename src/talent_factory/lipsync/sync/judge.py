"""What the SyncNet says about a video and its sound: how far apart they are in time, and how surely."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from talent_factory.core.errors import ClipError
from talent_factory.core.records import Record
from talent_factory.lipsync.score.reader import lower_halves
from talent_factory.lipsync.sync.network import FRAMES, SyncNet

REACH = 8
_BATCH = 128


class Verdict(Record):
    """`offset` in frames (positive: the lips are late), `error` the mean distance there (0 to 2), and
    `confidence` how much less that is than the median of all offsets.
    """

    offset: int
    error: float
    confidence: float


@torch.no_grad()
def judge(
    network: SyncNet,
    frames: NDArray[Any] | list[NDArray[Any]],
    features: NDArray[Any],
    *,
    shown: NDArray[np.bool_] | None = None,
    reach: int = REACH,
) -> Verdict:
    """Judge aligned frames (T, S, S, 3) uint8 with their features (T, 10, 384).

    Distances, minimum and median are as in Chung and Zisserman 2016, over offsets of -reach to reach frames.
    Frames that `shown` (T,) denies, which show no face, are left out with all windows that hold them.

    Raises:
        ClipError: there are too few frames, or too few of them in a row.
    """
    length = min(len(frames), len(features))
    there = np.ones(length, bool) if shown is None else np.asarray(shown[:length], bool)
    most = longest_run(there)
    if most < FRAMES + 2 * reach:
        raise ClipError(
            f"{most} frames in a row are too few to judge lips and sound",
            remedy=f"give {FRAMES + 2 * reach} or more",
        )
    halves, sound = lower_halves(frames[:length]), torch.from_numpy(np.asarray(features[:length], np.float32))
    starts = list(range(length - FRAMES + 1))
    seen, heard = [], []
    for begin in range(0, len(starts), _BATCH):
        part = starts[begin : begin + _BATCH]
        seen.append(network.see(torch.stack([halves[k : k + FRAMES] for k in part])))
        heard.append(network.hear(torch.stack([sound[k : k + FRAMES] for k in part])))
    one, other = torch.cat(seen), torch.cat(heard)
    whole = torch.from_numpy(np.array([there[k : k + FRAMES].all() for k in starts]))
    distances = {}
    for late in range(-reach, reach + 1):
        shifted = slice(max(0, late), len(one) + min(0, late))
        apart = one[shifted] - other[max(0, -late) : len(one) - max(0, late)]
        distances[late] = float(apart.norm(dim=1)[whole[shifted]].mean())
    best = min(distances, key=lambda late: (distances[late], abs(late)))
    middle = float(np.median(list(distances.values())))
    return Verdict(offset=best, error=distances[best], confidence=middle - distances[best])


def longest_run(there: NDArray[np.bool_]) -> int:
    """The most frames in a row that are there."""
    edges = np.flatnonzero(np.concatenate([[True], ~there, [True]]))
    return int(np.diff(edges).max()) - 1
