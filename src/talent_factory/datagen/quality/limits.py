"""What is normal for each medium: the limits that the checks of one image are graded by.

A silhouette may be black, a flat vector may be soft to a sharpness measure, a woodcut may not hold greys. The
figures were set between the painter's own images, photographs, and those same images spoilt on purpose.
"""

from __future__ import annotations

from talent_factory.core.records import Record

Pair = tuple[float, float]
"""(good, bad): pass up to the first, warn up to the second, fail beyond."""


class Limits(Record):
    """Limits for one medium; None means that the check says nothing about it.

    `sharp` is the Laplacian variance (`measure.sharpness`), least; `dark` and `bright` are shares of pixels
    without detail; `chroma_most` and `chroma_least` are mean chroma; `soft` is the share of grey areas;
    `colours` is how many colours make up 90 % of the picture; `dots` is the least share of tiles with a dot
    screen, where less is a warning only; `face` says that a frontal face may be looked for.
    """

    sharp: Pair | None = None
    dark: Pair | None = None
    bright: Pair | None = None
    chroma_most: Pair | None = None
    chroma_least: float | None = None
    soft: Pair | None = None
    colours: Pair | None = None
    dots: float | None = None
    face: bool = False


# Warm paper and a sepia tone have a chroma of 3 to 8: odd in a black-and-white slot, but no colours.
_GREYS: Pair = (2.5, 7.0)
_PHOTO = Limits(sharp=(40.0, 18.0), dark=(0.35, 0.6), bright=(0.2, 0.45), chroma_least=2.0, face=True)
_NIGHT = _PHOTO.model_copy(update={"dark": (0.6, 0.85)})
_DRAWN = Limits(sharp=(150.0, 40.0), chroma_most=_GREYS)
_PAINTED = Limits(dark=(0.35, 0.6), chroma_least=4.0)

_BY_MEDIUM: dict[str, Limits] = {
    "photo_rain_night": _NIGHT,
    "photo_alley": _NIGHT,
    "photo_garage": _NIGHT,
    "photo_silhouette": Limits(bright=(0.2, 0.45), chroma_least=2.0),
    "pen_and_ink": _DRAWN.model_copy(update={"soft": (0.06, 0.15)}),
    "woodcut": _DRAWN.model_copy(update={"soft": (0.06, 0.15)}),
    "graphite": _DRAWN,
    "charcoal": Limits(sharp=(60.0, 20.0), chroma_most=_GREYS),
    "mono_vector": Limits(chroma_most=_GREYS, colours=(7.0, 12.0)),
    "manga": _DRAWN.model_copy(update={"soft": (0.12, 0.3), "dots": 0.06}),
    "comic": Limits(sharp=(100.0, 30.0), chroma_least=4.0),
    "flat_vector": _PAINTED.model_copy(update={"colours": (24.0, 60.0)}),
    "watercolor": _PAINTED,
    "gouache": _PAINTED,
}
_BY_GROUP: dict[str, Limits] = {
    "photo": _PHOTO,
    "monochrome": Limits(chroma_most=_GREYS),
    "colour": Limits(chroma_least=4.0),
}


def limits_for(medium: str, group: str) -> Limits:
    """The limits of `medium`, else those of its group ("photo", "monochrome", "colour"), else none at all."""
    return _BY_MEDIUM.get(medium) or _BY_GROUP.get(group) or Limits()
