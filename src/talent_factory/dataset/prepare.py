"""Make a dataset from a cast or from a user's folder; the same inputs are never prepared twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from talent_factory.core.doctor import Finding
from talent_factory.core.errors import DatasetError, PortraitError
from talent_factory.core.files import atomic_folder, json_text, sha256_bytes, sha256_file
from talent_factory.core.records import write_record
from talent_factory.core.workspace import check_token
from talent_factory.datagen.cast import CastManifest, CastSlot, load_cast
from talent_factory.datagen.portrait import normalise
from talent_factory.datagen.quality.verdict import remarks, worst_verdict
from talent_factory.datagen.review.book import ReviewBook, load_review, review_of_images
from talent_factory.dataset.captions import CaptionStyle, cast_caption, portrait_caption
from talent_factory.dataset.frame import background_word, fit
from talent_factory.dataset.given import apart, caption_of, check_triggers, trigger_findings
from talent_factory.dataset.layout import Source, few, read_folder
from talent_factory.dataset.lint import FULL_WORDS, MIN_WORDS, lint_captions
from talent_factory.dataset.manifest import (
    DATASET_FILE,
    IMAGES,
    DatasetManifest,
    Item,
    Kind,
    Mode,
    load_dataset,
    verify_files,
)
from talent_factory.dataset.masks import write_mask
from talent_factory.dataset.shapes import Size, check_resolution, shape_findings
from talent_factory.dataset.tokens import token_findings

# Part of every source key: raise it when the pixels or captions made from the same inputs change.
_METHOD = "prepare-1"
_REPEATS: dict[str, int] = {"photo": 2, "monochrome": 1, "colour": 4}


@dataclass(frozen=True, slots=True)
class _Aim:
    """What a dataset is to become."""

    kind: Kind
    token: str
    class_noun: str
    resolution: int
    mode: Mode
    least_words: int = MIN_WORDS


@dataclass(frozen=True, slots=True)
class _Picture:
    """One image to bring to size; `caption` gets the finished image, since it may name its background."""

    path: Path
    caption: Callable[[Image.Image], str]
    source: str
    method: str = ""
    augmentation: bool = False
    repeats: int = 1
    regular: bool = False
    mask: Path | None = None


def prepare_cast(
    cast: Path,
    *,
    out: Path,
    resolution: int,
    mode: Mode = "crop",
    style: CaptionStyle | None = None,
    include_portrait: bool = False,
) -> DatasetManifest:
    """Turn the finished images of the cast in `cast` into a dataset in `out` and return its manifest.

    Images are brought to `resolution` pixels (see `frame.fit` for `mode`), captions come from the recipe's
    words. Failed slots and images rejected by hand are left out, the latter with a finding; an image that
    failed a check stays in, with a finding, until a person decides. Raises DatasetError when the cast is
    missing, damaged or without images.
    """
    manifest, book = load_cast(cast), load_review(cast)
    check_resolution(resolution)
    words = style or CaptionStyle()
    if not manifest.done:
        raise DatasetError(f"{cast} holds no finished images", remedy=f"talent cast resume {cast}")
    slots = [slot for slot in manifest.done if not book.rejects(slot.sha256)]
    _refuse_none(cast, len(slots), len(manifest.done))
    pictures = [_of_slot(cast, manifest, slot, words, resolution) for slot in slots]
    if include_portrait:
        pictures.append(_of_portrait(cast, manifest, words, resolution))
    notes = _notes(cast, manifest, book)
    inputs = [manifest.fingerprint, resolution, mode, words.model_dump(), include_portrait, _REPEATS]
    key = _key(["cast", *inputs, *_curated(notes, [slot.sha256 for slot in slots])])
    least = FULL_WORDS if words.tells_scenes(manifest, resolution) else MIN_WORDS
    aim = _Aim("identity", manifest.token, manifest.class_noun, resolution, mode, least)
    return _write(pictures, out=out, key=key, aim=aim, notes=notes)


def prepare_folder(
    folder: Path,
    *,
    out: Path,
    kind: Kind,
    token: str,
    class_noun: str,
    resolution: int,
    mode: Mode = "crop",
) -> DatasetManifest:
    """Turn a user's folder of images and captions (see `layout.read_folder`) into a dataset in `out`.

    An identity caption without the token gets "TOKEN CLASS" in front, with a finding. Raises DatasetError
    naming the files for an empty folder, an image without caption, a caption without image, images that
    cannot be read, and a style whose token stands in no caption. Images rejected by hand (`review.json`) are
    left out, with a finding. Images of the class in general (`reg`) are repeated as often as the subject's.
    """
    aim = _Aim(kind, token, class_noun, check_resolution(resolution), mode)
    sources, notes = _captioned(folder, kind=kind, token=token)
    return _prepare_sources(
        folder, sources, out=out, key=_folder_key(sources, aim, notes), aim=aim, notes=notes
    )


def check_folder(folder: Path, *, kind: Kind, token: str) -> None:
    """Raise what `prepare_folder` would, as far as names and captions tell it; decodes no image."""
    _captioned(folder, kind=kind, token=token)


def prepare_cached(
    folder: Path,
    *,
    datasets: Path,
    kind: Kind,
    token: str,
    class_noun: str,
    resolution: int,
    mode: Mode = "crop",
) -> Path:
    """Prepare `folder` below `datasets` under a name made of its contents, unless it is there already."""
    aim = _Aim(kind, token, class_noun, check_resolution(resolution), mode)
    sources, notes = _captioned(folder, kind=kind, token=token)
    key = _folder_key(sources, aim, notes)
    out = datasets / f"{token or kind}-{key[:12]}"
    _prepare_sources(folder, sources, out=out, key=key, aim=aim, notes=notes)
    return out


def check_dataset(folder: Path) -> list[Finding]:
    """All that can be said about the dataset in `folder`: files against the manifest, captions, mixture."""
    manifest = load_dataset(folder)
    findings = verify_files(folder, manifest)
    findings += manifest.findings
    if manifest.augmented:
        count = f"{manifest.augmented} of {len(manifest.items)}"
        message = f"{count} images are augmentations of the portrait, not new photographs"
        findings.append(Finding(severity="ok", subject="mixture", message=message))
    return findings


def _refuse_none(folder: Path, left: int, before: int) -> None:
    if left == 0:
        raise DatasetError(
            f"{folder}: all {before} images were rejected by hand",
            remedy=f"take some back: talent dataset review {folder}",
        )


def _notes(folder: Path, manifest: CastManifest, book: ReviewBook) -> tuple[Finding, ...]:
    """What a person and the checks said of the images of a cast; a person's word silences the checks."""
    rejected = [slot for slot in manifest.done if book.rejects(slot.sha256)]
    doubtful = [
        slot
        for slot in manifest.done
        if book.choice(slot.sha256) is None and worst_verdict(slot.checks) == "fail"
    ]
    notes = list(_left_out([f"{slot.number:02d} {slot.name}" for slot in rejected]))
    for slot in doubtful:
        notes.append(
            Finding(
                severity="warn",
                subject=f"cast slot {slot.number} {slot.name}",
                message=f"failed a check: {'; '.join(remarks(slot.checks))}",
                remedy=f"look at it: talent dataset review {folder.name}",
            )
        )
    return tuple(notes)


