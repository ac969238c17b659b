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
    reach: int = REACH,
) -> Verdict:
    """Judge aligned frames (T, S, S, 3) uint8 with their features (T, 10, 384).

    Distances, minimum and median are as in Chung and Zisserman 2016, over offsets of -reach to reach frames.

    Raises:
        ClipError: there are too few frames.
    """
    length = min(len(frames), len(features))
    if length < FRAMES + 2 * reach:
        raise ClipError(
            f"{length} frames are too few to judge lips and sound",
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
    distances = {
        late: float(
            (one[max(0, late) : len(one) + min(0, late)] - other[max(0, -late) : len(one) - max(0, late)])
            .norm(dim=1)
            .mean()
        )
        for late in range(-reach, reach + 1)
    }
    best = min(distances, key=lambda late: (distances[late], abs(late)))
    middle = float(np.median(list(distances.values())))
    return Verdict(offset=best, error=distances[best], confidence=middle - distances[best])
