"""One picture of a whole cast: the portrait and every slot in order, failures as placeholders."""

from __future__ import annotations

import struct
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from talent_factory.core.files import atomic_path
from talent_factory.datagen.cast import PORTRAIT_FILE, CastManifest, CastSlot

_LAYOUT = "sheet-1"
_COLUMNS = 6
_CELL_AREA = 400 * 225  # pixels; the cell takes the aspect of the cast
_GUTTER = 14
_LINE = 26
_HEADER = 78

_GROUND = (18, 19, 22)
_CELL = (30, 32, 37)
_TEXT = (232, 233, 236)
_DIM = (142, 147, 157)
_AMBER = (226, 176, 92)
_RED = (232, 112, 104)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def sheet_is_current(cast: CastManifest, path: Path) -> bool:
    """Whether the sheet at `path` was drawn from this very cast: its JPEG comment holds the fingerprint."""
    try:
        with Image.open(path, formats=["JPEG"]) as sheet:
            return bytes(sheet.info.get("comment", b"")) == _comment(cast)
    except (OSError, SyntaxError, ValueError, struct.error):
        return False


def write_contact_sheet(cast: CastManifest, folder: Path, target: Path) -> None:
    """Draw the portrait and the slots of `cast`, whose images lie in `folder`, into the JPEG `target`."""
    sheet = draw_contact_sheet(cast, folder)
    with atomic_path(target) as path:
        sheet.save(path, format="JPEG", quality=90, subsampling=0, comment=_comment(cast))


def draw_contact_sheet(cast: CastManifest, folder: Path) -> Image.Image:
    """The sheet as an RGB image: a header line, then cells of `_COLUMNS` a row, the portrait in the first."""
    cell = _cell_size(cast.aspect)
    step = (cell[0] + _GUTTER, cell[1] + _LINE + _GUTTER)
    tiles = 1 + cast.target
    columns = min(_COLUMNS, tiles)
    rows = -(-tiles // columns)
    size = (columns * step[0] + _GUTTER, _HEADER + rows * step[1] + _GUTTER)
    sheet = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(sheet)
    _header(draw, cast, size[0])
    for index in range(tiles):
        corner = (_GUTTER + index % columns * step[0], _HEADER + index // columns * step[1])
        if index == 0:
            _tile(sheet, _picture(folder / PORTRAIT_FILE), corner, cell, whole=True)
            _label(draw, corner, cell, "portrait", f"{cast.portrait.width} x {cast.portrait.height}", _DIM)
            continue
        slot = cast.slots[index - 1]
        picture = _picture(folder / slot.file) if slot.state == "done" else None
        if picture is None:
            _placeholder(draw, slot, corner, cell)
        else:
            _tile(sheet, picture, corner, cell, whole=False)
        right = "augmentation" if slot.augmentation else slot.medium.replace("_", " ")
        _label(
            draw,
            corner,
            cell,
            f"{slot.number:02d}  {slot.title}",
            right,
            _AMBER if slot.augmentation else _DIM,
        )
    return sheet


def _comment(cast: CastManifest) -> bytes:
    return f"{_LAYOUT} {cast.fingerprint}".encode("ascii")


def _cell_size(aspect: str) -> tuple[int, int]:
    across, down = (int(part) for part in aspect.split(":"))
    ratio = min(3.0, max(1 / 3, across / down))
    height = (_CELL_AREA / ratio) ** 0.5
    return round(height * ratio), round(height)


def _header(draw: ImageDraw.ImageDraw, cast: CastManifest, width: int) -> None:
    draw.text((_GUTTER + 2, 16), cast.token, font=_font(30), fill=_TEXT)
    left = _GUTTER + 2 + draw.textlength(cast.token, font=_font(30)) + 16
    draw.text(
        (left, 28), f"{cast.descriptor}  ·  {cast.recipe}  ·  {cast.provider}", font=_font(16), fill=_DIM
    )
    text = f"{len(cast.done)} of {cast.target} images"
    if cast.augmented:
        text += f"  ·  {cast.augmented} by augmentation"
    if cast.failed:
        text += f"  ·  {len(cast.failed)} failed"
    fill = _RED if cast.failed else _DIM
    draw.text(
        (width - _GUTTER - 2 - draw.textlength(text, font=_font(16)), 28), text, font=_font(16), fill=fill
    )


def _tile(
    sheet: Image.Image,
    picture: Image.Image | None,
    corner: tuple[int, int],
    cell: tuple[int, int],
    *,
    whole: bool,
) -> None:
    if picture is None:
        sheet.paste(_CELL, (*corner, corner[0] + cell[0], corner[1] + cell[1]))
        return
    if whole:
        fitted = ImageOps.pad(picture, cell, Image.Resampling.LANCZOS, color=_CELL)
    else:
        fitted = ImageOps.fit(picture, cell, Image.Resampling.LANCZOS)
    sheet.paste(fitted, corner)


def _placeholder(
    draw: ImageDraw.ImageDraw, slot: CastSlot, corner: tuple[int, int], cell: tuple[int, int]
) -> None:
    left, top = corner
    right, bottom = left + cell[0] - 1, top + cell[1] - 1
    failed = slot.state == "failed"
    draw.rectangle((left, top, right, bottom), fill=_CELL, outline=_RED if failed else _DIM)
    word = "failed" if failed else "missing"
    draw.text((left + 16, top + 14), word, font=_font(20), fill=_RED if failed else _DIM)
    lines = textwrap.wrap(slot.error, width=max(12, (cell[0] - 32) // 8))[:5]
    for number, line in enumerate(lines):
        draw.text((left + 16, top + 46 + 20 * number), line, font=_font(14), fill=_DIM)


def _label(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    cell: tuple[int, int],
    name: str,
    right: str,
    right_fill: tuple[int, int, int],
) -> None:
    top = corner[1] + cell[1] + 5
    draw.text((corner[0] + 2, top), name, font=_font(16), fill=_TEXT)
    width = draw.textlength(right, font=_font(13))
    if width + draw.textlength(name, font=_font(16)) + 12 <= cell[0]:
        draw.text((corner[0] + cell[0] - 2 - width, top + 3), right, font=_font(13), fill=right_fill)


def _picture(path: Path) -> Image.Image | None:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):
        return None


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