def _left_out(names: Sequence[str]) -> tuple[Finding, ...]:
    if not names:
        return ()
    images = "image" if len(names) == 1 else "images"
    message = f"{len(names)} {images} rejected by hand left out: {few(list(names))}"
    return (Finding(severity="ok", subject="review", message=message),)


def _curated(notes: Sequence[Finding], kept: Sequence[str]) -> list[object]:
    """What a review adds to the key of a dataset; nothing, where there is nothing to say."""
    return [[note.model_dump() for note in notes], list(kept)] if notes else []


def _of_slot(
    cast: Path, manifest: CastManifest, slot: CastSlot, style: CaptionStyle, resolution: int
) -> _Picture:
    path = cast / slot.file
    if not path.is_file() or sha256_file(path) != slot.sha256:
        raise DatasetError(
            f"{path} is missing or was changed after casting",
            remedy=f"talent cast resume {path.parent.parent} makes it anew",
        )

    def caption(image: Image.Image) -> str:
        place = background_word(image) if not slot.caption.place else ""
        return cast_caption(manifest, slot, place=place, style=style, resolution=resolution)

    source = f"cast slot {slot.number} {slot.name}"
    return _Picture(path, caption, source, slot.method, slot.augmentation, repeats=_repeats(slot))


def _repeats(slot: CastSlot) -> int:
    """How often an image stands in an epoch: more often, the more it shows of what an actor looks like.

    Without this the six pictures without colour, and the silhouette, teach that the actor is grey.
    """
    return 1 if slot.medium == "photo_silhouette" else _REPEATS[slot.group]


def _of_portrait(cast: Path, manifest: CastManifest, style: CaptionStyle, resolution: int) -> _Picture:
    def caption(image: Image.Image) -> str:
        return portrait_caption(manifest, place=background_word(image), style=style, resolution=resolution)

    return _Picture(
        cast / manifest.portrait.file, caption, "portrait", "original", repeats=_REPEATS["colour"]
    )


def _prepare_sources(
    folder: Path, sources: Sequence[Source], *, out: Path, key: str, aim: _Aim, notes: Sequence[Finding]
) -> DatasetManifest:
    inside, around = out.resolve(), folder.resolve()
    if inside == around or around in inside.parents:
        raise DatasetError(f"{out} lies in the folder that is read", remedy="name another folder with --out")
    told = [*notes, *trigger_findings(sources, token=aim.token)]
    if aim.token:
        told += token_findings(aim.token, class_noun=aim.class_noun)
    pictures = [_of_source(source, aim) for source in apart(sources)]
    return _write(pictures, out=out, key=key, aim=aim, notes=told, judge_shapes=True)


