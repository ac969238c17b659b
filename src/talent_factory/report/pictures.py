"""Pictures as data URIs, so that a page needs nothing but itself."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from talent_factory.core.errors import FileError
from talent_factory.report.content import SheetCell

_MAX_PIXELS = 64_000_000


class Embedded(str):
    """A data URI that knows the picture's size in pixels, so the page does not jump while it loads."""

    width: int
    height: int


def embed(path: Path, *, max_side: int = 640) -> Embedded:
    """The picture as a data URI.

    A picture that already fits keeps its very bytes, recipe chunks included; a larger one becomes a WebP
    whose long side is `max_side` pixels. Raises FileError when it cannot be read.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as image:
            size, kind = image.size, image.format
            if size[0] * size[1] > _MAX_PIXELS:
                raise FileError(f"{path} has {size[0]} x {size[1]} pixels, too many for a page")
            if max(size) > max_side:
                image.draft("RGB", (max_side, max_side))
                small = image.convert("RGB")
                small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
                buffer = io.BytesIO()
                small.save(buffer, "WEBP", quality=84, method=4)
                data, size, kind = buffer.getvalue(), small.size, "WEBP"
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FileError(f"{path} cannot be shown: {error}", remedy="run the same command again") from error
    result = Embedded(f"data:image/{str(kind).lower()};base64,{base64.b64encode(data).decode()}")
    result.width, result.height = size
    return result


def embed_cell(cell: SheetCell, *, max_side: int = 256) -> Embedded:
    """One picture cut out of its sheet, as a WebP data URI. Raises FileError when it cannot be read."""
    try:
        with Image.open(cell.sheet, formats=["PNG"]) as sheet:
            image = sheet.convert("RGB").crop(cell.box)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FileError(f"{cell.sheet} cannot be shown: {error}", remedy="train the config again") from error
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=86, method=4)
    result = Embedded(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    result.width, result.height = image.size
    return result
