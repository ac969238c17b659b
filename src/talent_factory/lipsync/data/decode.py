"""Pictures and audio features from the bytes of a clip's files; what is not as it should be is refused."""

from __future__ import annotations

import io
import zlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from talent_factory.core.errors import ClipError
from talent_factory.lipsync.records import STEPS, WIDTH

VALUES = STEPS * WIDTH
_LARGEST = 4096
_MODES = ("RGB", "RGBA", "L", "LA", "P")
# What follows the sides in the header: 8 bits, RGB, no interlacing.
_RGB8 = bytes([8, 2, 0, 0, 0])
# Chunks that change no pixel; where there are others, Pillow says what they mean.
_PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"tEXt", b"tIME", b"gAMA", b"sRGB"}
_REDO = "make the file anew, or leave the clip out: talent lipsync metadata --check --skip-broken"


def picture(data: bytes, *, size: int | None, where: str) -> NDArray[Any]:
    """A PNG as (S, S, 3) uint8 RGB; brought to `size` pixels a side when that is another.

    Raises:
        ClipError: no whole PNG, not square, or larger than 4096 pixels a side.
    """
    problem = _png_problem(data)
    if problem:
        raise ClipError(f"{where} is no whole PNG ({problem})", remedy=_REDO)
    usual = _usual_picture(data, size)
    if usual is not None:
        return usual
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            width, height = image.size
            if width != height or width > _LARGEST:
                raise ClipError(
                    f"{where} has {width} x {height} pixels, not a square of at most {_LARGEST}", remedy=_REDO
                )
            if image.mode not in _MODES:
                raise ClipError(f"{where} holds pixels of mode {image.mode}, not RGB", remedy=_REDO)
            plain = image if image.mode == "RGB" else image.convert("RGB")
            if size is not None and width != size:
                plain = plain.resize((size, size), Image.Resampling.LANCZOS)
            return np.asarray(plain)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ClipError(f"{where} is no whole PNG ({_first_line(error)})", remedy=_REDO) from None


def plain_picture(data: bytes, side: int, *, size: int | None, where: str) -> NDArray[Any]:
    """RGB bytes as (S, S, 3) uint8, resized as `picture` does; ClipError when they are too few or many."""
    if len(data) != side * side * 3:
        raise ClipError(f"{where} has {len(data)} bytes, {side * side * 3} are due", remedy=_REDO)
    pixels = np.frombuffer(data, np.uint8).reshape(side, side, 3)
    if size is None or size == side:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS))


def picture_size(data: bytes, *, where: str) -> int:
    """Pixels a side, from the first bytes of a PNG; ClipError when it is none or not square."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        raise ClipError(f"{where} is no PNG", remedy=_REDO)
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if width != height:
        raise ClipError(f"{where} has {width} x {height} pixels, not a square", remedy=_REDO)
    return width


def whole_picture_size(data: bytes, *, where: str) -> int:
    """As `picture_size`, from all bytes of a PNG, whose checks have to fit; nothing is decoded."""
    problem = _png_problem(data)
    if problem:
        raise ClipError(f"{where} is no whole PNG ({problem})", remedy=_REDO)
    return picture_size(data, where=where)


def features(data: bytes, *, where: str) -> NDArray[Any]:
    """The .npy of one frame as (10, 384) float32, from any shape of 3,840 numbers in order of time.

    Raises:
        ClipError: another count, no finite floating-point numbers, cut, or pickled objects.
    """
    if data[:6] != b"\x93NUMPY" or len(data) < 10:
        raise ClipError(f"{where} is no .npy file", remedy=_REDO)
    wide = 2 if data[6] == 1 else 4
    start = 8 + wide + int.from_bytes(data[8 : 8 + wide], "little")
    try:
        shape, fortran, dtype = _header(bytes(data[:start]))
    except (ValueError, SyntaxError, TypeError, KeyError, EOFError) as error:
        raise ClipError(f"{where} has no .npy header ({_first_line(error)})", remedy=_REDO) from None
    if dtype.kind != "f" or fortran:
        raise ClipError(f"{where} holds {dtype} numbers, not float32 in rows", remedy=_REDO)
    if int(np.prod(shape)) != VALUES or (shape[-1:] != (WIDTH,) and shape != (VALUES,)):
        raise ClipError(
            f"{where} has the shape {shape}, not {VALUES:,} numbers as ({STEPS}, {WIDTH})", remedy=_REDO
        )
    if len(data) != start + VALUES * dtype.itemsize:
        raise ClipError(
            f"{where} has {len(data)} bytes, {start + VALUES * dtype.itemsize} are due", remedy=_REDO
        )
    values = np.frombuffer(data, dtype, VALUES, start).astype(np.float32).reshape(STEPS, WIDTH)
    # one sum is finite exactly when no part is NaN or infinite (float64 cannot overflow here)
    if not np.isfinite(values.sum(dtype=np.float64)):
        raise ClipError(f"{where} holds numbers that are not finite", remedy=_REDO)
    return values


def _usual_picture(data: bytes, size: int | None) -> NDArray[Any] | None:
    """What nearly all frames are, 8-bit RGB as it is wanted, by the quicker decoder; None for all others."""
    import cv2

    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if width != height or not 0 < width <= _LARGEST or size not in (None, width):
        return None
    if data[12:16] != b"IHDR" or data[24:29] != _RGB8 or not _kinds(data) <= _PLAIN_CHUNKS:
        return None
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if found is None or found.shape != (height, width, 3):
        return None
    return cv2.cvtColor(found, cv2.COLOR_BGR2RGB, dst=found)


def _kinds(data: bytes) -> set[bytes]:
    """The kinds of chunks of a PNG whose chunks are whole."""
    place, found = 8, set()
    while place < len(data):
        found.add(data[place + 4 : place + 8])
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return found


def _png_problem(data: bytes) -> str:
    """What is wrong with the chunks of a PNG: decoders draw what they have of a cut or changed one."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return "another kind of file" if data else "empty"
    view, place = memoryview(data), 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(view[place : place + 4], "big")
        kind = bytes(view[place + 4 : place + 8])
        if end + 4 > len(data):
            break
        if zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return "its bytes were changed"
        if kind == b"IEND":
            return ""
        place = end + 4
    return "cut short"


@lru_cache(maxsize=64)
def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype; nearly all files of a dataset have the same header, so it is read once."""
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects")
    return shape, fortran and len(shape) > 1, dtype


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
