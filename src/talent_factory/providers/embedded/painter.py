"""One portrait in, one picture out: the table of media and the function that paints any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from talent_factory.core.errors import ProviderError
from talent_factory.core.seeds import derive_seed
from talent_factory.providers.embedded import (
    charcoal,
    comic,
    flat_vector,
    gouache,
    graphite,
    manga,
    mono_vector,
    pen_and_ink,
    photo,
    watercolor,
    woodcut,
)
from talent_factory.providers.embedded.framing import Canvas, canvas_size, frame
from talent_factory.providers.embedded.raster import U8

Draw = Callable[[Canvas, np.random.Generator], U8]


@dataclass(frozen=True)
class Medium:
    """How one medium is painted.

    `zoom` 0 keeps the portrait's framing, 1 fills the picture with the head. An `augmentation` is the
    portrait in another light and place, not a new photograph.
    """

    draw: Draw
    method: str
    augmentation: bool = False
    zoom: float = 0.0


@dataclass(frozen=True)
class Painted:
    """A finished picture (H, W, 3) RGB and how it came about."""

    image: U8
    method: str
    photographic_augmentation: bool


MEDIA: dict[str, Medium] = {
    "pen_and_ink": Medium(pen_and_ink.draw, pen_and_ink.METHOD),
    "graphite": Medium(graphite.draw, graphite.METHOD),
    "charcoal": Medium(charcoal.draw, charcoal.METHOD),
    "woodcut": Medium(woodcut.draw, woodcut.METHOD),
    "mono_vector": Medium(mono_vector.draw, mono_vector.METHOD),
    "manga": Medium(manga.draw, manga.METHOD),
    "comic": Medium(comic.draw, comic.METHOD),
    "flat_vector": Medium(flat_vector.draw, flat_vector.METHOD),
    "watercolor": Medium(watercolor.draw, watercolor.METHOD),
    "gouache": Medium(gouache.draw, gouache.METHOD),
    "photo_rain_night": Medium(photo.rain_night, "augment-rain-night-1", True),
    "photo_close_up": Medium(photo.close_up, "augment-close-up-1", True, zoom=0.8),
    "photo_window_light": Medium(photo.window_light, "augment-window-light-1", True, zoom=0.2),
    "photo_subway": Medium(photo.subway, "augment-subway-1", True),
    "photo_garage": Medium(photo.garage, "augment-garage-1", True),
    "photo_silhouette": Medium(photo.silhouette, "augment-silhouette-1", True),
    "photo_alley": Medium(photo.alley, "augment-alley-1", True),
}


def paint(image_HWC: U8, *, medium: str, seed: int, aspect: str = "16:9", long_side: int = 1360) -> Painted:
    """Paint a portrait (H, W, 3 RGB bytes) in one of `MEDIA`.

    The result has exactly the aspect, rounded to whole pixels, with `long_side` pixels on its longer side.
    The same image, medium, seed, aspect and size give the same pixels, however many threads OpenCV uses.
    Raises ProviderError for an unknown medium, an impossible aspect or size, or an image that is not (H, W,
    3) bytes.
    """
    recipe = MEDIA.get(medium)
    if recipe is None:
        raise ProviderError(
            f"the embedded painter knows no medium {medium!r}", remedy="one of " + ", ".join(MEDIA)
        )
    if (
        image_HWC.ndim != 3
        or image_HWC.shape[2] != 3
        or image_HWC.dtype != np.uint8
        or min(image_HWC.shape) < 1
    ):
        raise ProviderError(
            f"the painter needs an RGB image of bytes, got {image_HWC.dtype} {image_HWC.shape}",
            remedy="pass an array of shape (height, width, 3) and dtype uint8",
        )
    if not 64 <= long_side <= 4096:
        raise ProviderError(
            f"long side {long_side} px is outside 64..4096", remedy="choose a size in that range"
        )
    width, height = canvas_size(aspect, long_side)
    # The matte depends on the portrait alone, so that all pictures of an actor cut the same outline.
    matte_seed = derive_seed("embedded", "matte")
    rng = np.random.default_rng(derive_seed("embedded", medium, recipe.method, seed))
    shift = float(rng.uniform(-0.03, 0.03))
    canvas = frame(image_HWC, width=width, height=height, seed=matte_seed, zoom=recipe.zoom, shift=shift)
    image = np.ascontiguousarray(recipe.draw(canvas, rng))
    return Painted(image, recipe.method, recipe.augmentation)
