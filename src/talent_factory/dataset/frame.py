"""Bring an image to the training size around its subject, and read the colour of its background."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from talent_factory.dataset.manifest import Mode

PAPER = (255, 255, 255)

_ANALYSIS_SIDE = 96
# sRGB anchors of the chromatic words, a strong and a pale one where both carry the name; black, white and
# gray are told by lightness and chroma
_NAMED: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((200, 50, 45), (214, 84, 76)),
    "orange": ((235, 140, 40), (240, 164, 92)),
    "yellow": ((240, 205, 70), (246, 220, 128)),
    "green": ((70, 150, 80), (126, 190, 130)),
    "teal": ((40, 130, 130), (84, 174, 176)),
    "blue": ((60, 100, 190), (104, 154, 222), (186, 214, 236)),
    "purple": ((125, 75, 165), (160, 122, 196)),
    "pink": ((235, 140, 170), (244, 176, 196)),
    "brown": ((110, 70, 45), (150, 105, 70)),
}


def fit(image: Image.Image, *, resolution: int, mode: Mode) -> Image.Image:
    """`image` (RGB, any size) at the training size.

    crop: the largest square around the subject, so the subject keeps its size; resolution x resolution.
    letterbox: the whole picture on white; resolution x resolution.
    bucket: the aspect bucket nearest to the picture's shape, with about resolution^2 pixels (kohya-style).
    """
    if mode == "letterbox":
        return ImageOps.pad(image, (resolution, resolution), Image.Resampling.LANCZOS, color=PAPER)
    target, box = _cut(image, resolution, mode)
    return image.resize(target, Image.Resampling.LANCZOS, box=box)


def fit_mask(mask: Image.Image, image: Image.Image, *, resolution: int, mode: Mode) -> Image.Image:
    """The cut of `mask` (L, of any size, the whole of `image`) that `fit` makes of `image`.

    The paper around a letterboxed picture is outside of every mask.
    """
    whole = mask.resize(image.size, Image.Resampling.BILINEAR)
    if mode == "letterbox":
        return ImageOps.pad(whole, (resolution, resolution), Image.Resampling.BILINEAR, color=0)
    target, box = _cut(image, resolution, mode)
    return whole.resize(target, Image.Resampling.BILINEAR, box=box)


def bucket_step(resolution: int) -> int:
    """Buckets are multiples of this many pixels: 64 as kohya's from 512 px on, 32 below.

    32 is what a VAE of factor 8 and a UNet that halves twice ask for; the embedded base has both.
    """
    return 64 if resolution >= 512 else 32


def buckets(resolution: int) -> tuple[tuple[int, int], ...]:
    """All (width, height) of the bucket grid: sides from half to double the resolution, area <=
    resolution^2.
    """
    step = bucket_step(resolution)
    area = resolution * resolution
    low = max(step, resolution // 2 // step * step)
    found = {(resolution // step * step or step,) * 2}
    for width in range(low, 2 * resolution + 1, step):
        height = area // width // step * step
        if low <= height <= 2 * resolution:
            found.update({(width, height), (height, width)})
    return tuple(sorted(found))


def nearest_bucket(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    """The bucket whose aspect is nearest to `size`; of equals the one with more pixels."""
    aspect = np.log(size[0] / size[1])

    def distance(bucket: tuple[int, int]) -> tuple[float, int]:
        return abs(float(np.log(bucket[0] / bucket[1]) - aspect)), -bucket[0] * bucket[1]

    return min(buckets(resolution), key=distance)


def subject_centre(image: Image.Image) -> tuple[float, float]:
    """Where the subject stands, as (x, y) in 0..1: the centre of what differs from the border.

    A plain saliency that needs no detector and hence works for drawings and creatures too: Lab distance from
    the border's median colour, weighted by a wide Gaussian around the middle.
    """
    lab_HWC = _lab(image, _ANALYSIS_SIDE)
    height, width = lab_HWC.shape[:2]
    edge = max(1, min(height, width) // 12)
    border = np.concatenate(
        [lab_HWC[:edge].reshape(-1, 3), lab_HWC[:, :edge].reshape(-1, 3), lab_HWC[:, -edge:].reshape(-1, 3)]
    )
    distance_HW = np.linalg.norm(lab_HWC - np.median(border, axis=0), axis=2)
    weight_HW = np.clip(distance_HW - 12.0, 0.0, 40.0)
    y, x = np.mgrid[0:height, 0:width]
    x, y = (x + 0.5) / width, (y + 0.5) / height
    weight_HW = weight_HW * np.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) / (2 * 0.3**2)) + 1e-6
    total = float(weight_HW.sum())
    return float((weight_HW * x).sum()) / total, float((weight_HW * y).sum()) / total


def background_word(image: Image.Image) -> str:
    """ "teal background" and the like when the border of `image` is of one colour, else an empty text.

    The strip along the top and the upper sides is looked at, where a portrait shows no shoulders.
    """
    lab_HWC = _lab(image, 32)
    height, width = lab_HWC.shape[:2]
    side = max(1, width // 10)
    upper = lab_HWC[: max(1, height * 6 // 10)]
    strip = np.concatenate(
        [
            lab_HWC[: max(1, height // 12)].reshape(-1, 3),
            upper[:, :side].reshape(-1, 3),
            upper[:, -side:].reshape(-1, 3),
        ]
    )
    middle = np.median(strip, axis=0)
    share = float((np.linalg.norm(strip - middle, axis=1) < 18.0).mean())
    return f"{colour_name(middle)} background" if share >= 0.6 else ""


def colour_name(lab: NDArray[np.float32]) -> str:
    """The nearest of twelve plain colour words for one CIE L*a*b* colour (L 0..100)."""
    lightness, chroma = float(lab[0]), float(np.hypot(lab[1], lab[2]))
    if chroma < 11.0 or lightness < 14.0:
        return "black" if lightness < 28.0 else "white" if lightness > 84.0 else "gray"
    return min(_NAMED, key=lambda name: min(_unlike(lab, _lab_of(rgb)) for rgb in _NAMED[name]))


def _unlike(lab: NDArray[np.float32], anchor: NDArray[np.float32]) -> float:
    """How unlike two colours are in name: hue decides, then lightness; chroma only breaks ties."""
    turn = np.arctan2(lab[2], lab[1]) - np.arctan2(anchor[2], anchor[1])
    hue = abs(float(np.degrees(np.arctan2(np.sin(turn), np.cos(turn)))))
    chroma = abs(float(np.hypot(lab[1], lab[2]) - np.hypot(anchor[1], anchor[2])))
    return hue / 25.0 + abs(float(lab[0] - anchor[0])) / 40.0 + chroma / 90.0


def _cut(
    image: Image.Image, resolution: int, mode: Mode
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The size to come to and the box of `image` that covers it exactly, placed around the subject."""
    target = nearest_bucket(image.size, resolution) if mode == "bucket" else (resolution, resolution)
    width, height = image.size
    aspect = target[0] / target[1]
    crop_w = min(width, max(1, round(height * aspect)))
    crop_h = min(height, max(1, round(width / aspect)))
    x, y = subject_centre(image)
    left = min(max(round(x * width - crop_w / 2), 0), width - crop_w)
    top = min(max(round(y * height - crop_h / 2), 0), height - crop_h)
    return target, (left, top, left + crop_w, top + crop_h)


def _lab(image: Image.Image, side: int) -> NDArray[np.float32]:
    """`image` scaled by area to a long side of `side`, as float CIE L*a*b* (H, W, 3)."""
    scale = side / max(image.size)
    size = (max(4, round(image.width * scale)), max(4, round(image.height * scale)))
    small = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX), np.float32) / 255.0
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), np.float32)


def _lab_of(rgb: tuple[int, int, int]) -> NDArray[np.float32]:
    pixel_HWC = np.array([[rgb]], np.float32) / 255.0
    return np.asarray(cv2.cvtColor(pixel_HWC, cv2.COLOR_RGB2LAB)[0, 0], np.float32)
