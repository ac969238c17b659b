"""Frames are decoded to the same pixels whichever decoder takes them, and broken ones by none."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from talent_factory.core.errors import ClipError
from talent_factory.lipsync.data import decode

SIDE = 24


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def made_png(rows: bytes, *, further: bytes = b"", colour: int = 2, depth: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour, 0, 0, 0)
    stream = chunk(b"IDAT", rows[: len(rows) // 2]) + chunk(b"IDAT", rows[len(rows) // 2 :])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + further + stream + chunk(b"IEND", b"")


def noise(per_row: int, filters: tuple[int, ...] = (0, 1, 2, 3, 4)) -> bytes:
    """Rows of chance, compressed, each with one of the filters in turn."""
    values = np.random.default_rng(7).integers(0, 256, (SIDE, per_row), np.uint8)
    kinds = np.resize(np.array(filters, np.uint8), SIDE)[:, None]
    return zlib.compress(np.concatenate([kinds, values], axis=1).tobytes())


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4])
def test_every_filter_gives_pillows_pixels(kind: int) -> None:
    data = made_png(noise(3 * SIDE, (kind,)))
    found = decode._usual_picture(data, SIDE)
    assert found is not None
    assert np.array_equal(found, by_pillow(data))
    assert np.array_equal(decode.picture(data, size=None, where="x"), found)


def test_chunks_that_change_no_pixel_change_none() -> None:
    gamma, text = chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"tEXt", b"Title\0a head")
    data = made_png(noise(3 * SIDE), further=gamma + text)
    assert decode._usual_picture(data, None) is not None
    assert np.array_equal(decode.picture(data, size=None, where="x"), by_pillow(data))


@pytest.mark.parametrize(
    ("further", "colour", "depth", "per_row"),
    [
        (chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)), 2, 8, 3 * SIDE),
        (chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"), 2, 8, 3 * SIDE),
        (chunk(b"PLTE", bytes(range(256)) * 3), 3, 8, SIDE),
        (b"", 6, 8, 4 * SIDE),
        (b"", 0, 8, SIDE),
        (b"", 2, 16, 6 * SIDE),
    ],
)
def test_unusual_ones_are_left_to_pillow(further: bytes, colour: int, depth: int, per_row: int) -> None:
    data = made_png(noise(per_row), further=further, colour=colour, depth=depth)
    assert decode._usual_picture(data, None) is None
    assert np.array_equal(decode.picture(data, size=None, where="x"), by_pillow(data))


def test_other_sizes_are_left_to_pillow() -> None:
    data = made_png(noise(3 * SIDE))
    assert decode._usual_picture(data, 16) is None
    assert decode.picture(data, size=16, where="x").shape == (16, 16, 3)


@pytest.mark.parametrize(
    "damage", ["half a stream", "another byte", "no checksum", "too few rows", "a filter"]
)
def test_a_broken_stream_in_whole_chunks_is_refused(damage: str) -> None:
    rows = noise(3 * SIDE)
    broken = {
        "half a stream": rows[: len(rows) // 2],
        "another byte": rows[:200] + bytes([rows[200] ^ 255]) + rows[201:],
        "no checksum": rows[:-4] + b"\0\0\0\0",
        "too few rows": zlib.compress(zlib.decompress(rows)[:500]),
        "a filter": noise(3 * SIDE, (0, 7)),
    }[damage]
    with pytest.raises(ClipError, match="x is no whole PNG"):
        decode.picture(made_png(broken), size=None, where="x")
