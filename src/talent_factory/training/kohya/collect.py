"""Gather the image folders of a kohya training into one folder, as one training reads it here."""

from __future__ import annotations

import shutil
from pathlib import Path

from talent_factory.core.errors import ConfigError, DatasetError
from talent_factory.core.files import atomic_folder
from talent_factory.dataset.layout import CAPTION_SUFFIXES, IMAGE_SUFFIXES, MASK, is_mask, kohya_folder
from talent_factory.training.kohya.source import Subset, read_asked


def collect_images(file: Path, *, out: Path) -> int:
    """Copy the images that the training in `file` reads into `out`; returns how many.

    `out/img/N_token class` holds the subject's images and `out/reg/N_class` those of the class. Captions get
    their prefix and suffix, masks of `conditioning_data_dir` lie as `NAME.mask.png` beside their image. The
    originals stay as they are. Raises ConfigError without folders, DatasetError when one is missing or empty,
    or `out` is not new.
    """
    subsets = _folders(file)
    if not subsets:
        raise ConfigError(f"{file} names no image folders", remedy="name the folder with --data instead")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} exists and is not empty", remedy="name a new folder with --collect")
    total = 0
    with atomic_folder(out) as folder:
        for number, subset in enumerate(subsets, start=1):
            total += _copy(subset, folder, number=number)
    return total


def _folders(file: Path) -> list[Subset]:
    """The image folders as subsets, whichever way the training names them."""
    asked = read_asked(file)
    if asked.subsets:
        return asked.subsets
    found: list[Subset] = []
    for option, regular in (("train_data_dir", False), ("reg_data_dir", True)):
        top = Path(str(asked.values.get(option) or ""))
        for path in sorted(top.iterdir()) if asked.values.get(option) and top.is_dir() else []:
            parts = kohya_folder(path.name) if path.is_dir() else None
            if parts:
                found.append(Subset(str(path), asked.values, parts[0], parts[1], regular))
    return found


def _copy(subset: Subset, folder: Path, *, number: int) -> int:
    source = Path(subset.image_dir)
    if not source.is_dir():
        raise DatasetError(f"{source}: no such folder of images", remedy="run this where it can be found")
    words = (subset.class_tokens or Path(subset.image_dir).name).replace("/", " ").replace("\\", " ")
    place = folder / ("reg" if subset.regular else "img") / f"{subset.repeats}_{words}"
    place.mkdir(parents=True, exist_ok=True)
    masks = _masks(subset)
    count = 0
    for path in sorted(source.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or is_mask(path):
            continue
        # two folders may hold a picture of one name
        target = place / f"{number}_{path.name}"
        shutil.copyfile(path, target)
        caption = _caption(path, subset)
        if caption:
            target.with_suffix(".txt").write_text(caption + "\n", "utf-8")
        if path.stem in masks:
            shutil.copyfile(masks[path.stem], target.with_name(target.stem + MASK))
        count += 1
    if not count:
        raise DatasetError(f"{source} holds no images", remedy="correct image_dir")
    return count


def _caption(path: Path, subset: Subset) -> str:
    """The caption with what the config puts around it; the class tokens where there is none, as in kohya."""
    asked = str(subset.options.get("caption_extension") or "")
    for suffix in dict.fromkeys([asked, *CAPTION_SUFFIXES] if asked else CAPTION_SUFFIXES):
        beside = path.with_suffix(suffix)
        if beside.is_file():
            text = beside.read_text("utf-8", "replace").strip()
            break
    else:
        text = subset.class_tokens
    before, after = (str(subset.options.get(key) or "") for key in ("caption_prefix", "caption_suffix"))
    return " ".join(f"{before}{text}{after}".split())


def _masks(subset: Subset) -> dict[str, Path]:
    folder = subset.options.get("conditioning_data_dir")
    if folder and Path(str(folder)).is_dir():
        return {path.stem: path for path in Path(str(folder)).iterdir() if path.suffix.lower() == ".png"}
    return {path.name[: -len(MASK)]: path for path in Path(subset.image_dir).iterdir() if is_mask(path)}
