"""One picture of a whole cast: every slot in order with its verdict, failures as placeholders."""

from __future__ import annotations

import json
import struct
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from talent_factory.core.errors import DatasetError
from talent_factory.core.files import atomic_path, sha256_bytes
from talent_factory.datagen.cast import PORTRAIT_FILE, CastManifest, CastSlot
from talent_factory.datagen.quality.verdict import remarks, worst_verdict
from talent_factory.datagen.review.book import ReviewBook, load_review

_LAYOUT = "sheet-3"
_COLUMNS = 6
_CELL_AREA = 400 * 225  # pixels; the cell takes the aspect of the cast
_GUTTER = 14
_LINE = 48  # title and verdict
_HEADER = 78

_GROUND = (18, 19, 22)
_CELL = (30, 32, 37)
_TEXT = (232, 233, 236)
_DIM = (142, 147, 157)
_AMBER = (226, 176, 92)
_RED = (232, 112, 104)
_GREEN = (111, 207, 151)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def sheet_is_current(cast: CastManifest, path: Path) -> bool:
    """Whether the sheet at `path` shows this very cast and the decisions beside it, by its JPEG comment."""
    try:
        with Image.open(path, formats=["JPEG"]) as sheet:
            return bytes(sheet.info.get("comment", b"")) == _comment(cast, _book(path.parent))
    except (OSError, SyntaxError, ValueError, struct.error):
        return False


def write_contact_sheet(cast: CastManifest, folder: Path, target: Path) -> None:
    """Draw the portrait and the slots of `cast`, whose images lie in `folder`, into the JPEG `target`."""
    sheet = draw_contact_sheet(cast, folder)
    with atomic_path(target) as path:
        sheet.save(path, format="JPEG", quality=90, subsampling=0, comment=_comment(cast, _book(folder)))


