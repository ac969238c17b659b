"""Which pixels of an image count: painted by hand beside it, or the face that is found in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from talent_factory.core.errors import DatasetError, FileError, UsageError
from talent_factory.core.events import Reporter
from talent_factory.core.files import read_json, write_json
from talent_factory.datagen.quality.face import Box, find_faces
from talent_factory.training.options import LossKeys

Size = tuple[int, int]
Pair = tuple[Tensor, Tensor]

# Raised whenever the code below would find other boxes in the same image.
_VERSION = "faces-1"
# A cascade's box ends at brows and mouth: so much of its sides is added all around for hair, chin and ears.
_MARGIN = 0.3
# What an image may lack, and what to do when all do.
_WANTED = {
    "file": (
        "a painted mask",
        "put NAME.mask.png beside the images and prepare them again, or write loss.mask: none",
    ),
    "face": (
        "a face that can be found",
        "only frontal faces in photographs are found: paint masks and write loss.mask: file, or none",
    ),
}


@dataclass(frozen=True)
class MaskSource:
    """One image: its file, the digest of its bytes, its mask if someone painted one, its latent's (h, w)."""

    image: Path
    sha256: str
    mask: Path | None
    size: Size


def loss_masks(
    sources: Sequence[MaskSource], keys: LossKeys, *, cache: Path, reporter: Reporter
) -> list[Pair] | None:
    """For each image, plain and mirrored, how much each latent pixel counts: (1, h, w) float32 in 0..1.

    None when `keys.mask` is none. An image without mask, or in which no face is found, counts everywhere,
    and the reporter says how many there are. Faces are looked for once: the cache knows them by the image's
    bytes.

    Raises DatasetError when not one image has a mask or one cannot be read, UsageError when there is nobody
    to find faces.
    """
    if keys.mask == "none":
        return None
    masks = _painted(sources) if keys.mask == "file" else _faces(sources, cache, reporter)
    without, (wanted, remedy) = sum(mask is None for mask in masks), _WANTED[keys.mask]
    if without == len(sources):
        raise DatasetError(f"loss.mask {keys.mask}: none of the {without} images has {wanted}", remedy=remedy)
    if without:
        reporter.message(
            f"loss.mask {keys.mask}: {without} of {len(sources)} images lack {wanted}; all their pixels count"
        )
    pairs = zip(masks, sources, strict=True)
    plain = [torch.ones(1, *source.size) if mask is None else mask for mask, source in pairs]
    return [(mask, mask.flip(2).contiguous()) for mask in plain]


def face_mask(boxes: Sequence[Box], size: Size) -> Tensor:
    """The share of each cell of a grid (h, w) that lies in one of the widened boxes: (1, h, w) float32."""
    height, width = size
    mask = torch.zeros(1, height, width, dtype=torch.float64)
    for left, top, right, bottom in boxes:
        dx, dy = _MARGIN * (right - left), _MARGIN * (bottom - top)
        down = _covered(top - dy, bottom + dy, height)
        across = _covered(left - dx, right + dx, width)
        mask = torch.maximum(mask, (down[:, None] * across[None, :])[None])
    return mask.float()


def _covered(start: float, end: float, cells: int) -> Tensor:
    """How much of each of `cells` equal parts of 0..1 lies between `start` and `end`: (cells,) float64."""
    edges = torch.arange(cells + 1, dtype=torch.float64) / cells
    inside = edges.clamp(max(0.0, start), min(1.0, end))
    return (inside[1:] - inside[:-1]) * cells


def _painted(sources: Sequence[MaskSource]) -> list[Tensor | None]:
    return [None if source.mask is None else _read(source.mask, source.size) for source in sources]


def _read(path: Path, size: Size) -> Tensor:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            grey_HW = np.asarray(picture.convert("L"), np.float32) / np.float32(255.0)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(
            f"{path} cannot be read as a mask ({error})",
            remedy="prepare the dataset again: talent dataset prepare",
        ) from None
    return torch.nn.functional.interpolate(torch.from_numpy(grey_HW)[None, None], size=size, mode="area")[0]


def _faces(sources: Sequence[MaskSource], cache: Path, reporter: Reporter) -> list[Tensor | None]:
    masks: list[Tensor | None] = []
    for done, source in enumerate(sources):
        boxes = _boxes(source, cache)
        masks.append(face_mask(boxes, source.size) if boxes else None)
        reporter.progress("faces", done + 1, len(sources), unit="image")
    return masks


def _boxes(source: MaskSource, cache: Path) -> list[Box]:
    """The faces of an image from the cache, or found now."""
    key = hashlib.sha256("\0".join((_VERSION, _finder_version(), source.sha256)).encode()).hexdigest()
    path = cache / f"{key}.json"
    known = _known(path)
    if known is not None:
        return known
    with Image.open(source.image) as image:
        found = find_faces(image)
    boxes = list(found or ())
    write_json(path, [list(box) for box in boxes])
    return boxes


def _known(path: Path) -> list[Box] | None:
    """A cache entry, or None when it is missing or damaged: it is then simply made again."""
    try:
        entry = read_json(path)
        return [(float(a), float(b), float(c), float(d)) for a, b, c, d in entry]
    except (FileError, OSError, TypeError, ValueError):
        return None


def _finder_version() -> str:
    if find_faces(Image.new("RGB", (8, 8))) is None:
        raise UsageError(
            "loss.mask face needs scikit-image to find faces, which is not installed",
            remedy="pip install 'talent-factory[faces]', or write loss.mask: none",
        )
    return version("scikit-image")
