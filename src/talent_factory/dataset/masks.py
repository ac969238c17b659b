"""Masks beside images: grey pictures that say where the loss counts, brought to size with their image."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from talent_factory.core.errors import DatasetError
from talent_factory.dataset.frame import fit_mask
from talent_factory.dataset.layout import MASK
from talent_factory.dataset.manifest import Mode

_OTHER_SHAPE = 0.03
_FORMATS = ("PNG",)


def write_mask(
    source: Path | None, image: Image.Image, target: Path, *, resolution: int, mode: Mode
) -> Path | None:
    """Write the mask of `image` beside the prepared picture `target` and return it, None without a `source`.

    `image` is the whole picture before it was cut; the mask gets the same cut. Raises DatasetError for a mask
    that cannot be read, has another shape than its image, or is black everywhere.
    """
    if source is None:
        return None
    mask = _read(source)
    off = abs(mask.width / mask.height / (image.width / image.height) - 1.0)
    if off > _OTHER_SHAPE:
        raise DatasetError(
            f"{source}: {mask.width} x {mask.height} is not the shape of its image, "
            f"{image.width} x {image.height}",
            remedy="make the mask anew from that image",
        )
    fitted = fit_mask(mask, image, resolution=resolution, mode=mode)
    if fitted.getextrema() == (0, 0):
        raise DatasetError(
            f"{source}: black wherever the picture is used, so nothing would be learned from it",
            remedy="paint white what is to be learned, or remove the mask",
        )
    path = target.with_name(target.stem + MASK)
    fitted.save(path, format="PNG", compress_level=6)
    return path


def _read(source: Path) -> Image.Image:
    try:
        with Image.open(source, formats=_FORMATS) as picture:
            return picture.convert("L")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DatasetError(
            f"{source}: cannot be read as a mask ({error})", remedy="save it as a grey PNG"
        ) from error
