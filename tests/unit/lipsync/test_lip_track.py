"""Faces followed from frame to frame; cuts of the camera."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from film_maker import astronaut, empty, portrait
from talent_factory.lipsync.preprocess.align import Face
from talent_factory.lipsync.preprocess.scenes import CutFinder
from talent_factory.lipsync.preprocess.track import (
    FaceTracker,
    Track,
    align_track,
    choose_tracks,
    pieces,
    smooth,
)

Script = Callable[[int], tuple[Face, ...]]
_BLANK = np.zeros((8, 8, 3), np.uint8)


class Scripted:
    """A detector that knows beforehand what it will see, and counts its looks."""

    id = "scripted"

    def __init__(self, script: Script, every: int = 5) -> None:
        self.script, self.every, self.looks = script, every, 0

    def find(self, image: NDArray[Any], *, index: int = 0, near: Face | None = None) -> tuple[Face, ...]:
        self.looks += 1
        faces = self.script(index)
        return faces if near is None else tuple(face for face in faces if face.overlap(near) > 0.25)


def _face(x: float = 50, y: float = 50, side: float = 40) -> Face:
    half = side / 2
    return Face(
        left=x - half, top=y - half, right=x + half, bottom=y + half, bridge=(x, y), chin=(x, y + side / 2)
    )


def _follow(
    script: Script, count: int, *, every: int = 5, cuts: tuple[int, ...] = ()
) -> list[tuple[int, int]]:
    tracker = FaceTracker(Scripted(script, every))
    for index in range(count):
        tracker.see(index, _BLANK, cut=index in cuts)
    return [(track.first, track.last) for track in tracker.finish(count)]


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("start", range(20, 26))
def test_a_face_missed_for_less_than_ten_frames_goes_on(every: int, start: int) -> None:
    gone = range(start, start + 9)
    assert _follow(lambda i: () if i in gone else (_face(),), 60, every=every) == [(0, 60)]


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("start", range(20, 26))
def test_a_face_missed_for_longer_splits_and_every_frame_with_it_stays(every: int, start: int) -> None:
    gone = range(start, start + 14)
    found = _follow(lambda i: () if i in gone else (_face(),), 60, every=every)
    assert found == [(0, start), (start + 14, 60)]


def test_a_cut_ends_a_track_though_the_face_stays() -> None:
    assert _follow(lambda i: (_face(),), 50, cuts=(0, 23)) == [(0, 23), (23, 50)]


def test_a_jump_is_another_face() -> None:
    found = _follow(lambda i: (_face(50 if i < 22 else 150),), 50)
    assert found == [(0, 22), (22, 50)]


def test_two_faces_are_two_tracks_and_the_larger_is_chosen() -> None:
    tracker = FaceTracker(Scripted(lambda i: (_face(50), _face(150, side=60)) if i < 80 else (_face(50),)))
    for index in range(200):
        tracker.see(index, _BLANK)
    tracks = tracker.finish(200)
    assert [(track.first, track.last) for track in tracks] == [(0, 80), (0, 200)]
    chosen = choose_tracks(tracks, least=50)
    assert [(t.first, t.last, t.side) for t in chosen] == [(0, 200, 40)]
    assert choose_tracks(tracks, least=50, least_side=50)[0].last == 80
    assert choose_tracks(tracks, least=201) == ()


def test_a_covered_track_keeps_its_free_part() -> None:
    large, small = Track(30, [(30, _face(side=90))], 100), Track(0, [(0, _face(150))], 90)
    assert [(t.first, t.last) for t in choose_tracks([large, small], least=20)] == [(0, 30), (30, 100)]
    assert [(t.first, t.last) for t in choose_tracks([large, small], least=31)] == [(30, 100)]


def test_few_looks_are_enough() -> None:
    detector = Scripted(lambda i: (_face(50 + i / 4),))
    tracker = FaceTracker(detector)
    for index in range(500):
        tracker.see(index, _BLANK)
    assert [(t.first, t.last) for t in tracker.finish(500)] == [(0, 500)]
    assert detector.looks == 100


def test_between_two_looks_a_movement_goes_on_evenly_and_one_slip_does_not_count() -> None:
    knots = [(i, _face(50 + i / 2, 80 - i / 4)) for i in range(0, 101, 5)]
    knots[9] = (45, _face(95, 40, 70))
    cuts = align_track(Track(0, knots, 103))
    x = np.array([cut.x for cut in cuts])
    # the slip lies 22 pixels off; the median of three takes its neighbour instead, 2.5 pixels off
    assert np.abs(x[:101] - (50 + np.arange(101) / 2)).max() < 2.6
    assert np.abs(np.diff([cut.side for cut in cuts])).max() < 1e-6
    assert len(cuts) == 103


def test_noise_is_smoothed_and_lines_stay() -> None:
    line = 3 + 0.7 * np.arange(90)
    assert np.allclose(smooth(line, 25), line)
    noise = np.random.default_rng(5).normal(size=400)
    assert smooth(noise, 25).std() < 0.45
    assert np.array_equal(smooth(line[:2], 25), line[:2])


def test_long_tracks_are_cut_into_equal_parts() -> None:
    assert list(pieces(10, 110, most=40)) == [(10, 43), (43, 76), (76, 110)]
    assert list(pieces(0, 750, most=750)) == [(0, 750)]


def test_cuts_are_found_and_movement_is_none() -> None:
    finder = CutFinder()
    moving = [portrait(dx=20 * np.sin(k / 5), zoom=1 + 0.2 * np.sin(k / 9)) for k in range(40)]
    other = [np.ascontiguousarray(astronaut()[200 + k : 440 + k, 100:420]) for k in range(12)]
    nothing = [empty() for _ in range(12)]
    found = [n for n, image in enumerate([*moving, *other, *nothing, *moving[:5]]) if finder.begins(image)]
    assert found == [0, 40, 52, 64]
