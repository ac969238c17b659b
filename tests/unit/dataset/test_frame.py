"""Images reach the training size around their subject, and their background is read in words."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cast_maker import face
from talent_factory.dataset.captions import COLOURS
from talent_factory.dataset.frame import (
    background_word,
    bucket_step,
    buckets,
    colour_name,
    fit,
    nearest_bucket,
    subject_centre,
)
from talent_factory.world.palette import PLAIN_BACKGROUNDS


def _wide(at: float, size: tuple[int, int] = (640, 360)) -> Image.Image:
    """A head at `at` of the width before a plain ground."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    head = ((x - at * size[0]) ** 2 + (y - size[1] * 0.5) ** 2) < (size[1] * 0.3) ** 2
    return Image.fromarray(np.where(head[..., None], (220, 60, 50), (70, 120, 120)).astype(np.uint8))


@given(
    width=st.integers(16, 700),
    height=st.integers(16, 700),
    resolution=st.sampled_from([32, 96, 128, 512]),
    mode=st.sampled_from(["crop", "letterbox"]),
)
def test_square_modes_give_the_exact_size(width: int, height: int, resolution: int, mode: str) -> None:
    made = fit(face((width, height)), resolution=resolution, mode="crop" if mode == "crop" else "letterbox")
    assert made.size == (resolution, resolution)
    assert made.mode == "RGB"


@pytest.mark.parametrize("at", [0.3, 0.4, 0.5, 0.6, 0.7])
def test_the_crop_follows_the_subject_and_keeps_the_full_height(at: float) -> None:
    x, y = subject_centre(_wide(at))
    assert abs(x - at) < 0.06
    assert abs(y - 0.5) < 0.05
    made = np.asarray(fit(_wide(at), resolution=128, mode="crop")).astype(int)
    red_HW = made[..., 0] > made[..., 2] + 60
    rows, columns = np.nonzero(red_HW)
    assert abs(columns.mean() - 64) < 16
    assert abs((rows.max() - rows.min()) / 128 - 0.6) < 0.03  # the head is as tall as in the whole picture


def test_a_plain_picture_is_cropped_in_its_middle() -> None:
    assert subject_centre(Image.new("RGB", (300, 200), "gray")) == pytest.approx((0.5, 0.5), abs=0.01)


def test_a_tall_picture_keeps_its_full_width() -> None:
    made = np.asarray(fit(_wide(0.5, (360, 640)), resolution=90, mode="crop")).astype(int)
    assert (made[..., 0] > made[..., 2] + 60).any(axis=0).sum() > 50


def test_the_letterbox_is_white_and_shows_all() -> None:
    made = np.asarray(fit(Image.new("RGB", (320, 180), "navy"), resolution=128, mode="letterbox"))
    assert (made[0] == 255).all()
    assert (made[-1] == 255).all()
    assert (made[64] == (0, 0, 128)).all()


def test_downscaling_averages_fine_patterns_instead_of_aliasing() -> None:
    y, x = np.mgrid[0:720, 0:1280]
    dots = Image.fromarray((((x // 2 + y // 2) % 2) * 255).astype(np.uint8)).convert("RGB")
    tones = np.asarray(fit(dots, resolution=128, mode="crop")).astype(int)[4:-4, 4:-4]
    assert abs(tones.mean() - 127.5) < 4
    assert tones.std() < 12


@pytest.mark.parametrize("resolution", [96, 128, 256, 512, 1024])
def test_buckets_are_on_the_grid_and_within_the_area(resolution: int) -> None:
    step = bucket_step(resolution)
    for width, height in buckets(resolution):
        assert width % step == 0
        assert height % step == 0
        assert width * height <= resolution * resolution
        assert (height, width) in buckets(resolution)
    assert (resolution, resolution) in buckets(resolution)
    assert step == (64 if resolution >= 512 else 32)


def test_the_bucket_is_the_nearest_in_shape() -> None:
    assert nearest_bucket((1600, 900), 512) in {(640, 384), (704, 384), (768, 320), (640, 320)}
    assert nearest_bucket((500, 500), 1024) == (1024, 1024)
    assert nearest_bucket((1360, 765), 128)[0] > 128
    width, height = nearest_bucket((900, 1600), 512)
    assert height > width
    assert fit(face((1600, 900)), resolution=128, mode="bucket").size == nearest_bucket((1600, 900), 128)


@pytest.mark.parametrize("name", PLAIN_BACKGROUNDS)
def test_backgrounds_of_the_drawn_world_are_read_in_its_own_words(name: str) -> None:
    picture = np.full((128, 128, 3), PLAIN_BACKGROUNDS[name], np.uint8)
    cv2.circle(picture, (64, 60), 36, (240, 210, 180), -1)
    cv2.rectangle(picture, (24, 100), (104, 128), (60, 60, 160), -1)
    assert background_word(Image.fromarray(picture)) == f"{name} background"


def test_black_brown_and_busy_backgrounds() -> None:
    assert background_word(Image.new("RGB", (64, 64), (8, 8, 10))) == "black background"
    assert background_word(Image.new("RGB", (64, 64), (110, 70, 45))) == "brown background"
    assert background_word(Image.new("RGB", (64, 64), (186, 214, 236))) == "blue background"
    stripes = np.zeros((96, 96, 3), np.uint8)
    for column in range(96):
        stripes[:, column] = [(220, 40, 40), (40, 200, 60), (50, 60, 220), (240, 230, 60)][column // 24]
    assert background_word(Image.fromarray(stripes)) == ""


@given(lightness=st.floats(0, 100), a=st.floats(-110, 110), b=st.floats(-110, 110))
def test_every_colour_has_a_known_name(lightness: float, a: float, b: float) -> None:
    assert colour_name(np.array([lightness, a, b], np.float32)) in COLOURS
