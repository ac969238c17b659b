"""Photos for tests: a drawn person in many places, and one real photograph that a face finder knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter


def textured(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A sharp picture (RGB) that is like no other: coloured patches with hard edges."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.NEAREST)


def write_photos(folder: Path, count: int, *, size: tuple[int, int] = (160, 120)) -> Path:
    """`count` different pictures `00.jpg`, ... in `folder`, without captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        textured(number, size).save(folder / f"{number:02d}.jpg", quality=92)
    return folder


def blurred(image: Image.Image) -> Image.Image:
    """The picture, out of focus."""
    return image.filter(ImageFilter.GaussianBlur(9))


def astronaut() -> Image.Image:
    """The photograph of a smiling woman that scikit-image ships; 512 x 512."""
    from skimage import data

    return Image.fromarray(data.astronaut())
