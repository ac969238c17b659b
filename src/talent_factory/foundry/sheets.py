"""Contact sheets: many renders on one page, labelled, for a look or a README."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from talent_factory.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
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
        # Small renders grow by whole pixels' worth of smoothness; large ones shrink.
        picture = _within(_opened(path), (cell, cell))
        sheet.paste(picture, (left + (cell - picture.width) // 2, top + (cell - picture.height) // 2))
        pen.text((left, top + cell + 5), _fit(label, font, cell), fill=_INK, font=font)
    return sheet


def picture_rows(
    rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]], *, cell: int = 128
) -> PillowImage.Image:
    """An RGB sheet with a labelled row for each way that something was drawn, to compare down the columns.

    Each picture (H, W, 3) is scaled to `cell` pixels of height. Raises UsageError when there is nothing to
    show.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not rows or not all(pictures for _, pictures in rows):
        raise UsageError("a sheet of rows needs a picture in each")
    first = rows[0][1][0]
    step_x = round(cell * first.shape[1] / first.shape[0]) + _GAP // 2
    step_y, width = cell + _LABEL_HEIGHT + _GAP // 2, max(len(pictures) for _, pictures in rows)
    sheet = Image.new("RGB", (width * step_x + 2 * _GAP, len(rows) * step_y + 2 * _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for row, (label, pictures) in enumerate(rows):
        top = _GAP + row * step_y
        pen.text((_GAP, top + 4), _fit(label, font, sheet.width - 2 * _GAP), fill=_INK, font=font)
        for column, picture in enumerate(pictures):
            image = Image.fromarray(picture).resize((step_x - _GAP // 2, cell), Image.Resampling.LANCZOS)
            sheet.paste(image, (_GAP + column * step_x, top + _LABEL_HEIGHT))
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


def character_sheet(pictures: Sequence[tuple[str, Path]], *, height: int = 640) -> PillowImage.Image:
    """An RGB sheet with the first picture large at the left and the others in two rows beside it.

    Raises UsageError when there are not two pictures at least.
    """
    from PIL import Image, ImageDraw, ImageFont

    if len(pictures) < 2:
        raise UsageError("a character sheet needs two pictures or more")
    opened = [(label, _opened(path)) for label, path in pictures]
    small = (height - _LABEL_HEIGHT - _GAP) // 2
    per_row = ceil((len(opened) - 1) / 2)
    label, first = opened[0]
    large = _within(first, (round(height * first.width / first.height), height))
    rest = [(label, _within(picture, (small, small))) for label, picture in opened[1:]]
    width = large.width + per_row * (small + _GAP) + 2 * _GAP
    sheet = Image.new("RGB", (width, height + _LABEL_HEIGHT + 2 * _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    sheet.paste(large, (_GAP, _GAP))
    pen.text((_GAP, _GAP + height + 5), _fit(label, font, large.width), fill=_INK, font=font)
    for index, (label, picture) in enumerate(rest):
        left = large.width + 2 * _GAP + index % per_row * (small + _GAP)
        top = _GAP + index // per_row * (small + _LABEL_HEIGHT + _GAP)
        offset = (small - picture.width) // 2, (small - picture.height) // 2
        sheet.paste(picture, (left + offset[0], top + offset[1]))
        pen.text((left, top + small + 5), _fit(label, font, small), fill=_INK, font=font)
    return sheet


def _opened(path: Path) -> PillowImage.Image:
    from PIL import Image

    with Image.open(path) as opened:
        return opened.convert("RGB")


def _within(picture: PillowImage.Image, room: tuple[int, int]) -> PillowImage.Image:
    """The picture as large as the room allows."""
    from PIL import Image

    scale = min(room[0] / picture.width, room[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)
