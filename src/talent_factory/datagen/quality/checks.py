"""Every check of one image by itself: frame, sharpness, light, medium, face, and whether it was edited."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from PIL import Image

from talent_factory.datagen.quality import measure
from talent_factory.datagen.quality.face import count_faces
from talent_factory.datagen.quality.likeness import sameness
from talent_factory.datagen.quality.limits import Limits, limits_for
from talent_factory.datagen.quality.verdict import Check, graded, unmeasured

_LIGHT_SIDE = 256
_SHARP_SIDE = 1024
# Providers round sides to multiples of 16 or 32, which moves 16:9 by up to 4 %.
_ASPECT_GOOD, _ASPECT_BAD = 0.05, 0.15


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for: the medium and its group, the aspect "W:H", the long side in pixels.

    `augmentation` marks a picture that is meant to be the portrait in another light; `human` allows looking
    for a face.
    """

    medium: str
    group: str
    aspect: str
    long_side: int
    augmentation: bool = False
    human: bool = True


def check_image(image: Image.Image, asked: Asked, portrait: Image.Image | None = None) -> list[Check]:
    """All checks of `image` that need no other image of the set; `portrait` is what it was made from."""
    limits = limits_for(asked.medium, asked.group)
    return [
        *_frame(image, asked),
        *_light(image, limits),
        *_medium(image, limits),
        _edit(image, asked, portrait),
        _face(image, asked, limits, portrait),
    ]


def _frame(image: Image.Image, asked: Asked) -> list[Check]:
    across, down = (int(part) for part in asked.aspect.split(":"))
    off = abs(log(image.width / image.height) - log(across / down))
    aspect = graded(
        "aspect",
        off,
        good=_ASPECT_GOOD,
        bad=_ASPECT_BAD,
        note=f"{image.width} x {image.height} is not {asked.aspect}",
    )
    wanted = asked.long_side**2 * min(across, down) / max(across, down)
    size = graded(
        "size",
        image.width * image.height / wanted,
        good=0.4,
        bad=0.1,
        least=True,
        note=f"{image.width} x {image.height} is much smaller than asked",
    )
    share, where = measure.bars(measure.pixels_of(image, long_side=_SHARP_SIDE))
    strip = graded("bars", share, good=0.008, bad=0.06, note=f"an empty strip at the {where}")
    return [aspect, size, strip]


def _light(image: Image.Image, limits: Limits) -> list[Check]:
    lab = measure.lab_of(measure.pixels_of(image, long_side=_LIGHT_SIDE))
    spread = measure.contrast(lab)
    checks = [graded("contrast", spread, good=6.0, bad=2.0, least=True, note="hardly anything can be seen")]
    if limits.sharp is not None:
        value = measure.sharpness(measure.pixels_of(image, long_side=_SHARP_SIDE))
        good, bad = limits.sharp
        checks.append(graded("sharpness", value, good=good, bad=bad, least=True, note="blurred"))
    else:
        checks.append(unmeasured("sharpness", "soft by nature"))
    dark, bright = measure.clipped(lab)
    if limits.dark is not None:
        checks.append(
            graded("dark", dark, good=limits.dark[0], bad=limits.dark[1], note=f"{dark:.0%} of it is black")
        )
    if limits.bright is not None:
        good, bad = limits.bright
        checks.append(graded("bright", bright, good=good, bad=bad, note=f"{bright:.0%} of it is white"))
    return checks


def _medium(image: Image.Image, limits: Limits) -> list[Check]:
    """Is it what it says: greys only, colours, ink without washes, few flat colours, a screen of dots?"""
    lab = measure.lab_of(measure.pixels_of(image, long_side=_LIGHT_SIDE))
    value, checks = measure.chroma(lab), []
    if limits.chroma_most is not None:
        good, bad = limits.chroma_most
        spots = measure.coloured_share(lab)
        # a red scarf hardly moves the mean, and yet the picture is not black and white
        shown = max(value, bad if spots > 0.02 else 0.0, bad + 1.0 if spots > 0.08 else 0.0)
        checks.append(
            graded(
                "black_and_white",
                shown,
                good=good,
                bad=bad,
                note="has colours, but was to be black and white",
            )
        )
    if limits.chroma_least is not None:
        least = limits.chroma_least
        note = "grey, but was to be in colour"
        checks.append(graded("in_colour", value, good=least, bad=least / 4, least=True, note=note))
    pixels = measure.pixels_of(image, long_side=_SHARP_SIDE)
    if limits.soft is not None:
        good, bad = limits.soft
        share = measure.soft_tones(pixels)
        checks.append(graded("ink", share, good=good, bad=bad, note="grey washes where only ink belongs"))
    if limits.colours is not None:
        good, bad = limits.colours
        count = measure.colour_count(pixels)
        checks.append(graded("flat_colours", count, good=good, bad=bad, note=f"{count} colours: not flat"))
    if limits.dots is not None:
        share = measure.dot_share(measure.pixels_of(image))
        checks.append(
            graded("screentone", share, good=limits.dots, bad=-1.0, least=True, note="no dot screen found")
        )
    return checks


def _edit(image: Image.Image, asked: Asked, portrait: Image.Image | None) -> Check:
    if portrait is None:
        return unmeasured("edited", "no portrait to compare with")
    in_colour = asked.group != "monochrome"
    good, bad = (0.97, 0.982) if in_colour else (0.985, 0.993)
    if asked.augmentation:  # it is the portrait, and says so; only a plain copy deserves a remark
        good, bad = bad, 1.0
    value = sameness(portrait, image, colour=in_colour)
    note = (
        "the portrait itself, hardly changed" if in_colour else "the portrait without its colours, no drawing"
    )
    return graded("edited", value, good=good, bad=bad, note=note)


def _face(image: Image.Image, asked: Asked, limits: Limits, portrait: Image.Image | None) -> Check:
    if not limits.face:
        return unmeasured("face", "the detector knows photographs with a visible face only")
    if not asked.human:
        return unmeasured("face", "the detector knows human faces only")
    at_home = count_faces(portrait) if portrait is not None else 0
    if at_home is None:
        return unmeasured("face", "scikit-image is not installed")
    if at_home == 0:
        return unmeasured("face", "the detector finds none in the portrait either")
    found = count_faces(image) or 0
    # a profile is no failure: the detector knows frontal faces
    note = "no face seen from the front" if found == 0 else f"{found} faces"
    verdict = graded("face", abs(found - 1), good=0, bad=1_000, note=note)
    return verdict.model_copy(update={"value": float(found), "limit": 1.0})
