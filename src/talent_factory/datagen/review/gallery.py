"""The images of a folder that a person may decide about: those of a cast, or of any folder of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from talent_factory.core.errors import DatasetError, UsageError
from talent_factory.core.files import sha256_file
from talent_factory.datagen.cast import CAST_FILE, IMAGES, SHEET_FILE, load_cast
from talent_factory.datagen.contact_sheet import write_contact_sheet
from talent_factory.datagen.quality.verdict import Check
from talent_factory.datagen.review.book import Choice, Decision, ReviewBook, decide

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_NOT_SHOWN = frozenset({SHEET_FILE, "portrait.png", "style.png"})


@dataclass(frozen=True, slots=True)
class Picture:
    """One image to decide about: its number in the set, words for people, file, digest and checks."""

    number: int
    title: str
    detail: str
    path: Path
    sha256: str
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Gallery:
    """The images of `folder` in order, and the picture they were made from, if any."""

    folder: Path
    name: str
    pictures: tuple[Picture, ...]
    source: Path | None = None

    def by_number(self, numbers: Iterable[int]) -> tuple[Picture, ...]:
        """The pictures with these numbers. Raises UsageError naming the numbers that are not there."""
        known = {picture.number: picture for picture in self.pictures}
        wanted = list(dict.fromkeys(numbers))
        strange = [str(number) for number in wanted if number not in known]
        if strange:
            raise UsageError(
                f"{self.folder} has no image {', '.join(strange)}",
                remedy=f"the numbers are on the sheet: {_span(sorted(known))}",
            )
        return tuple(known[number] for number in wanted)


def open_gallery(folder: Path) -> Gallery:
    """The images of `folder`. Raises DatasetError for one that is missing, empty, or a prepared dataset."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder", remedy="name a cast, or a folder of images")
    if (folder / "dataset.json").is_file():
        raise DatasetError(
            f"{folder} is a prepared dataset, made anew from its images each time",
            remedy="review the folder it was prepared from, then prepare again",
        )
    gallery = _of_cast(folder) if (folder / CAST_FILE).is_file() else _of_folder(folder)
    if not gallery.pictures:
        raise DatasetError(
            f"{folder} holds no finished images", remedy="make some: talent cast actor PORTRAIT"
        )
    return gallery


def apply(gallery: Gallery, choices: Sequence[tuple[Picture, Choice | None]]) -> ReviewBook:
    """Write the choices down (None takes one back), and draw the sheet of a cast anew."""
    book = decide(
        gallery.folder,
        {
            picture.sha256: None if choice is None else Decision(choice=choice, image=picture.path.name)
            for picture, choice in choices
        },
    )
    redraw(gallery)
    return book


def redraw(gallery: Gallery) -> None:
    """Draw the contact sheet of a cast anew; folders without a cast have none."""
    if (gallery.folder / CAST_FILE).is_file():
        write_contact_sheet(load_cast(gallery.folder), gallery.folder, gallery.folder / SHEET_FILE)


def _of_cast(folder: Path) -> Gallery:
    cast = load_cast(folder)
    pictures = tuple(
        Picture(
            number=slot.number,
            title=slot.title,
            detail="augmentation" if slot.augmentation else slot.medium.replace("_", " "),
            path=folder / slot.file,
            sha256=slot.sha256,
            checks=slot.checks,
        )
        for slot in cast.done
        if (folder / slot.file).is_file()
    )
    source = folder / cast.portrait.file
    return Gallery(folder, cast.token, pictures, source if source.is_file() else None)


def _of_folder(folder: Path) -> Gallery:
    place = folder / IMAGES if (folder / IMAGES).is_dir() else folder
    files = sorted(
        path
        for path in place.iterdir()
        if path.suffix.lower() in _SUFFIXES and path.is_file() and path.name not in _NOT_SHOWN
        if not path.name.startswith(".")
    )
    pictures = tuple(
        Picture(number=number, title=path.stem, detail="", path=path, sha256=sha256_file(path))
        for number, path in enumerate(files, start=1)
    )
    return Gallery(folder, folder.resolve().name, pictures)


def _span(numbers: Sequence[int]) -> str:
    return f"{numbers[0]} to {numbers[-1]}" if numbers else "none"
