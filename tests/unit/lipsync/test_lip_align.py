"""Cutting faces out and putting them back; the ways to find them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from film_maker import astronaut, empty, portrait
from talent_factory.core.errors import FileError, TalentError, UsageError
from talent_factory.lipsync.preprocess.align import Alignment, Face, align_face, crop, paste
from talent_factory.lipsync.preprocess.detect import face_of_marks, open_detector


def _soft(height: int = 120, width: int = 160) -> NDArray[Any]:
    """A smooth picture, which interpolation hardly changes."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 100 * np.sin(x / a) * np.cos(y / b) for a, b in ((19, 23), (31, 17), (23, 29))]
    return np.stack(waves, axis=-1).astype(np.uint8)


def test_the_square_in_the_middle_is_cut_to_the_bit() -> None:
    (face,) = open_detector("center").find(astronaut())
    assert np.array_equal(crop(astronaut(), align_face(face), 512), astronaut())
    (face,) = open_detector("center").find(_soft())
    assert np.array_equal(crop(_soft(), align_face(face), 120), _soft()[:, 20:140])


def test_the_bridge_lies_in_the_middle_and_the_chin_below_it() -> None:
    turn = math.radians(20)
    face = Face(
        left=60,
        top=30,
        right=110,
        bottom=80,
        bridge=(80.0, 50.0),
        chin=(80 - 30 * math.sin(turn), 50 + 30 * math.cos(turn)),
        angle=20,
    )
    picture = np.zeros((120, 160, 3), np.uint8)
    for x, y in (face.bridge, face.chin):
        picture[round(y - 0.5), round(x - 0.5)] = 255
    cut = crop(picture, align_face(face), 300).mean(axis=2)
    found = [np.argwhere(part == part.max()).mean(axis=0) / 300 for part in (cut[:200], cut[200:])]
    assert found[0] == pytest.approx((0.5, 0.5), abs=0.01)
    assert found[1] + (2 / 3, 0) == pytest.approx((0.9, 0.5), abs=0.01)


def test_a_shift_moves_the_cut_along_the_face() -> None:
    face = Face(left=0, top=0, right=9, bottom=9, bridge=(50, 50), chin=(50, 70), angle=90)
    moved = align_face(face, shift=0.1)
    assert (moved.x, moved.y) == pytest.approx((50 - 0.1 * moved.side, 50))


@pytest.mark.parametrize(("side", "angle"), [(64.0, 0.0), (81.3, 0.0), (150.0, 12.0), (40.0, -35.0)])
def test_what_was_cut_out_is_put_back(side: float, angle: float) -> None:
    picture = _soft()
    alignment = Alignment(x=79.2, y=61.7, side=side, angle=angle)
    back = paste(picture, crop(picture, alignment, 96), alignment, np.ones((96, 96), np.float32))
    assert np.abs(back.astype(int) - picture).max() <= 6
    left, top, right, bottom = alignment.box
    y, x = np.mgrid[0:120, 0:160]
    outside = (x < left - 1) | (x > right + 1) | (y < top - 1) | (y > bottom + 1)
    red = paste(picture, np.full((96, 96, 3), (255, 0, 0), np.uint8), alignment, np.ones((96, 96)))
    assert np.array_equal(red[outside], picture[outside])
    assert tuple(red[62, 79]) == (255, 0, 0)


def test_alpha_says_what_counts() -> None:
    picture, alignment = _soft(), Alignment(x=80, y=60, side=64)
    alpha = np.zeros((64, 64))
    alpha[32:] = 1
    made = paste(picture, np.zeros((64, 64, 3), np.uint8), alignment, alpha)
    assert np.array_equal(made[:60], picture[:60])
    assert made[60:92, 48:112].max() == 0


def test_a_square_beside_the_picture_changes_nothing_and_the_edge_goes_on() -> None:
    picture = _soft()
    far = Alignment(x=-500, y=60, side=64)
    assert np.array_equal(paste(picture, np.zeros((64, 64, 3), np.uint8), far, np.ones((64, 64))), picture)
    half = crop(picture, Alignment(x=0, y=60, side=64), 64)
    assert np.array_equal(half[:, 0], half[:, 31])


