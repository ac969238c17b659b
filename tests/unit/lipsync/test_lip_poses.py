"""What tells poses apart: it follows the head, not the mouth, and is read once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from talent_factory.core.errors import Cancelled, ClipError
from talent_factory.core.events import SilentReporter
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.data.open import ClipSettings, open_clips
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.synth.clips import Order, draw_clips, read_truth
from talent_factory.lipsync.train.poses import COLUMNS, ROWS, clip_poses

COUNT = 20


def _poses(root: Path, cache: Path, stop: StopSignal | None = None) -> list[NDArray[np.float16]]:
    clips = open_clips(ClipSettings(local=root, metadata=str(root / "metadata.npz")))
    try:
        found = clip_poses(clips, FaceMask(), cache, reporter=SilentReporter(), stop=stop or StopSignal())
    finally:
        clips.close()
    assert found is not None
    return found


def test_poses_follow_the_head_and_not_the_mouth(tmp_path: Path) -> None:
    root = tmp_path / "clips"
    draw_clips(root, Order(clips=2, seconds=COUNT / 25, size=64, seed=5))
    poses = _poses(root, tmp_path / "cache")
    assert [one.shape for one in poses] == [(COUNT, ROWS * COLUMNS)] * 2
    pose = read_truth(root, "SYNTH-0001")["pose"][:, :2]
    moved = np.abs(pose[1:] - pose[:1]).sum(axis=1)
    seen = np.abs(poses[0][1:].astype(np.float32) - poses[0][:1].astype(np.float32)).mean(axis=1)
    assert np.corrcoef(moved, seen)[0, 1] > 0.6


def test_they_are_read_once(tmp_path: Path) -> None:
    root = tmp_path / "clips"
    draw_clips(root, Order(clips=1, seconds=0.4, size=64, seed=5))
    first = _poses(root, tmp_path)
    for picture in (root / "aligned-frames").rglob("*.png"):
        picture.write_bytes(b"broken")
    again = _poses(root, tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    stop = StopSignal()
    stop.request()
    with pytest.raises(Cancelled):
        _poses(root, tmp_path / "elsewhere", stop)
    # a file that holds something else is made anew
    (kept,) = tmp_path.glob("poses-*.npy")
    np.save(kept, np.zeros((3, 2), np.float16))
    with pytest.raises(ClipError):
        _poses(root, tmp_path)
