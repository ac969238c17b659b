"""Image numbers as people type them, "1,2,5-7", and what is to become of those images."""

from __future__ import annotations

import re

from talent_factory.core.errors import UsageError
from talent_factory.datagen.review.book import Choice
from talent_factory.datagen.review.gallery import Gallery, Picture

_PART = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def numbers(text: str) -> list[int]:
    """The numbers in "1,2,5-7", in order. Raises UsageError for anything else."""
    found: list[int] = []
    for part in text.replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        if match is None:
            if part:
                raise UsageError(
                    f"{part!r} is no image number", remedy="write numbers as on the sheet: 1,2,5-7"
                )
            continue
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first > 1000:
            raise UsageError(f"{part!r} is no span of numbers", remedy="write the smaller number first: 5-7")
        found.extend(range(first, last + 1))
    return found


def choices_from(
    gallery: Gallery, *, keep: str, reject: str, clear: str
) -> list[tuple[Picture, Choice | None]]:
    """What the three options ask for. Raises UsageError for numbers that are unknown or stand in two."""
    asked: list[tuple[Choice | None, tuple[Picture, ...]]] = [
        ("keep", gallery.by_number(numbers(keep))),
        ("reject", gallery.by_number(numbers(reject))),
        (None, gallery.by_number(numbers(clear))),
    ]
    seen: set[int] = set()
    for _, pictures in asked:
        twice = seen & {picture.number for picture in pictures}
        if twice:
            raise UsageError(
                f"image {min(twice)} is asked for in two ways", remedy="name it in one option only"
            )
        seen |= {picture.number for picture in pictures}
    return [(picture, choice) for choice, pictures in asked for picture in pictures]
