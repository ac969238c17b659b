"""Contact sheets: many renders on one page, labelled, for a look or a README."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from talent_factory.core.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

_PAPER = (250, 249, 246)
_INK = (52, 50, 56)
_GAP = 12
_LABEL_HEIGHT = 26


def contact_sheet(
    pictures: Sequence[tuple[str, Path]], *, columns: int = 4, cell: int = 256
) -> PillowImage.Image:
    """An RGB sheet of labelled pictures in reading order; each fits a `cell` x `cell` pixel square.

    Raises UsageError when there is nothing to show or a size is not positive.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not pictures or columns < 1 or cell < 16:
        raise UsageError("a contact sheet needs a picture, a column and cells of 16 pixels or more")
    columns = min(columns, len(pictures))
    rows = ceil(len(pictures) / columns)
    step_x, step_y = cell + _GAP, cell + _LABEL_HEIGHT + _GAP
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for index, (label, path) in enumerate(pictures):
        left, top = _GAP + index % columns * step_x, _GAP + index // columns * step_y
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        # Small renders grow by whole pixels' worth of smoothness; large ones shrink.
        scale = cell / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(picture, (left + (cell - size[0]) // 2, top + (cell - size[1]) // 2))
        pen.text((left, top + cell + 5), _fit(label, font, cell), fill=_INK, font=font)
    return sheet


def _fit(label: str, font: object, width: int) -> str:
    """The label, shortened with an ellipsis until it is at most `width` pixels wide."""
    text = " ".join(label.split())
    length = getattr(font, "getlength")  # noqa: B009 - FreeType or bitmap font, both measure
    if length(text) <= width:
        return text
    while text and length(text + "…") > width:
        text = text[:-1]
    return text + "…"
