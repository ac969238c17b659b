"""Which images a kohya training reads, how long its epoch is, and what its folders call the subject."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from talent_factory.dataset.layout import IMAGE_SUFFIXES, is_mask, kohya_folder
from talent_factory.training.kohya.sheet import Sheet
from talent_factory.training.kohya.source import Subset

_FOREIGN = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True, slots=True)
class Images:
    """The folder to train on and what is known of it; `count` is images times repeats, 0 when not there."""

    folder: str = ""
    count: int = 0
    regular: bool = False
    token: str = ""
    class_noun: str = ""

    def epoch(self, *, batch: int, accumulation: int) -> int:
        """Optimiser steps in one epoch of sd-scripts, 0 where the images are not at hand.

        Images of the class double it, as one of them is shown for each of the subject's. Buckets make an
        epoch a few steps longer, which is not counted.
        """
        shown = self.count * (2 if self.regular else 1)
        return math.ceil(math.ceil(shown / batch) / accumulation) if shown else 0


def find_images(sheet: Sheet, subsets: list[Subset]) -> Images:
    """Set `train_data_dir` and the weight of images of the class; returns what is known of the images."""
    weight = sheet.number("prior_loss_weight")
    found = _of_subsets(sheet, subsets) if subsets else _of_folders(sheet)
    if found.regular and weight is not None:
        sheet.put("regular_weight", weight, source="prior_loss_weight", raw=weight)
    if _FOREIGN.match(found.folder) and not Path(found.folder).exists():
        sheet.say(
            "differs", "train_data_dir", found.folder, "a folder of another machine: correct train_data_dir"
        )
    return found


def slug(text: str) -> str:
    """`text` as a token: lower-case letters, digits and _, at most 40 characters; may be empty."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40].strip("_")


def _of_folders(sheet: Sheet) -> Images:
    """`--train_data_dir` holds `N_token class` folders, `--reg_data_dir` folders of the class."""
    folder, regular = str(sheet.take("train_data_dir") or ""), str(sheet.take("reg_data_dir") or "")
    if not folder:
        return Images()
    names = [path for path in _folders(Path(folder)) if kohya_folder(path.name)]
    token, noun = _words_of([_name(path.name) for path in names], sheet)
    count = sum(_repeats(path.name) * count_images(path) for path in names)
    together = _together(folder, regular) if regular else None
    sheet.put("train_data_dir", together or folder, source="train_data_dir", raw=folder)
    if regular and together:
        sheet.say("mapped", "reg_data_dir", regular, "read with the others: images of the class")
    elif regular:
        sheet.say(
            "differs",
            "reg_data_dir",
            regular,
            "not read: gather all images with --collect FOLDER",
        )
    return Images(together or folder, count, bool(together), token, noun)


def _of_subsets(sheet: Sheet, subsets: list[Subset]) -> Images:
    own = [subset for subset in subsets if not subset.regular]
    regular = [subset for subset in subsets if subset.regular]
    if not own:
        return Images()
    token, noun = _words_of([subset.class_tokens for subset in own if subset.class_tokens], sheet)
    count = sum(subset.repeats * count_images(Path(subset.image_dir)) for subset in own)
    folder, first = _common(own), own[0].image_dir
    together = None
    if regular:
        shown = ", ".join(subset.image_dir for subset in regular)
        together = _together(folder or "", _common(regular) or "") if folder else None
        text = "read with the others" if together else "not read: gather all images with --collect FOLDER"
        sheet.say("mapped" if together else "differs", "is_reg", shown, text)
    if folder is None:
        if len(own) > 1:
            rest = ", ".join(subset.image_dir for subset in own[1:])
            sheet.say("differs", "image_dir", rest, "not read: gather all images with --collect FOLDER")
        folder = first
        if own[0].repeats > 1:
            sheet.say("needless", "num_repeats", own[0].repeats, "all images are repeated alike")
    sheet.put("train_data_dir", together or folder, source="image_dir", raw=first)
    return Images(together or folder, count, bool(together), token, noun)


def _common(subsets: list[Subset]) -> str | None:
    """The folder above, when each subset is an `N_token class` folder in it that says its own repeats."""
    parents = {str(Path(subset.image_dir).parent) for subset in subsets}
    named = all(
        kohya_folder(Path(subset.image_dir).name) and _repeats(Path(subset.image_dir).name) == subset.repeats
        for subset in subsets
    )
    return parents.pop() if named and len(parents) == 1 else None


def _together(folder: str, regular: str) -> str | None:
    """The folder that holds both `img` and `reg`, which is read as one dataset."""
    one, other = Path(folder), Path(regular)
    same = folder and regular and one.parent == other.parent
    return str(one.parent) if same and one.name == "img" and other.name == "reg" else None


def _words_of(names: list[str], sheet: Sheet) -> tuple[str, str]:
    """Token and class noun from `token class`, the name of a folder or `class_tokens`."""
    if not names:
        return "", ""
    token, _, noun = names[0].partition(" ")
    for name in dict.fromkeys(names[1:]):
        if slug(name.partition(" ")[0]) != slug(token):
            sheet.say("differs", "class_tokens", name, f"one training has one token: {slug(token)}")
    return slug(token), noun.strip()


def count_images(folder: Path) -> int:
    """The images directly in `folder`, masks not counted; 0 when it does not exist."""
    return sum(path.suffix.lower() in IMAGE_SUFFIXES and not is_mask(path) for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _repeats(name: str) -> int:
    parts = kohya_folder(name)
    return parts[0] if parts else 1


def _name(name: str) -> str:
    parts = kohya_folder(name)
    return parts[1] if parts else ""
