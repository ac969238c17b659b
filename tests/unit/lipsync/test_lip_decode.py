"""Video brought to 25 frames a second by its time stamps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from film_maker import empty, film, steady, tone
from talent_factory.core.errors import ClipError
from talent_factory.lipsync.audio.wave import read_wave
from talent_factory.lipsync.preprocess.decode import frames_of, video_facts

_STEP = 60  # levels of grey a second
_EXACT = 2.1 / _STEP  # what colours of video lose


def _clock(time: float) -> NDArray[Any]:
    """A picture that is as bright as it is late."""
    return np.full((48, 64, 3), 20 + round(_STEP * time), np.uint8)


def _times(path: Path) -> NDArray[Any]:
    return np.array([(frame.image.mean() - 20) / _STEP for frame in frames_of(path)])


@pytest.mark.parametrize("rate", [24, 25, 30, 50, 60, 12.5])
def test_each_frame_is_the_nearest(tmp_path: Path, rate: float) -> None:
    path = film(tmp_path / "a.mkv", _clock, steady(2, rate), codec="ffv1")
    seen = [frame.index for frame in frames_of(path)]
    assert seen == list(range(50))
    assert np.abs(_times(path) - np.arange(50) / 25).max() <= 0.501 / rate + _EXACT
    assert not any(frame.stale for frame in frames_of(path))


def test_times_that_are_no_steps_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.03, 0.05, 0.11, 0.12, 0.2, 0.29, 0.3, 0.36, 0.44, 0.5, 0.58, 0.6, 0.68, 0.76]
    path = film(tmp_path / "a.mkv", _clock, times, codec="ffv1")
    wanted = [min(times, key=lambda time: round(abs(time - k / 25), 6)) for k in range(20)]
    assert np.abs(_times(path)[:20] - wanted).max() <= _EXACT


def test_what_stands_still_for_long_is_stale(tmp_path: Path) -> None:
    times = [*steady(1), *(time + 2 for time in steady(1))]
    frames = list(frames_of(film(tmp_path / "a.mkv", _clock, times, codec="ffv1")))
    assert [frame.index for frame in frames] == list(range(75))
    stale = [frame.index for frame in frames if frame.stale]
    assert stale == list(range(30, 45))


def test_a_late_beginning_keeps_the_numbers(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", _clock, [time + 0.4 for time in steady(1)], sound=tone(2))
    seen = [frame.index for frame in frames_of(path)]
    assert seen == list(range(10, 35))
    assert np.abs(_times(path) - np.arange(10, 35) / 25).max() <= 2 * _EXACT


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_flash_and_click_meet_in_one_frame(tmp_path: Path, ending: str) -> None:
    moments = [0.8, 1.72, 2.44]

    def flash(time: float) -> NDArray[Any]:
        lit = any(moment - 1e-6 <= time < moment + 0.039 for moment in moments)
        return np.full((48, 64, 3), 230 if lit else 30, np.uint8)

    path = film(
        tmp_path / f"a.{ending}", flash, steady(3), sound=tone(3, clicks=[m + 0.015 for m in moments])
    )
    lit = [frame.index for frame in frames_of(path) if frame.image.mean() > 128]
    wave = read_wave(path)
    loud = np.flatnonzero(np.abs(wave) > 0.3)
    starts = loud[np.diff(loud, prepend=-9999) > 800]
    assert lit == [20, 43, 61] == [int(start // 640) for start in starts]


def test_a_lying_video_is_stood_up(tmp_path: Path) -> None:
    def halves(time: float) -> NDArray[Any]:
        image = np.zeros((48, 64, 3), np.uint8)
        image[:, :32] = 200
        return image

    path = film(tmp_path / "a.mp4", halves, steady(0.4))
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version, times and ids, reserved, layer to volume
    turned = (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)  # a quarter turn clockwise
    data[place : place + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
    path.write_bytes(bytes(data))
    image = next(iter(frames_of(path))).image
    assert image.shape == (64, 48, 3)
    assert image[:30].mean() > 150 > 50 > image[34:].mean()


def test_a_damaged_middle_keeps_the_numbers(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", _clock, steady(3), codec="ffv1")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(bytes(data))
    frames = list(frames_of(path))
    assert [frame.index for frame in frames] == list(range(75))
    times = _times(path)
    assert np.median(np.abs(times - np.arange(75) / 25)) <= _EXACT


def test_facts(tmp_path: Path) -> None:
    facts = video_facts(film(tmp_path / "a.mp4", _clock, steady(2, 30), sound=tone(2)))
    assert (facts.width, facts.height, facts.has_sound) == (64, 48, True)
    assert facts.rate == pytest.approx(30, abs=0.1)
    assert math.isclose(facts.seconds or 0, 2, abs_tol=0.1)


def test_what_is_no_video_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    whole = film(tmp_path / "whole.mp4", lambda time: empty(64, 48), steady(1), sound=tone(1)).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    for name in ("missing.mp4", "text.mp4", "half.mp4"):
        with pytest.raises(ClipError) as caught:
            list(frames_of(tmp_path / name))
        assert name in caught.value.message
        assert "\n" not in caught.value.message
