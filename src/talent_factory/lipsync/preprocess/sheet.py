"""One picture of what preprocessing made: a row for each clip, with the mask's edge and the sound below."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from talent_factory.core.errors import ClipError
from talent_factory.core.files import atomic_path
from talent_factory.lipsync.audio.wave import RATE, read_wave
from talent_factory.lipsync.records import FRAME_RATE, Clip

SHEET = "contact-sheet-{:03d}.png"
_ROWS = 24
_COLUMNS = 10
_CELL = 112
_GAP = 4
_LABEL = 18
_WAVE = 26
_ROW = _LABEL + _CELL + _WAVE + 3 * _GAP
_GROUND, _TEXT, _DIM = (18, 19, 22), (232, 233, 236), (142, 147, 157)
_EDGE, _SOUND = (226, 176, 92), (111, 160, 207)


def write_sheets(root: Path, clips: Sequence[Clip], *, frames: str, waves: str) -> tuple[Path, ...]:
    """Draw the clips of a dataset, 24 to a picture, into `root`/contact-sheet-001.png and so on.

    Raises:
        ClipError: a frame of a clip is missing or damaged.
    """
    paths = []
    for number, start in enumerate(range(0, len(clips), _ROWS), start=1):
        path = root / SHEET.format(number)
        sheet = draw_sheet(root, clips[start : start + _ROWS], frames=frames, waves=waves)
        with atomic_path(path) as temporary:
            sheet.save(temporary, format="PNG")
        paths.append(path)
    return tuple(paths)


def draw_sheet(root: Path, clips: Sequence[Clip], *, frames: str, waves: str) -> Image.Image:
    """The sheet of some clips as an RGB picture; ten frames of each, evenly spread over it."""
    width = _GAP + _COLUMNS * (_CELL + _GAP)
    sheet = Image.new("RGB", (width, _GAP + len(clips) * _ROW), _GROUND)
    for row, clip in enumerate(clips):
        top = _GAP + row * _ROW
        _draw_row(sheet, root / frames / clip.name, clip, top)
        wave = root / waves / f"{clip.name}.wav"
        if wave.is_file():
            _draw_wave(sheet, read_wave(wave), top + _LABEL + _CELL + _GAP)
    return sheet


def _draw_row(sheet: Image.Image, folder: Path, clip: Clip, top: int) -> None:
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    count = len(clip.frames)
    label = f"{clip.name}   {count} frames, {count / FRAME_RATE:.1f} s"
    pen.text((_GAP, top + 1), label, fill=_TEXT, font=font)
    for column, index in enumerate(_spread(count)):
        left = _GAP + column * (_CELL + _GAP)
        path = folder / f"{clip.frames[index]}.png"
        try:
            with Image.open(path) as opened:
                face = opened.convert("RGB").resize((_CELL, _CELL), Image.Resampling.BOX)
        except (OSError, SyntaxError, ValueError):
            raise ClipError(
                f"{path} is missing or damaged", remedy="delete the clip's folder and preprocess again"
            ) from None
        sheet.paste(face, (left, top + _LABEL))
        # only beside the face, so that it hides nothing
        middle = top + _LABEL + _CELL // 2
        for start in (left, left + _CELL - 12):
            pen.line((start, middle, start + 11, middle), fill=_EDGE)
        number = ImageFont.load_default(size=9)
        place = (left + 3, top + _LABEL + 1)
        pen.text(place, clip.frames[index], fill=_TEXT, font=number, stroke_width=1, stroke_fill=_GROUND)


def _spread(count: int) -> list[int]:
    shown = min(count, _COLUMNS)
    return [round(n * (count - 1) / max(1, shown - 1)) for n in range(shown)]


def _draw_wave(sheet: Image.Image, wave: NDArray[Any], top: int) -> None:
    """The loudness over the whole clip: a line for each column of pixels; seconds are marked."""
    pen = ImageDraw.Draw(sheet)
    wide, middle = sheet.width - 2 * _GAP, top + _WAVE // 2
    edges = np.linspace(0, len(wave), wide + 1).astype(int)
    peaks = [float(np.abs(wave[a:b]).max(initial=0.0)) for a, b in pairwise(edges)]
    for x, peak in enumerate(peaks):
        half = min(1.0, peak) * (_WAVE // 2 - 1)
        pen.line((_GAP + x, middle - half, _GAP + x, middle + half), fill=_SOUND)
    for second in range(int(len(wave) / RATE) + 1):
        tick = _GAP + second * RATE / max(1, len(wave)) * wide
        pen.line((tick, top + _WAVE - 3, tick, top + _WAVE), fill=_DIM)
