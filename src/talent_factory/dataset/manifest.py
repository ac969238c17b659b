"""`dataset.json`, the one truth about a dataset; the `.txt` files beside the images are copies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from talent_factory.core.doctor import Finding
from talent_factory.core.errors import DatasetError, FileError
from talent_factory.core.files import sha256_bytes, sha256_file
from talent_factory.core.records import Record, read_record

DATASET_FILE = "dataset.json"
IMAGES = "images"

Kind = Literal["identity", "style"]
Mode = Literal["crop", "letterbox", "bucket"]

# Relative, forward slashes, no `..`: a manifest from elsewhere must not lead a reader out of its folder.
RelativeFile = Annotated[str, Field(pattern=r"^images/[A-Za-z0-9_-]+\.png$", max_length=200)]
MaskFile = Annotated[str, Field(pattern=r"^images/[A-Za-z0-9_-]+\.mask\.png$", max_length=200)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Item(Record):
    """One image with its caption. Sizes in pixels; `sha256` is over the file; `repeats` as in kohya folders.

    `source` says where it came from, `method` how it was made; `augmentation` marks a picture that is the
    portrait itself in another light, `regular` one of the class in general, whose caption lacks the trigger.
    `mask` is a grey picture of the image's size: where it is white, the loss counts.
    """

    file: RelativeFile
    sha256: Digest
    caption: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    source: str
    method: str = ""
    augmentation: bool = False
    repeats: int = Field(default=1, ge=1, le=10_000)
    regular: bool = False
    mask: MaskFile | None = None
    mask_sha256: Digest | None = None

    @property
    def digest(self) -> str:
        """sha256 over all of it that reaches a trainer: pixels, repeats, caption, and what marks it."""
        marks = (" regular" if self.regular else "") + (f" {self.mask_sha256}" if self.mask_sha256 else "")
        return sha256_bytes(f"{self.sha256} {self.repeats} {self.caption}{marks}".encode())


class DatasetManifest(Record):
    """A dataset: images, captions and what they teach. Order is training order before shuffling.

    `resolution` is the training size in pixels; `source_key` names the inputs it was prepared from, so that
    the same inputs are not prepared twice; `findings` are the remarks of the caption lint.
    """

    version: Literal[1] = 1
    kind: Kind
    token: str
    class_noun: str
    resolution: int = Field(gt=0)
    mode: Mode
    source_key: Digest
    items: tuple[Item, ...] = Field(min_length=1)
    findings: tuple[Finding, ...] = ()

    @property
    def fingerprint(self) -> str:
        """sha256 over all that reaches a trainer: images, captions, repeats, order, size."""
        head = f"{self.version} {self.kind} {self.token} {self.class_noun} {self.resolution}"
        rows = [f"{item.sha256} {item.repeats} {item.caption}" for item in self.items]
        # only sets that have such images say so: the others keep the fingerprint they always had
        rows += [f"{item.file} {item.digest}" for item in self.items if item.regular or item.mask]
        return sha256_bytes("\n".join((head, *rows)).encode())

    @property
    def augmented(self) -> int:
        """How many of the images are augmentations of the portrait."""
        return sum(item.augmentation for item in self.items)


def load_dataset(folder: Path) -> DatasetManifest:
    """The manifest of the dataset in `folder`. Raises DatasetError without a readable one."""
    if not (folder / DATASET_FILE).is_file():
        raise DatasetError(
            f"{folder} holds no {DATASET_FILE}", remedy=f"talent dataset prepare {folder} --out FOLDER"
        )
    try:
        return read_record(folder / DATASET_FILE, DatasetManifest)
    except FileError as error:
        raise DatasetError(
            error.message, remedy="prepare the dataset again: talent dataset prepare"
        ) from error


def verify_files(folder: Path, manifest: DatasetManifest) -> list[Finding]:
    """Compare the files in `folder` with the manifest: missing, changed, unlisted, edited captions."""
    again = "prepare the dataset again: talent dataset prepare"
    findings = []
    for item in manifest.items:
        path = folder / item.file
        if not path.is_file():
            findings.append(
                Finding(severity="error", subject=item.file, message="the image is missing", remedy=again)
            )
        elif sha256_file(path) != item.sha256:
            message = "the image is not the one that was prepared"
            findings.append(Finding(severity="error", subject=item.file, message=message, remedy=again))
        if item.mask is not None:
            findings.extend(_verify_mask(folder, item.mask, item.mask_sha256))
        text = path.with_suffix(".txt")
        if text.is_file() and text.read_text("utf-8", "replace").strip() != item.caption:
            findings.append(
                Finding(
                    severity="warn",
                    subject=text.relative_to(folder).as_posix(),
                    message="the text differs from dataset.json, which is what training reads",
                    remedy="edit captions where the images come from, then prepare again",
                )
            )
    listed = {item.file for item in manifest.items} | {item.mask for item in manifest.items}
    for path in sorted((folder / IMAGES).glob("*.png")):
        name = f"{IMAGES}/{path.name}"
        if name not in listed:
            message = "not listed in dataset.json, hence not used"
            findings.append(Finding(severity="warn", subject=name, message=message, remedy=again))
    return findings


def _verify_mask(folder: Path, name: str, digest: str | None) -> list[Finding]:
    path = folder / name
    same = path.is_file() and sha256_file(path) == digest
    message = "the mask is not the one that was prepared" if path.is_file() else "the mask is missing"
    remedy = "prepare the dataset again: talent dataset prepare"
    return [] if same else [Finding(severity="error", subject=name, message=message, remedy=remedy)]
