"""`review.json`: what a person decided about each image, by the image's digest and hence for good.

The file lies beside the images and is never written by a cast: an image that is made again, byte for byte,
has its decision already, and another image in its place has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from talent_factory.core.errors import DatasetError, FileError
from talent_factory.core.records import Record, read_record, write_record

REVIEW_FILE = "review.json"

Choice = Literal["keep", "reject"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Decision(Record):
    """One decision; `image` is what the image was called then, for people who read the file."""

    choice: Choice
    image: Annotated[str, Field(max_length=200)] = ""


class ReviewBook(Record):
    """All decisions of a folder, by the sha256 of the image file."""

    version: Literal[1] = 1
    images: dict[Digest, Decision] = Field(default_factory=dict)

    def choice(self, sha256: str) -> Choice | None:
        """What was decided about the image with this digest, None for nothing."""
        decision = self.images.get(sha256)
        return decision.choice if decision else None

    def rejects(self, sha256: str) -> bool:
        """Whether the image with this digest was rejected."""
        return self.choice(sha256) == "reject"


def load_review(folder: Path) -> ReviewBook:
    """The decisions kept in `folder`; none yet is an empty book. Raises DatasetError for a damaged file."""
    path = folder / REVIEW_FILE
    if not path.is_file():
        return ReviewBook()
    try:
        return read_record(path, ReviewBook)
    except FileError as error:
        raise DatasetError(
            error.message, remedy="mend it by hand, or move it away and run talent dataset review again"
        ) from error


def review_of_images(folder: Path) -> ReviewBook:
    """Decisions about the images in `folder`: those in it and, for the `images` of a set, those beside it."""
    book = load_review(folder)
    if folder.resolve().name != "images":
        return book
    return ReviewBook(images={**load_review(folder.resolve().parent).images, **book.images})


def decide(folder: Path, decisions: Mapping[str, Decision | None]) -> ReviewBook:
    """Write `decisions` (by sha256; None takes one back) into the book of `folder` and return it."""
    book = load_review(folder)
    images = {**book.images, **{sha: made for sha, made in decisions.items() if made is not None}}
    for sha, made in decisions.items():
        if made is None:
            images.pop(sha, None)
    changed = ReviewBook(images=images)
    if changed != book:
        write_record(folder / REVIEW_FILE, changed)
    return changed