def draw_contact_sheet(cast: CastManifest, folder: Path) -> Image.Image:
    """The sheet as an RGB image: a header line, then the cells row by row, the portrait in the first.

    Below each image stand its number, what it is, and what the checks or a person said of it; a rejected
    image is dimmed and crossed out.
    """
    book = _book(folder)
    cell = _cell_size(cast.aspect)
    step = (cell[0] + _GUTTER, cell[1] + _LINE + _GUTTER)
    tiles = 1 + cast.target
    columns = _columns(tiles)
    rows = -(-tiles // columns)
    size = (columns * step[0] + _GUTTER, _HEADER + rows * step[1] + _GUTTER)
    sheet = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(sheet)
    _header(draw, cast, book, size[0])
    for index in range(tiles):
        corner = (_GUTTER + index % columns * step[0], _HEADER + index // columns * step[1])
        if index == 0:
            _tile(sheet, _picture(folder / PORTRAIT_FILE), corner, cell)
            _label(draw, corner, cell, "portrait", f"{cast.portrait.width} x {cast.portrait.height}", _DIM)
            continue
        slot = cast.slots[index - 1]
        picture = _picture(folder / slot.file) if slot.state == "done" else None
        rejected = slot.state == "done" and book.rejects(slot.sha256)
        if picture is None:
            _placeholder(draw, slot, corner, cell)
        else:
            _tile(sheet, picture, corner, cell)
            if rejected:
                _cross_out(sheet, corner, cell)
        right = "augmentation" if slot.augmentation else slot.medium.replace("_", " ")
        fill = _AMBER if slot.augmentation else _DIM
        _label(draw, corner, cell, f"{slot.number:02d}  {slot.title}", right, fill)
        if picture is not None:
            _verdict(draw, slot, book, corner, cell)
    return sheet


def _columns(tiles: int) -> int:
    """Four to six columns, as fill the last row best; of equals the most."""
    if tiles <= _COLUMNS:
        return tiles
    return min(range(_COLUMNS, 3, -1), key=lambda columns: -tiles % columns)


def _book(folder: Path) -> ReviewBook:
    try:
        return load_review(folder)
    except DatasetError:  # whoever reads it for more than a picture will be told
        return ReviewBook()


def _standing(slot: CastSlot, book: ReviewBook) -> tuple[str, tuple[int, int, int]]:
    """What is said of a finished image, a person's word first, and in which colour."""
    choice = book.choice(slot.sha256)
    if choice is not None:
        return ("kept by hand", _GREEN) if choice == "keep" else ("rejected by hand", _RED)
    worst = worst_verdict(slot.checks)
    if worst == "not_measured":
        return ("not measured", _DIM)
    passed = sum(check.verdict == "pass" for check in slot.checks)
    return {
        "pass": (f"passed {passed} checks", _DIM),
        "warn": ("; ".join(remarks(slot.checks)), _AMBER),
        "fail": ("; ".join(remarks(slot.checks)), _RED),
    }[worst]


def _verdict(
    draw: ImageDraw.ImageDraw,
    slot: CastSlot,
    book: ReviewBook,
    corner: tuple[int, int],
    cell: tuple[int, int],
) -> None:
    text, colour = _standing(slot, book)
    left, top = corner[0] + 2, corner[1] + cell[1] + 26
    mark = _GREEN if colour == _DIM and text.startswith("passed") else colour
    draw.ellipse((left, top + 4, left + 8, top + 12), fill=mark)
    draw.text((left + 16, top), _shortened(draw, text, cell[0] - 20), font=_font(13), fill=colour)


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    if draw.textlength(text, font=_font(13)) <= width:
        return text
    while text and draw.textlength(text + "…", font=_font(13)) > width:
        text = text[:-1]
    return text.rstrip(" ;,") + "…"


def _cross_out(sheet: Image.Image, corner: tuple[int, int], cell: tuple[int, int]) -> None:
    box = (*corner, corner[0] + cell[0], corner[1] + cell[1])
    sheet.paste(Image.blend(sheet.crop(box), Image.new("RGB", cell, _GROUND), 0.65), box)
    right, bottom = box[2] - 1, box[3] - 1
    draw = ImageDraw.Draw(sheet)
    draw.line((box[0], box[1], right, bottom), fill=_RED, width=3)
    draw.line((box[0], bottom, right, box[1]), fill=_RED, width=3)
    draw.rectangle((box[0], box[1], right, bottom), outline=_RED, width=2)


def _comment(cast: CastManifest, book: ReviewBook) -> bytes:
    """Names all that the sheet shows: images, words, verdicts and decisions."""
    said = [(slot.title, slot.error, _standing(slot, book)[0] if slot.sha256 else "") for slot in cast.slots]
    digest = sha256_bytes(json.dumps([cast.fingerprint, said]).encode())
    return f"{_LAYOUT} {digest}".encode("ascii")


def _cell_size(aspect: str) -> tuple[int, int]:
    across, down = (int(part) for part in aspect.split(":"))
    ratio = min(3.0, max(1 / 3, across / down))
    height = (_CELL_AREA / ratio) ** 0.5
    return round(height * ratio), round(height)


def _header(draw: ImageDraw.ImageDraw, cast: CastManifest, book: ReviewBook, width: int) -> None:
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
    rejected = sum(book.rejects(slot.sha256) for slot in cast.done)
    open_to_doubt = sum(
        book.choice(slot.sha256) is None and worst_verdict(slot.checks) in ("warn", "fail")
        for slot in cast.done
    )
    text += f"  ·  {open_to_doubt} to look at" if open_to_doubt else ""
    text += f"  ·  {rejected} rejected" if rejected else ""
    fill = _RED if cast.failed else _DIM
    draw.text(
        (width - _GUTTER - 2 - draw.textlength(text, font=_font(16)), 28), text, font=_font(16), fill=fill
    )


def _tile(
    sheet: Image.Image,
    picture: Image.Image | None,
    corner: tuple[int, int],
    cell: tuple[int, int],
) -> None:
    """Paste the whole picture, never a crop of it: an image of another shape must be seen as such."""
    if picture is None:
        sheet.paste(_CELL, (*corner, corner[0] + cell[0], corner[1] + cell[1]))
        return
    fitted = ImageOps.pad(picture, cell, Image.Resampling.LANCZOS, color=_CELL)
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
        with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):
        return None


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
