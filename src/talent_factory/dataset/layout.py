"""Image folders as other tools make and want them: plain, kohya `N_token class`, metadata.jsonl.

What kohya leaves beside images (`.npz` caches, `metadata_cache.json`) is passed over.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from talent_factory.core.errors import DatasetError
from talent_factory.core.files import atomic_folder, name_as_text, write_text
from talent_factory.datagen.cast import CAST_FILE
from talent_factory.datagen.style_cast import STYLE_FILE
from talent_factory.dataset.manifest import DATASET_FILE, IMAGES, DatasetManifest, load_dataset, verify_files

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif"}
)
CAPTION_SUFFIXES = (".txt", ".caption")
METADATA = "metadata.jsonl"

MASK = ".mask.png"

# A project of the kohya_ss window: the subject's folders in `img`, those of the class in general in `reg`.
_OWN, _REGULAR = "img", "reg"
_KOHYA = re.compile(r"(\d{1,5})_(.+)")
_MAX_CAPTION = 16_384
_MAX_METADATA = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """One image of a user's folder; `caption` is None when it has none, `repeats` is a kohya folder's.

    `regular` marks an image of the class in general, from a `reg` folder, which never holds the trigger;
    `mask` is the grey picture `NAME.mask.png` beside it that says where the loss counts.
    """

    path: Path
    name: str
    caption: str | None
    repeats: int = 1
    regular: bool = False
    mask: Path | None = None


def read_folder(folder: Path, *, stray_texts: bool = False) -> list[Source]:
    """The images of `folder` with their captions, in name order.

    Captions come from `NAME.txt` or `NAME.caption` beside the image, or from `metadata.jsonl`; images may lie
    in the folder itself or in kohya subfolders `N_token class`, whose name is the caption where not one of
    their images has one, as in kohya. A project of kohya_ss is read too: those subfolders in `img`, and in
    `reg` subfolders `N_class` with images of the class in general. Masks are `NAME.mask.png` beside an image.
    A prepared dataset gives what its `dataset.json` says, and is refused when its files say something else.
    Hidden files are passed over, and with `stray_texts` texts that belong to no image. Raises DatasetError
    for a missing or empty folder, captions or masks without images, two images of one name, and metadata that
    cannot be read.
    """
    if not folder.exists():
        raise DatasetError(
            f"{folder}: no such folder",
            remedy="check the path, or make images: talent sample data, or talent cast actor PORTRAIT",
        )
    if not folder.is_dir():
        raise DatasetError(
            f"{folder} is a file, not a folder of images", remedy="name the folder that holds them"
        )
    if (folder / DATASET_FILE).is_file() and (folder / IMAGES).is_dir():
        return _read_prepared(folder)
    found = _read_plain(folder, prefix="", repeats=1, default=None, stray_texts=stray_texts)
    found += _read_numbered(folder, prefix="", stray_texts=stray_texts)
    if (folder / _OWN).is_dir():
        found += _read_numbered(folder / _OWN, prefix=f"{_OWN}/", stray_texts=stray_texts)
    if found and (folder / _REGULAR).is_dir():
        found += [
            replace(source, regular=True)
            for source in _read_numbered(folder / _REGULAR, prefix=f"{_REGULAR}/", stray_texts=stray_texts)
        ]
    if not found and any((folder / name).is_file() for name in (CAST_FILE, STYLE_FILE)):
        raise DatasetError(
            f"{folder} is a cast, not a folder of captioned images",
            remedy=f"talent dataset prepare {folder}, then name the dataset it makes",
        )
    if not found:
        raise DatasetError(
            f"{folder} holds no images",
            remedy="put PNG, JPEG or WEBP files with .txt captions in it, or: talent cast actor PORTRAIT",
        )
    return found


def kohya_folder(name: str) -> tuple[int, str] | None:
    """Repeats and text of a folder called `N_token class`, None for any other name."""
    match = _KOHYA.fullmatch(name)
    return (max(1, int(match[1])), name_as_text(match[2]).strip()) if match else None


def is_mask(path: Path) -> bool:
    """Whether a file is the mask of an image, `NAME.mask.png`."""
    return path.name.lower().endswith(MASK)


def write_kohya(dataset: Path, manifest: DatasetManifest, out: Path) -> Path:
    """Write `out/N_token class/NN.png` with `.txt` beside, one folder a repeat count; returns `out`.

    With images of the class in general the folders stand in `out/img` and `out/reg` as in kohya_ss, and masks
    (`NN.png` again, white where the loss counts) in `out/masks`, the `conditioning_data_dir` of sd-scripts.
    """
    both = any(item.regular for item in manifest.items)
    with atomic_folder(_fresh(out)) as folder:
        for item in manifest.items:
            subject = manifest.class_noun if item.regular else f"{manifest.token} {manifest.class_noun}"
            place = folder / (_REGULAR if item.regular else _OWN) if both else folder
            place = place / f"{item.repeats}_{subject.strip() or manifest.kind}"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(dataset / item.file, place / Path(item.file).name)
            (place / Path(item.file).name).with_suffix(".txt").write_text(item.caption + "\n", "utf-8")
            if item.mask is not None:
                (folder / "masks").mkdir(exist_ok=True)
                shutil.copyfile(dataset / item.mask, folder / "masks" / Path(item.file).name)
    return out


def write_image_folder(dataset: Path, manifest: DatasetManifest, out: Path) -> Path:
    """Write `out/images/NN.png` and `out/metadata.jsonl` for Hugging Face's ImageFolder; returns `out`.

    That layout knows no repeats: every image stands in it once.
    """
    with atomic_folder(_fresh(out)) as folder:
        for item in manifest.items:
            (folder / item.file).parent.mkdir(exist_ok=True)
            shutil.copyfile(dataset / item.file, folder / item.file)
        write_metadata_jsonl(folder, manifest)
    return out


def write_metadata_jsonl(dataset: Path, manifest: DatasetManifest) -> Path:
    """Write `metadata.jsonl` (Hugging Face ImageFolder: file_name, text) into the dataset folder."""
    rows = [json.dumps({"file_name": i.file, "text": i.caption}, ensure_ascii=False) for i in manifest.items]
    write_text(dataset / METADATA, "\n".join(rows) + "\n")
    return dataset / METADATA


def _fresh(out: Path) -> Path:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} exists and is not empty", remedy="name a new folder with --out")
    return out


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _read_prepared(folder: Path) -> list[Source]:
    """The images of a dataset that `talent dataset prepare` made, with its captions and repeats.

    An edited text is refused: `dataset.json` is the truth, and to pass over an edit would be to lose it.
    """
    manifest = load_dataset(folder)
    for finding in verify_files(folder, manifest):
        if finding.severity == "error":
            raise DatasetError(f"{folder / finding.subject}: {finding.message}", remedy=finding.remedy)
        if finding.subject.endswith(".txt"):
            raise DatasetError(
                f"{folder / finding.subject} differs from {DATASET_FILE}",
                remedy=f"name {folder / IMAGES} instead to use the edited texts, or prepare it again",
            )
    return [
        Source(
            folder / item.file,
            item.file,
            item.caption,
            item.repeats,
            regular=item.regular,
            mask=None if item.mask is None else folder / item.mask,
        )
        for item in manifest.items
    ]


def _read_numbered(folder: Path, *, prefix: str, stray_texts: bool) -> list[Source]:
    """The images of the kohya subfolders `N_token class` of `folder`."""
    found: list[Source] = []
    for sub in sorted(_visible(folder), key=lambda path: path.name):
        parts = kohya_folder(sub.name) if sub.is_dir() else None
        if parts is not None:
            found += _read_plain(
                sub,
                prefix=f"{prefix}{sub.name}/",
                repeats=parts[0],
                default=parts[1],
                stray_texts=stray_texts,
            )
    return found


def _read_plain(
    folder: Path, *, prefix: str, repeats: int, default: str | None, stray_texts: bool
) -> list[Source]:
    files = [path for path in _visible(folder) if path.is_file()]
    masks = {path.name[: -len(MASK)]: path for path in files if is_mask(path)}
    pictures = (p for p in files if p.suffix.lower() in IMAGE_SUFFIXES and not is_mask(p))
    images = sorted(pictures, key=lambda path: path.name)
    texts = {p.stem: p for p in files if p.suffix.lower() in CAPTION_SUFFIXES and p.stem.lower() != "readme"}
    told = _read_metadata(folder / METADATA) if (folder / METADATA).is_file() else {}
    _refuse_twins(folder, images)
    if not stray_texts:
        _refuse_orphans(folder, images, texts, told)
    _refuse_lone_masks(folder, images, masks)
    captions = {path: _caption_of(path, texts, told) for path in images}
    if default and images and all(caption is None for caption in captions.values()):
        captions = dict.fromkeys(images, default)
    return [
        Source(path, name_as_text(prefix + path.name), captions[path], repeats, mask=masks.get(path.stem))
        for path in images
    ]


def _caption_of(path: Path, texts: dict[str, Path], told: dict[str, str]) -> str | None:
    if path.stem in texts:
        return _read_caption(texts[path.stem])
    return told.get(path.name)


def _read_caption(path: Path) -> str:
    if path.stat().st_size > _MAX_CAPTION:
        raise DatasetError(
            f"{path}: more than {_MAX_CAPTION // 1024} KiB, no caption", remedy="shorten or remove it"
        )
    try:
        return " ".join(path.read_bytes().decode("utf-8-sig").split())
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: not UTF-8 text", remedy="save it as UTF-8") from None


def _read_metadata(path: Path) -> dict[str, str]:
    if path.stat().st_size > _MAX_METADATA:
        raise DatasetError(f"{path}: too large", remedy="split the folder")
    told: dict[str, str] = {}
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            told[Path(str(row["file_name"])).name] = " ".join(str(row["text"]).split())
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DatasetError(
                f"{path} line {number}: no file_name and text in it",
                remedy='write {"file_name": "a.png", "text": "..."} on each line',
            ) from None
    return told


def _refuse_twins(folder: Path, images: list[Path]) -> None:
    stems: dict[str, Path] = {}
    for path in images:
        twin = stems.setdefault(path.stem, path)
        if twin is not path:
            raise DatasetError(
                f"{folder}: {twin.name} and {path.name} would share one caption", remedy="rename one of them"
            )


def _refuse_orphans(folder: Path, images: list[Path], texts: dict[str, Path], told: dict[str, str]) -> None:
    stems = {path.stem for path in images}
    names = {path.name for path in images}
    orphans = sorted(path.name for stem, path in texts.items() if stem not in stems)
    orphans += sorted(f"{METADATA}: {name}" for name in told if name not in names)
    if orphans and (images or told):
        raise DatasetError(
            f"{folder}: {len(orphans)} captions without an image: {few(orphans)}",
            remedy="add the image of that name or remove the caption",
        )
    if orphans:
        raise DatasetError(
            f"{folder} holds captions but no images: {few(orphans)}",
            remedy="put the images of those names beside them",
        )


def _refuse_lone_masks(folder: Path, images: list[Path], masks: dict[str, Path]) -> None:
    stems = {path.stem for path in images}
    lone = sorted(path.name for stem, path in masks.items() if stem not in stems)
    if lone:
        raise DatasetError(
            f"{folder}: {len(lone)} masks without an image: {few(lone)}",
            remedy="call a mask like its image: a.jpg and a.mask.png",
        )


def few(names: list[str]) -> str:
    """The first names of a list, for an error that must stay one line."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
