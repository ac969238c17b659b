"""Examine a whole cast: each image by itself, then against its neighbours and against the portrait."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from talent_factory.core.errors import TalentError
from talent_factory.datagen.cast import CastManifest, CastSlot
from talent_factory.datagen.quality.checks import Asked, check_image
from talent_factory.datagen.quality.identity import NAME as IDENTITY
from talent_factory.datagen.quality.identity import Encoder, identity_checks
from talent_factory.datagen.quality.likeness import Trace, colour_distance, distance, trace
from talent_factory.datagen.quality.verdict import Check, Verdict, unmeasured

_NO_ENCODER = "no encoder is configured"
_SAME, _NEAR, _NEAR_OTHER_MEDIUM = 4, 8, 6  # bits of 64
_SAME_COLOUR, _NEAR_COLOUR = 8.0, 14.0  # mean Lab distance


def examine_cast(
    cast: CastManifest, folder: Path, *, encoder: Encoder | None = None, again: bool = False
) -> CastManifest:
    """`cast` with the checks of every finished image filled in; its images lie in `folder`.

    Nothing is read when every finished image has its checks already, unless `again`. An image that cannot be
    read gets a failed check, and an encoder that cannot be used leaves identity unmeasured: nothing raises
    here, as the images are made and paid by now.
    """
    done = cast.done
    if not again and all(_settled(slot, encoder) for slot in done):
        return cast
    portrait = _open(folder / cast.portrait.file)
    checks: list[list[Check]] = []
    traces: list[Trace | None] = []
    for slot in done:  # one picture at a time: a set may hold hundreds
        found, mark = _alone(folder / slot.file, _asked(cast, slot), portrait)
        if mark is not None:
            found.append(_twin(mark, slot, done, traces))
        checks.append(found)
        traces.append(mark)
    for found, check in zip(checks, _identity(done, folder, portrait, encoder), strict=True):
        found.append(check)
    by_number = {slot.number: tuple(found) for slot, found in zip(done, checks, strict=True)}
    slots = tuple(slot.model_copy(update={"checks": by_number.get(slot.number, ())}) for slot in cast.slots)
    return cast.model_copy(update={"slots": slots})


def _alone(path: Path, asked: Asked, portrait: Image.Image | None) -> tuple[list[Check], Trace | None]:
    picture = _open(path)
    if picture is None:
        return [Check(name="readable", verdict="fail", note="the file cannot be read")], None
    return check_image(picture, asked, portrait), trace(picture)


def _identity(
    done: Sequence[CastSlot], folder: Path, portrait: Image.Image | None, encoder: Encoder | None
) -> list[Check]:
    if encoder is None or portrait is None:
        why = _NO_ENCODER if encoder is None else "no portrait to compare with"
        return [unmeasured(IDENTITY, why) for _ in done]
    # an outline has no face to compare
    pictures = (None if slot.medium == "photo_silhouette" else _open(folder / slot.file) for slot in done)
    try:
        return identity_checks(portrait, pictures, encoder)
    except TalentError as error:
        return [unmeasured(IDENTITY, error.message) for _ in done]


def _settled(slot: CastSlot, encoder: Encoder | None) -> bool:
    """Whether all that can be measured was: an encoder that came later has its say, too."""
    waits = any(check.name == IDENTITY and check.note == _NO_ENCODER for check in slot.checks)
    return bool(slot.checks) and not (waits and encoder is not None)


def _asked(cast: CastManifest, slot: CastSlot) -> Asked:
    return Asked(
        medium=slot.medium,
        group=slot.group,
        aspect=cast.aspect,
        long_side=cast.long_side,
        augmentation=slot.augmentation,
        human=cast.actor_type == "human",
    )


def _twin(mine: Trace, slot: CastSlot, done: Sequence[CastSlot], traces: Sequence[Trace | None]) -> Check:
    """How like an earlier image this one is, whose `traces` are given; the first of two is not blamed.

    One pose drawn in two media is no duplicate: the colours of the two must be near as well.
    """
    nearest, limit, note = 64, _NEAR, ""
    verdict: Verdict = "pass"
    for earlier, other in zip(done, traces, strict=False):
        if other is None:
            continue
        bits, mirrored = distance(mine, other)
        colours = colour_distance(mine, other, mirrored=mirrored)
        reach = _NEAR if earlier.medium == slot.medium else _NEAR_OTHER_MEDIUM
        if colours > _NEAR_COLOUR or bits >= nearest:
            continue
        nearest, limit = bits, reach
        same = bits <= _SAME and colours <= _SAME_COLOUR
        verdict = "fail" if same else "warn" if bits <= reach else "pass"
        likeness = "the same as" if same else "much like"
        note = (
            f"{likeness} {earlier.number:02d}{', mirrored' if mirrored else ''}" if verdict != "pass" else ""
        )
    return Check(
        name="duplicate",
        verdict=verdict,
        value=float(nearest),
        limit=float(limit),
        note=note,
    )


def _open(path: Path) -> Image.Image | None:
    try:
        with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return None
