"""Every medium is what it claims to be, whatever the portrait's size and shape."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talent_factory.core.errors import ProviderError
from talent_factory.providers.embedded import MEDIA, Painted, paint
from unit.providers.portraits import U8, character, photograph

STYLISED = [medium for medium in MEDIA if not medium.startswith("photo_")]
PHOTOS = [medium for medium in MEDIA if medium.startswith("photo_")]
BLACK_AND_WHITE = ["pen_and_ink", "graphite", "charcoal", "woodcut", "mono_vector", "manga"]
COLOUR = ["comic", "flat_vector", "watercolor", "gouache"]
SUBJECTS = {"character": character, "photograph": photograph}

F64 = npt.NDArray[np.float64]


@cache
def painted(medium: str, subject: str = "character", *, seed: int = 5, long_side: int = 256) -> Painted:
    return paint(SUBJECTS[subject](), medium=medium, seed=seed, aspect="1:1", long_side=long_side)


def gray(image_HWC: U8) -> F64:
    return image_HWC.astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722]) / 255


def chroma(image_HWC: U8) -> float:
    return float((image_HWC.max(axis=2).astype(int) - image_HWC.min(axis=2)).mean())


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("medium", BLACK_AND_WHITE)
def test_black_and_white_media_have_no_chroma(medium: str, subject: str) -> None:
    assert chroma(painted(medium, subject).image) == 0


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("medium", COLOUR)
def test_colour_media_have_colour(medium: str, subject: str) -> None:
    assert chroma(painted(medium, subject).image) > 15


@pytest.mark.parametrize("medium", ["pen_and_ink", "woodcut"])
def test_ink_is_black_or_white(medium: str) -> None:
    image = paint(character(), medium=medium, seed=5, aspect="1:1", long_side=512).image
    tones = gray(image)
    assert ((tones < 0.25) | (tones > 0.75)).mean() > 0.85
    assert (tones < 0.25).mean() > 0.05
    assert (tones > 0.75).mean() > 0.2


@pytest.mark.parametrize("medium", ["graphite", "charcoal"])
def test_pencil_and_charcoal_have_half_tones(medium: str) -> None:
    tones = gray(painted(medium, "photograph").image)
    assert ((tones > 0.25) & (tones < 0.75)).mean() > 0.2


def test_mono_vector_is_four_grays_and_thin_ramps() -> None:
    image = paint(character(), medium="mono_vector", seed=5, aspect="1:1", long_side=512).image
    counts = np.sort(np.bincount(image[..., 0].ravel(), minlength=256))[::-1]
    assert counts[:5].sum() / counts.sum() > 0.8


@pytest.mark.parametrize("subject", SUBJECTS)
def test_flat_vector_has_few_colours(subject: str) -> None:
    image = paint(SUBJECTS[subject](), medium="flat_vector", seed=5, aspect="1:1", long_side=512).image
    codes = image.astype(np.int64) @ np.array([65536, 256, 1])
    counts = np.sort(np.unique(codes, return_counts=True)[1])[::-1]
    assert counts[:20].sum() / counts.sum() > 0.85


def test_manga_has_a_screen_in_its_spectrum() -> None:
    tones = gray(paint(character(), medium="manga", seed=5, aspect="1:1", long_side=512).image)
    window = np.hanning(512)[:, None] * np.hanning(512)
    spectrum = np.abs(np.fft.fft2((tones - tones.mean()) * window))
    fy, fx = np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512), indexing="ij")
    band = (np.hypot(fx, fy) > 0.15) & (np.hypot(fx, fy) < 0.3) & (np.minimum(abs(fx), abs(fy)) > 0.03)
    peak = np.unravel_index(int(np.argmax(np.where(band, spectrum, 0))), spectrum.shape)
    assert spectrum[peak] > 20 * np.median(spectrum[band])
    # The dots stand at 45 degrees.
    assert abs(abs(fx[peak]) - abs(fy[peak])) < 0.01


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_silhouette_is_dark_before_a_bright_sky(subject: str) -> None:
    tones = gray(painted("photo_silhouette", subject).image)
    assert np.median(tones[150:240, 100:156]) < 0.25
    assert tones[:60].mean() > np.median(tones[150:240, 100:156]) + 0.2


@pytest.mark.parametrize("medium", ["photo_rain_night", "photo_alley"])
def test_nights_are_dark(medium: str) -> None:
    assert gray(painted(medium).image).mean() < 0.4


def test_window_light_is_warm_and_the_garage_is_cold() -> None:
    warm = painted("photo_window_light").image.astype(float).mean(axis=(0, 1))
    cold = painted("photo_garage").image.astype(float).mean(axis=(0, 1))
    assert warm[0] / warm[2] > cold[0] / cold[2] + 0.3


def test_close_up_brings_the_head_nearer() -> None:
    def skin(image: U8) -> float:
        red, green, blue = (image[..., c].astype(int) for c in range(3))
        return float(((green > red + 15) & (green > blue + 15)).mean())

    assert skin(painted("photo_close_up").image) > 1.3 * skin(painted("photo_garage").image)


def edges(tones: F64) -> F64:
    small = cv2.resize(tones, (64, 64), interpolation=cv2.INTER_AREA)
    x, y = cv2.Sobel(small, cv2.CV_64F, 1, 0), cv2.Sobel(small, cv2.CV_64F, 0, 1)
    return np.asarray(cv2.GaussianBlur(np.hypot(x, y), (0, 0), 1.2)[8:60, 14:50])


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("medium", STYLISED)
def test_stylised_pictures_keep_the_subjects_edges(medium: str, subject: str) -> None:
    portrait = gray(SUBJECTS[subject]())
    picture = gray(painted(medium, subject).image)
    # Composition may move the subject a little sideways: the best of a few shifts counts.
    best = max(
        float(np.corrcoef(edges(portrait).ravel(), edges(np.roll(picture, shift, axis=1)).ravel())[0, 1])
        for shift in range(-32, 33, 4)
    )
    assert best > 0.35


@pytest.mark.parametrize("medium", [*COLOUR, "photo_subway", "photo_garage"])
def test_the_hair_stays_red_and_the_shirt_purple(medium: str) -> None:
    image = painted(medium).image.astype(int)
    hair, shirt = image[40:88, 90:170], image[215:250, 90:170]
    red = (hair[..., 0] > hair[..., 1] + 35) & (hair[..., 0] > hair[..., 2] + 20)
    purple = (shirt[..., 2] > shirt[..., 1] + 20) & (shirt[..., 0] > shirt[..., 1])
    assert red.mean() > 0.25
    assert purple.mean() > 0.5


@pytest.mark.parametrize("medium", MEDIA)
def test_the_same_call_gives_the_same_pixels_and_another_seed_others(medium: str) -> None:
    def make(seed: int) -> U8:
        return paint(character(96), medium=medium, seed=seed, aspect="4:3", long_side=96).image

    assert np.array_equal(make(1), make(1))
    assert not np.array_equal(make(1), make(2))


@pytest.mark.parametrize("medium", MEDIA)
def test_opencvs_threads_and_history_do_not_matter(medium: str) -> None:
    before = cv2.getNumThreads()
    pictures = []
    try:
        for threads, history in ((1, 1), (4, 99)):
            cv2.setNumThreads(threads)
            cv2.setRNGSeed(history)
            np.random.seed(history)
            pictures.append(paint(photograph(128), medium=medium, seed=1, aspect="16:9", long_side=320).image)
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(*pictures)


def test_another_process_paints_the_same() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from talent_factory.providers.embedded import paint\n"
        "x = np.arange(96 * 96 * 3, dtype=np.int64) ** 2 % 251\n"
        "image = x.astype(np.uint8).reshape(96, 96, 3)\n"
        "for medium in ('woodcut', 'flat_vector', 'photo_alley'):\n"
        "    out = paint(image, medium=medium, seed=4, aspect='1:1', long_side=96).image\n"
        "    print(hashlib.sha256(out.tobytes()).hexdigest())\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        ("16:9", (320, 180)),
        ("9:16", (180, 320)),
        ("1:1", (320, 320)),
        ("4:3", (320, 240)),
        ("21:9", (320, 137)),
    ],
)
def test_the_aspect_is_exact(aspect: str, size: tuple[int, int]) -> None:
    image = paint(character(), medium="mono_vector", seed=1, aspect=aspect, long_side=320).image
    assert (image.shape[1], image.shape[0]) == size


def test_nothing_is_stretched() -> None:
    """A ring stays a ring when the picture grows wider than the portrait."""
    portrait = np.full((256, 256, 3), 200, np.uint8)
    cv2.circle(portrait, (128, 128), 80, (200, 30, 30), cv2.FILLED)
    for aspect in ("16:9", "1:1", "3:4"):
        image = paint(portrait, medium="flat_vector", seed=1, aspect=aspect, long_side=400).image.astype(int)
        red = (image[..., 0] > image[..., 1] + 80) & (image[..., 0] > image[..., 2] + 80)
        rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
        assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.06)


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize(
    "portrait",
    [
        np.full((64, 64, 3), 127, np.uint8),
        np.zeros((64, 400, 3), np.uint8),
        np.full((400, 64, 3), 255, np.uint8),
        np.full((1, 1, 3), 9, np.uint8),
    ],
    ids=["gray", "wide black", "tall white", "one pixel"],
)
def test_featureless_portraits_are_survived(medium: str, portrait: U8) -> None:
    image = paint(portrait, medium=medium, seed=1, aspect="16:9", long_side=96).image
    assert image.shape == (54, 96, 3)
    assert image.dtype == np.uint8


@settings(max_examples=25)
@given(
    medium=st.sampled_from(list(MEDIA)),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    long_side=st.integers(64, 130),
    aspect=st.sampled_from(["16:9", "1:1", "2:3", "1:4", "21:9"]),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_size_is_painted(
    medium: str, height: int, width: int, long_side: int, aspect: str, seed: int
) -> None:
    portrait = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = paint(portrait, medium=medium, seed=seed, aspect=aspect, long_side=long_side).image
    assert max(image.shape[:2]) == long_side
    assert image.flags.c_contiguous


@pytest.mark.parametrize(
    ("image", "kwargs", "words"),
    [
        (character(64), {"medium": "mosaic"}, "mosaic"),
        (character(64), {"medium": "manga", "aspect": "wide"}, "wide"),
        (character(64), {"medium": "manga", "aspect": "100:1"}, "too narrow"),
        (character(64), {"medium": "manga", "long_side": 9}, "64..4096"),
        (np.zeros((8, 8), np.uint8), {"medium": "manga"}, "RGB"),
        (np.zeros((8, 8, 3), np.float32), {"medium": "manga"}, "RGB"),
        (np.zeros((0, 8, 3), np.uint8), {"medium": "manga"}, "RGB"),
    ],
)
def test_impossible_requests_say_why(image: U8, kwargs: dict[str, str], words: str) -> None:
    with pytest.raises(ProviderError, match=words):
        paint(image, seed=1, **kwargs)  # type: ignore[arg-type]


def test_only_photographs_are_called_augmentations() -> None:
    for medium in MEDIA:
        result = paint(character(64), medium=medium, seed=1, aspect="1:1", long_side=64)
        assert result.photographic_augmentation == (medium in PHOTOS)
        assert result.method == MEDIA[medium].method
        assert result.method.rsplit("-", 1)[1].isdigit()
