"""Pictures that are none, that are two things at once, or that unfold to more than a computer holds."""

from __future__ import annotations

import io
import random
import struct
import zlib

from PIL import Image


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk with its length and check sum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, body: bytes | None = None, *, extra: bytes = b"", colour: int = 2) -> bytes:
    """A PNG of any stated size; `body` are its (packed) rows, `extra` chunks stand before them."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    rows = zlib.compress(bytes((3 * width + 1) * height)) if body is None else body
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + png_chunk(b"IDAT", rows)
        + png_chunk(b"IEND", b"")
    )


def picture(kind: str, side: int = 24, **options: object) -> bytes:
    """A good picture of a kind that Pillow writes."""
    stream = io.BytesIO()
    Image.effect_noise((side, side), 40).convert("RGB").save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def animation(kind: str) -> bytes:
    """Two frames."""
    frames = [Image.new("RGB", (24, 24), (shade, 0, 0)) for shade in (10, 200)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header states another size than its data have."""
    raw = bytearray(picture("JPEG"))
    start = raw.index(b"\xff\xc0")
    raw[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(raw)


def webp_of(width: int, height: int) -> bytes:
    """A lossless WebP whose header states a size up to 16,384 a side."""
    bits = (width - 1) | (height - 1) << 14
    body = b"\x2f" + struct.pack("<I", bits) + bytes(60)
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def place() -> bytes:
    """A JPEG that says where it was taken."""
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.0), 3: "E", 4: (16.0, 22.0, 0.0)})
    return picture("JPEG", exif=exif)


_SCRAMBLED = random.Random(0).randbytes(500)
_PNG, _JPEG, _WEBP = picture("PNG"), picture("JPEG"), picture("WEBP", lossless=True)
_ZIP = b"PK\x03\x04" + bytes(40) + b"PK\x05\x06" + bytes(18)

# name -> the bytes, and words that the refusal must hold ("" for any)
IMAGES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "neither"),
    "one letter": (b"x", "neither"),
    "text": (b"placeholder for an image", "neither"),
    "a GIF": (picture("GIF"), "neither"),
    "a BMP": (picture("BMP"), "neither"),
    "a TIFF": (picture("TIFF"), "neither"),
    "an icon": (picture("ICO"), "neither"),
    "a drawing in SVG": (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "neither"),
    "a page": (b"<!doctype html><script>alert(1)</script>", "neither"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "neither"),
    "a PDF": (b"%PDF-1.7\n", "neither"),
    "a zip": (_ZIP, "neither"),
    "a program": (b"\x7fELF" + bytes(60), "neither"),
    "FITS": (b"SIMPLE  =                    T" + b" " * 50, "neither"),
    "a PNG's first bytes": (_PNG[:8], ""),
    "a PNG of its header": (_PNG[:33], ""),
    "half a PNG": (_PNG[: len(_PNG) // 2], "ends before"),
    "a PNG without its end": (_PNG[:-12], "ends before"),
    "a PNG and a zip": (_PNG + _ZIP, "follow the end"),
    "a PNG and a page": (_PNG + b"<script>alert(1)</script>", "follow the end"),
    "a PNG and one byte": (_PNG + b"\0", "follow the end"),
    "two PNGs": (_PNG + _PNG, "follow the end"),
    "a PNG of noise": (b"\x89PNG\r\n\x1a\n" + _SCRAMBLED, ""),
    "a PNG with a spoiled check sum": (_PNG[:29] + b"\0\0\0\0" + _PNG[33:], ""),
    "a PNG with spoiled rows": (png(24, 24, _SCRAMBLED), ""),
    "a PNG without rows": (png(24, 24, b""), ""),
    "a PNG of nothing": (png(0, 0, b""), ""),
    "a PNG of no colour that exists": (png(24, 24, colour=7), ""),
    "a PNG of 50,000 x 50,000": (png(50_000, 50_000, b""), "too many"),
    "a PNG of the largest size": (png(2**31 - 1, 2**31 - 1, b""), "too many"),
    "a PNG of a single endless row": (png(2**30, 1, b""), "too many"),
    "a PNG of 8,000 x 8,000 black pixels": (
        png(8000, 8000, zlib.compress(bytes(24_001 * 8000), 9)),
        "too many",
    ),
    "a PNG with a chunk longer than itself": (_PNG[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt", ""),
    "a PNG whose text unfolds to megabytes": (
        png(24, 24, extra=png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(5 << 20)))),
        "",
    ),
    "a PNG whose profile unfolds to megabytes": (
        png(24, 24, extra=png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(5 << 20)))),
        "",
    ),
    "a PNG of many texts that unfold": (
        png(24, 24, extra=png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9)) * 80),
        "",
    ),
    "an animated PNG": (animation("PNG"), "animation"),
    "half a JPEG": (_JPEG[: len(_JPEG) // 2], ""),
    "a JPEG's first bytes": (_JPEG[:3], ""),
    "a JPEG without its end": (_JPEG[:-2], ""),
    "a JPEG and a zip": (_JPEG + _ZIP, "follow the end"),
    "a JPEG and another": (_JPEG + _JPEG, "follow the end"),
    "a JPEG of noise": (b"\xff\xd8\xff" + _SCRAMBLED, ""),
    "a JPEG of 60,000 x 60,000": (jpeg_of(60_000, 60_000), "too many"),
    "a JPEG of no height": (jpeg_of(24, 0), ""),
    "a JPEG of endless markers": (b"\xff\xd8" + b"\xff" * 100_000, ""),
    "a WebP's first bytes": (_WEBP[:12], ""),
    "half a WebP": (_WEBP[: len(_WEBP) // 2], ""),
    "a WebP and a zip": (_WEBP + _ZIP, "follow the end"),
    "a WebP of noise": (b"RIFF" + struct.pack("<I", 504) + b"WEBP" + _SCRAMBLED, ""),
    "a WebP of 16,000 x 16,000": (webp_of(16_000, 16_000), "too many"),
    "a film": (b"RIFF" + struct.pack("<I", 504) + b"AVI " + _SCRAMBLED, ""),
    "a sound": (b"RIFF" + struct.pack("<I", 504) + b"WAVE" + _SCRAMBLED, ""),
    "an animated WebP": (animation("WEBP"), "animation"),
}
