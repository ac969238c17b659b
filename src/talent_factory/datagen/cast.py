"""The record of one cast: which images were planned, which exist, how each was made, what failed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from talent_factory.core.errors import DatasetError, FileError, PartialResult
from talent_factory.core.files import sha256_bytes
from talent_factory.core.records import Record, read_record
from talent_factory.datagen.quality.verdict import Check
from talent_factory.datagen.recipes import CaptionWords, Group

CAST_FILE = "cast.json"
SHEET_FILE = "contact_sheet.jpg"
PORTRAIT_FILE = "portrait.png"
IMAGES = "images"


class PortraitFacts(Record):
    """The portrait as it was used: size in pixels, digest over the pixels, and what had to be converted.

    `medium` and `words` are what the user said of it ("flat"; "neutral", "teal shirt"): true in every image
    made from it, so captions name them and they do not grow into the token.
    """

    file: str = PORTRAIT_FILE
    source: str
    sha256: str
    width: int
    height: int
    notes: tuple[str, ...] = ()
    medium: str = ""
    words: tuple[str, ...] = ()


class CastSlot(Record):
    """One image of the cast. `key` names all that decides its pixels; `augmentation` is the honest label of a
    picture that is the portrait itself in another light, never a newly generated photograph. `seed` is the
    one that was sent, once there is an image; `code` is the kind of a failure ("E005", "LOST"); `url` is
    where the image was delivered to; `error` of a finished image says why it was not. `variation_of` names
    the slot that this one varies; one not `kept` was made, and others are better.
    """

    number: int
    name: str
    title: str
    group: Group
    medium: str
    key: str
    seed: int
    prompt: str
    action: str
    setting: str
    light: str
    caption: CaptionWords
    method: str
    augmentation: bool
    state: Literal["planned", "done", "failed"] = "planned"
    file: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    error: str = ""
    code: str = ""
    job: str = ""
    cost_usd: float = 0.0
    url: str = ""
    variation_of: str = ""
    kept: bool = True
    checks: tuple[Check, ...] = ()


class CastManifest(Record):
    """`cast.json`: the one truth about a cast. Images lie beside it; order is slot order."""

    version: Literal[1] = 1
    recipe: str
    recipe_version: int
    token: str
    actor_type: str
    sex: str | None
    descriptor: str
    class_noun: str
    provider: str
    model: str = ""
    aspect: str
    long_side: int
    provider_options: dict[str, str] = Field(default_factory=dict)
    seed: int
    portrait: PortraitFacts
    keep: int = 0
    safety_requested: int | None = None
    safety_sent: int | None = None
    slots: tuple[CastSlot, ...]

    @property
    def target(self) -> int:
        """How many images the set is to have: those planned, or the best `keep` of them."""
        return min(self.keep or len(self.slots), len(self.slots))

    @property
    def done(self) -> tuple[CastSlot, ...]:
        """Slots whose image exists and is kept, in order."""
        return tuple(slot for slot in self.slots if slot.state == "done" and slot.kept)

    @property
    def made(self) -> tuple[CastSlot, ...]:
        """Slots whose image exists, kept or set aside, in order."""
        return tuple(slot for slot in self.slots if slot.state == "done")

    @property
    def failed(self) -> tuple[CastSlot, ...]:
        """Slots that failed, in order."""
        return tuple(slot for slot in self.slots if slot.state == "failed")

    @property
    def augmented(self) -> int:
        """How many of the images are augmentations of the portrait."""
        return sum(slot.augmentation for slot in self.done)

    @property
    def fingerprint(self) -> str:
        """sha256 over the images and the words that go with them, in order."""
        parts = [
            f"{s.number} {s.name} {s.state if s.kept else 'aside'} {s.sha256} {s.caption.model_dump_json()}"
            for s in self.slots
        ]
        words = (self.token, self.class_noun, self.portrait.medium, *self.portrait.words)
        return sha256_bytes("\n".join((*words, *parts)).encode())

    def summary(self) -> str:
        """One sentence with the counts, augmentations named as such."""
        text = f"{len(self.done)} of {self.target} images"
        if self.augmented:
            text += f"; {self.augmented} of {self.target} made by augmentation, not newly generated"
        return text + (f"; {len(self.failed)} failed" if self.failed else "")

    def counts(self) -> dict[str, object]:
        """The counts for programs, under the names that the Python API will return."""
        return {
            "target_training_images": self.target,
            "total_training_images": len(self.done),
            "augmented": self.augmented,
            "failed": [{"slot": s.name, "number": s.number, "message": s.error} for s in self.failed],
        }

    def require_complete(self) -> None:
        """Raise PartialResult, naming the failed slots, unless every image was made."""
        if len(self.done) >= self.target:
            return
        missing = [slot for slot in self.slots if slot.state != "done"]
        names = ", ".join(slot.name for slot in missing[:5]) + (" ..." if len(missing) > 5 else "")
        reason = next((f" ({slot.error})" for slot in missing if slot.error), "")
        raise PartialResult(
            f"{self.target - len(self.done)} of {self.target} images are missing: {names}{reason}",
            remedy="run the same command again: only the missing ones are made",
        )


def load_cast(folder: Path) -> CastManifest:
    """The manifest of the cast in `folder`. Raises DatasetError when there is none or it cannot be read."""
    if not (folder / CAST_FILE).is_file():
        raise DatasetError(
            f"{folder} holds no {CAST_FILE}", remedy="talent cast actor PORTRAIT --token TOKEN"
        )
    try:
        return read_record(folder / CAST_FILE, CastManifest)
    except FileError as error:
        raise DatasetError(
            error.message,
            remedy="move it away and run talent cast actor again; finished images are taken over",
        ) from error
