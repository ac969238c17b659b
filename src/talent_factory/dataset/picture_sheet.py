"""Many pictures on one sheet, each with its name and one remark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont, ImageOps

from talent_factory.core.errors import PortraitError
from talent_factory.datagen.portrait import normalise

_COLUMNS, _CELL, _GUTTER, _LINE, _HEADER = 8, 180, 12, 42, 64
_GROUND, _FIELD = (18, 19, 22), (30, 32, 37)
_TEXT, _DIM = (232, 233, 236), (142, 147, 157)
_AMBER, _RED, _GREEN = (226, 176, 92), (232, 112, 104), (111, 207, 151)
_COLOURS = {"": _GREEN, "warn": _AMBER, "cross": _RED}


Mark = Literal["", "warn", "cross"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a sheet; `mark` is cross for one that is not used, warn for one to look at."""

    path: Path
    name: str
    remark: str
    mark: Mark = ""


def draw_sheet(tiles: Sequence[Tile], *, title: str, subtitle: str) -> Image.Image:
    """The sheet as an RGB image, eight pictures a row; a picture that cannot be read is an empty field."""
    columns = min(_COLUMNS, max(4, len(tiles)))
    step = (_CELL + _GUTTER, _CELL + _LINE + _GUTTER)
    rows = -(-len(tiles) // columns)
    size = (columns * step[0] + _GUTTER, _HEADER + rows * step[1] + _GUTTER)
    sheet = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GUTTER + 2, 16), title, font=_font(26), fill=_TEXT)
    left = _GUTTER + 2 + draw.textlength(title, font=_font(26)) + 16
    draw.text((left, 26), subtitle, font=_font(15), fill=_DIM)
    for index, tile in enumerate(tiles):
        corner = (_GUTTER + index % columns * step[0], _HEADER + index // columns * step[1])
        _tile(sheet, tile, corner)
    return sheet


def _tile(sheet: Image.Image, tile: Tile, corner: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(sheet)
    box = (*corner, corner[0] + _CELL, corner[1] + _CELL)
    sheet.paste(_picture(tile.path), corner)
    if tile.mark == "cross":
        dimmed = Image.blend(sheet.crop(box), Image.new("RGB", (_CELL, _CELL), _GROUND), 0.55)
        sheet.paste(dimmed, box)
        draw.line((box[0], box[1], box[2] - 1, box[3] - 1), fill=_RED, width=3)
        draw.line((box[0], box[3] - 1, box[2] - 1, box[1]), fill=_RED, width=3)
    top = box[3] + 4
    draw.text((corner[0] + 1, top), _shortened(draw, tile.name, _CELL, 14), font=_font(14), fill=_TEXT)
    colour = _COLOURS[tile.mark]
    draw.ellipse((corner[0] + 1, top + 24, corner[0] + 8, top + 31), fill=colour)
    remark = _shortened(draw, tile.remark, _CELL - 14, 12)
    draw.text((corner[0] + 13, top + 20), remark, font=_font(12), fill=colour if tile.mark else _DIM)


def _picture(path: Path) -> Image.Image:
    try:
        whole = normalise(path, max_side=2 * _CELL, min_side=1).image
    except PortraitError:
        return Image.new("RGB", (_CELL, _CELL), _FIELD)
    return ImageOps.pad(whole, (_CELL, _CELL), Image.Resampling.LANCZOS, color=_FIELD)


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int, size: int) -> str:
    if draw.textlength(text, font=_font(size)) <= width:
        return text
    while text and draw.textlength(text + "…", font=_font(size)) > width:
        text = text[:-1]
    return text.rstrip(" ;,") + "…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