def _of_source(source: Source, aim: _Aim) -> _Picture:
    text = caption_of(source, kind=aim.kind, token=aim.token, class_noun=aim.class_noun)
    return _Picture(
        source.path,
        lambda image: text,
        source.name,
        "given",
        repeats=source.repeats,
        regular=source.regular,
        mask=source.mask,
    )


def _captioned(folder: Path, *, kind: Kind, token: str) -> tuple[list[Source], tuple[Finding, ...]]:
    """The sources of `folder` that were not rejected, each with a caption, and what was left out."""
    if token or kind == "identity":
        check_token(token)
    found, book = read_folder(folder), review_of_images(folder)
    digests = {source.name: sha256_file(source.path) for source in found} if book.images else {}
    gone = [source.name for source in found if book.rejects(digests.get(source.name, ""))]
    sources = [source for source in found if source.name not in gone]
    _refuse_none(folder, len(sources), len(found))
    bare = [source.name for source in sources if not source.caption]
    if bare:
        raise DatasetError(
            f"{folder}: {len(bare)} of {len(sources)} images have no caption: {few(bare)}",
            remedy=f"write {Path(bare[0]).stem}.txt beside it, with the words that describe the picture",
        )
    check_triggers(folder, sources, kind=kind, token=token)
    return sources, _left_out(gone)


def _folder_key(sources: Sequence[Source], aim: _Aim, notes: Sequence[Finding]) -> str:
    rows = [
        [source.name, sha256_file(source.path), source.caption, source.repeats, *_marks(source)]
        for source in sources
    ]
    return _key(
        ["folder", aim.kind, aim.token, aim.class_noun, aim.resolution, aim.mode, rows, *_curated(notes, [])]
    )


def _marks(source: Source) -> list[object]:
    """What only some sources add to the key, so that the others keep the one they always had."""
    return [
        *(["regular"] if source.regular else []),
        *([sha256_file(source.mask)] if source.mask is not None else []),
    ]


def _key(parts: list[object]) -> str:
    return sha256_bytes(json_text([_METHOD, *parts]).encode())


def _write(
    pictures: Sequence[_Picture],
    *,
    out: Path,
    key: str,
    aim: _Aim,
    notes: Sequence[Finding] = (),
    judge_shapes: bool = False,
) -> DatasetManifest:
    """Write images, captions and manifest as one folder that appears whole, unless it is there already."""
    before = _already(out, key)
    if before is not None:
        return before
    with atomic_folder(out) as folder:
        (folder / IMAGES).mkdir()
        made = [_item(picture, folder, number, aim) for number, picture in enumerate(pictures, start=1)]
        items, sizes = tuple(item for item, _ in made), [size for _, size in made]
        shapes = shape_findings(sizes, resolution=aim.resolution, mode=aim.mode) if judge_shapes else []
        manifest = DatasetManifest(
            kind=aim.kind,
            token=aim.token,
            class_noun=aim.class_noun,
            resolution=aim.resolution,
            mode=aim.mode,
            source_key=key,
            items=items,
            findings=(
                *notes,
                *shapes,
                *lint_captions(
                    [(item.file, item.caption) for item in items if not item.regular],
                    kind=aim.kind,
                    token=aim.token,
                    class_noun=aim.class_noun,
                    least_words=aim.least_words,
                ),
            ),
        )
        write_record(folder / DATASET_FILE, manifest)
    return manifest


def _already(out: Path, key: str) -> DatasetManifest | None:
    """The manifest in `out` when it is whole and of the same inputs. Foreign folders are refused."""
    if not out.exists():
        return None
    if out.is_dir() and not any(out.iterdir()):
        return None
    if not (out / DATASET_FILE).is_file():
        raise DatasetError(f"{out} exists and is no dataset", remedy="name a new folder with --out")
    try:
        manifest = load_dataset(out)
    except DatasetError:
        return None
    broken = [f for f in verify_files(out, manifest) if f.severity == "error"]
    return manifest if manifest.source_key == key and not broken else None


def _item(picture: _Picture, folder: Path, number: int, aim: _Aim) -> tuple[Item, Size]:
    """One image at the training size, with its caption and mask, and the size that it had."""
    try:
        whole = normalise(picture.path, max_side=4096, min_side=16).image
    except PortraitError as error:
        raise DatasetError(error.message, remedy=error.remedy or "replace or remove that file") from error
    image = fit(whole, resolution=aim.resolution, mode=aim.mode)
    file = f"{IMAGES}/{number:02d}.png"
    path = folder / file
    image.save(path, format="PNG", compress_level=6)
    caption = picture.caption(image)
    path.with_suffix(".txt").write_text(caption + "\n", "utf-8")
    mask = write_mask(picture.mask, whole, path, resolution=aim.resolution, mode=aim.mode)
    item = Item(
        file=file,
        sha256=sha256_file(path),
        caption=caption,
        width=image.width,
        height=image.height,
        source=picture.source,
        method=picture.method,
        augmentation=picture.augmentation,
        repeats=picture.repeats,
        regular=picture.regular,
        mask=f"{IMAGES}/{mask.name}" if mask else None,
        mask_sha256=sha256_file(mask) if mask else None,
    )
    return item, whole.size
