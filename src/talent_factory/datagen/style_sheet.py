"""One picture of a whole style set: the picture it came from and every kept image, numbered."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from talent_factory.core.files import atomic_path
from talent_factory.datagen.style_cast import PICTURE_FILE, StyleCast

SHEET_FILE = "contact_sheet.jpg"
_COLUMNS, _CELL, _GAP, _LINE, _HEADER = 7, 260, 14, 26, 70
_GROUND, _EMPTY, _TEXT, _DIM = (18, 19, 22), (30, 32, 37), (232, 233, 236), (142, 147, 157)


def write_style_sheet(cast: StyleCast, folder: Path) -> None:
    """Draw `folder`/contact_sheet.jpg; places of missing images stay empty and say so. A sheet that shows
    this very set already is left alone.
    """
    target = folder / SHEET_FILE
    comment = f"style-sheet-1 {cast.target} {cast.fingerprint}".encode("ascii")
    if _is_current(target, comment):
        return
    places = 1 + max(cast.target, len(cast.kept))
    rows = -(-places // _COLUMNS)
    width = _COLUMNS * (_CELL + _GAP) + _GAP
    sheet = Image.new("RGB", (width, _HEADER + rows * (_CELL + _LINE + _GAP) + _GAP), _GROUND)
    draw = ImageDraw.Draw(sheet)
    _header(draw, cast, width)
    cells = [(folder / PICTURE_FILE, "the picture", cast.vision)]
    cells += [
        (folder / t.file, f"{t.image:02d}  {t.subject.replace('_', ' ')}", t.category) for t in cast.kept
    ]
    cells += [(folder / "none", "missing", "")] * (places - len(cells))
    for index, (path, name, right) in enumerate(cells):
        left = _GAP + index % _COLUMNS * (_CELL + _GAP)
        top = _HEADER + index // _COLUMNS * (_CELL + _LINE + _GAP)
        _tile(sheet, path, left, top, whole=index == 0)
        draw.text((left + 2, top + _CELL + 4), name, font=_font(15), fill=_TEXT)
        edge = left + _CELL - 2 - draw.textlength(right, font=_font(13))
        draw.text((edge, top + _CELL + 6), right, font=_font(13), fill=_DIM)
    with atomic_path(target) as path:
        sheet.save(path, format="JPEG", quality=90, subsampling=0, comment=comment)


def _header(draw: ImageDraw.ImageDraw, cast: StyleCast, width: int) -> None:
    draw.text((_GAP + 2, 16), cast.token, font=_font(30), fill=_TEXT)
    left = _GAP + 18 + draw.textlength(cast.token, font=_font(30))
    made = f"style  ·  {cast.provider}" + (f"  ·  {cast.method}" if cast.method else "")
    draw.text((left, 28), made, font=_font(16), fill=_DIM)
    text = cast.summary()
    edge = width - _GAP - 2 - draw.textlength(text, font=_font(16))
    draw.text((edge, 28), text, font=_font(16), fill=_DIM)


def _tile(sheet: Image.Image, path: Path, left: int, top: int, *, whole: bool) -> None:
    size = (_CELL, _CELL)
    try:
        with Image.open(path, formats=["PNG"]) as image:
            picture = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):
        sheet.paste(_EMPTY, (left, top, left + _CELL, top + _CELL))
        return
    if whole:
        sheet.paste(ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color=_EMPTY), (left, top))
    else:
        sheet.paste(ImageOps.fit(picture, size, Image.Resampling.LANCZOS), (left, top))


def _is_current(path: Path, comment: bytes) -> bool:
    try:
        with Image.open(path, formats=["JPEG"]) as sheet:
            return bytes(sheet.info.get("comment", b"")) == comment
    except (OSError, SyntaxError, ValueError, struct.error):
        return False


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
