"""Whose face an actor speaks with, when nobody says: a photographed one, unless a closer look doubts it."""

from __future__ import annotations

import numpy as np

from photo_maker import astronaut
from talent_factory.lipsync.animate.drawn import DrawnDetector, FirstOf
from talent_factory.lipsync.preprocess.detect import open_detector
from talent_factory.world.samples import identity_samples


def first() -> FirstOf:
    return FirstOf(open_detector("skimage"), DrawnDetector())


def test_an_eye_of_a_drawing_is_no_photographed_face() -> None:
    picture, _ = identity_samples(5, size=128)[4]
    (spot,) = open_detector("skimage").find(picture)
    assert (spot.score, spot.side < 40) == (0.0, True)
    finder = first()
    (face,) = finder.find(picture)
    assert finder.id == "drawn-1"
    assert face.side > 60
    assert face.left < 45 < 80 < face.right


def test_a_doubted_face_is_better_than_none() -> None:
    picture, _ = identity_samples(4, size=128)[3]
    assert DrawnDetector().find(picture) == ()
    finder = first()
    (face,) = finder.find(picture)
    assert (finder.id, face.score) == ("skimage-lbp-1", 0.0)


def test_a_photographed_face_is_not_doubted() -> None:
    finder = first()
    face = finder.find(np.asarray(astronaut()))[0]
    assert (finder.id, face.score) == ("skimage-lbp-1", 1.0)