def test_shrinking_averages() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    cut = crop(stripes, Alignment(x=200, y=200, side=400), 50)
    assert np.abs(cut.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 4)])
def test_other_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="uint8 picture"):
        crop(np.zeros(shape, np.uint8), Alignment(x=4, y=4, side=4), 8)


def test_the_cascade_finds_the_photographed_face_and_no_other() -> None:
    detector = open_detector("skimage")
    assert detector.find(empty()) == ()
    face = detector.find(portrait(dx=20))[0]
    # read off the photograph: the ridge of the nose at (222, 116), the chin at 172
    assert face.bridge == pytest.approx((160 + 20 + 0, 120 - 2), abs=7)
    assert face.chin[1] == pytest.approx(174, abs=7)
    near = detector.find(portrait(dx=26), near=face)[0]
    assert near.bridge[0] - face.bridge[0] == pytest.approx(6, abs=4)
    assert detector.find(portrait(dx=-100), near=face) == ()


def test_a_larger_spot_does_not_win_over_the_face() -> None:
    # the cascade also sees a face in the sleeve, and in the edge between two photographs a larger one
    beside = np.concatenate([astronaut(), astronaut()], axis=1)
    faces = open_detector("skimage").find(beside)
    assert sorted(round(face.bridge[0] / 512, 1) for face in faces) == [0.4, 1.4]
    assert len(open_detector("skimage").find(astronaut())) == 1


def test_marks_become_a_face_that_may_lean() -> None:
    turn = math.radians(-15)
    matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    upright = np.array([(40, 40), (60, 40), (50, 54), (43, 64), (57, 64)], float)
    points = (upright - 50) @ matrix.T + 50
    face = face_of_marks(np.array([25, 20, 50, 62, *points.reshape(-1), 0.9], np.float32), 0.9)
    assert face.angle == pytest.approx(-15, abs=0.1)
    down = np.array(face.chin) - points[:2].mean(axis=0)
    assert math.degrees(math.atan2(-down[0], down[1])) == pytest.approx(-15, abs=0.5)
    assert math.hypot(*down) == pytest.approx(24 * 1.67, abs=0.5)
    # seen in a mirror the eyes come in the other order, and the head leans the same way
    swapped = points[[1, 0, 2, 4, 3]]
    again = face_of_marks(np.array([25, 20, 50, 62, *swapped.reshape(-1), 0.9]), 0.9)
    assert again.angle == pytest.approx(face.angle, abs=1e-3)


def test_boxes_are_taken_frame_by_frame(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"a.mp4": [[10, 20, 30, 60], None], "b": [None]}))
    detector = open_detector(f"boxes:{path}", video="a.mp4")
    assert detector.find(empty(), index=0)[0].bridge == pytest.approx((20, 40.4))
    assert detector.find(empty(), index=1) == () == detector.find(empty(), index=2)
    assert open_detector(f"boxes:{path}", video="b.mov").find(empty()) == ()
    with pytest.raises(FileError, match=r"no boxes for c\.mp4"):
        open_detector(f"boxes:{path}", video="c.mp4")


@pytest.mark.parametrize("box", [[1, 2, 3], [9, 2, 3, 4], ["a", 2, 3, 4], {"left": 1}, [1, 2, 3, 1e999]])
def test_a_box_that_is_none_is_refused(tmp_path: Path, box: object) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([None, box]))
    with pytest.raises(FileError, match="entry 1 is no box"):
        open_detector(f"boxes:{path}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("retina", "no detector 'retina'"),
        ("yunet", "needs a file"),
        ("boxes:", "needs a file"),
        ("yunet:missing.onnx", "does not exist"),
        ("boxes:missing.json", "does not exist"),
    ],
)
def test_detectors_that_are_not_there(name: str, says: str) -> None:
    with pytest.raises(TalentError, match=says) as caught:
        open_detector(name)
    assert caught.value.remedy


def test_a_file_that_is_no_network_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"no network at all")
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with pytest.raises(FileError, match="cannot read") as caught:
            open_detector(f"yunet:{path}")
    finally:
        cv2.utils.logging.setLogLevel(level)
    assert "\n" not in caught.value.message
