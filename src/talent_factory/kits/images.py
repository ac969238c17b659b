"""Say whether bytes are one plain picture and nothing but it, at a price in memory known beforehand."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

MAX_IMAGE_BYTES = 32 << 20
MAX_IMAGE_SIDE = 16_384
# What decoding may take: a picture of 5,600 x 5,600 as PNG or JPEG, of 3,000 x 3,000 as WebP.
MAX_DECODED_BYTES = 128 << 20
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

_PNG, _JPEG, _RIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF"
# The readers themselves, not Image.open: that would try every format Pillow knows and warn of large sizes.
_OPENERS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (_PNG, PngImagePlugin.PngImageFile),
    (_JPEG, JpegImagePlugin.JpegImageFile),
    (_RIFF, WebPImagePlugin.WebPImageFile),
)
_BAD_IMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    AttributeError,
    struct.error,
    zlib.error,
)
_GPS = 0x8825
# Markers without a length of their own.
_BARE = frozenset((0x01, *range(0xD0, 0xD8)))
_WORDS = (b"Exif\0\0", b"eXIf", b"EXIF", b"XML:com.adobe.xmp", b"http://ns.adobe.com/xap", b"XMP ")
_PLACE_WORDS = re.compile(rb"exif:GPS|photoshop:City|Iptc4xmpCore:Location|GPSLatitude")


class ImageRefused(ValueError):
    """The bytes are no picture that we take; the message says why in a few words."""


def image_problem(data: bytes) -> str:
    """Return why `data` is no image, "" when it is one: it is decoded to the last pixel.

    Refused: other kinds, animations, sides and sizes that no example has, and bytes behind the end of the
    picture, where a second file can hide.
    """
    return examined(data)[0]


def examined(data: bytes) -> tuple[str, int]:
    """Return what `image_problem` says, and how many pixels were decoded."""
    try:
        with _loaded(data) as image:
            return "", image.width * image.height
    except ImageRefused as error:
        return str(error), 0


def tells_place(data: bytes) -> bool:
    """Whether a readable image says where it was taken, in its EXIF or XMP."""
    opener = next((opener for magic, opener in _OPENERS if data.startswith(magic)), None)
    if opener is None or not any(word in data for word in _WORDS):
        return False
    try:
        with opener(io.BytesIO(data)) as image:
            told = bool(image.getexif().get_ifd(_GPS))
            packets = (image.info.get(name) for name in ("xmp", "XML:com.adobe.xmp"))
            texts = [text.encode("utf-8", "replace") if isinstance(text, str) else text for text in packets]
    except (*_BAD_IMAGE, Image.DecompressionBombError):
        return False
    return told or any(isinstance(text, bytes) and _PLACE_WORDS.search(text) for text in texts)


def clean_png(data: bytes, *, side: int) -> bytes:
    """Return the picture as a PNG of at most `side` pixels that carries no words, places or profiles.

    Raises ImageRefused for what `image_problem` names.
    """
    small = rgb_picture(data, side=side)
    bare = Image.new("RGB", small.size)
    bare.paste(small)
    stream = io.BytesIO()
    bare.save(stream, format="PNG")
    return stream.getvalue()


def parameters_text(data: bytes) -> str:
    """Return the text that A1111 and its kin write into a PNG ("parameters"), "" when there is none."""
    if not data.startswith(_PNG):
        return ""
    try:
        with PngImagePlugin.PngImageFile(io.BytesIO(data)) as image:
            text = image.info.get("parameters", "")
    except (*_BAD_IMAGE, Image.DecompressionBombError):
        return ""
    return text[:20_000] if isinstance(text, str) else ""


def rgb_picture(data: bytes, *, side: int) -> Image.Image:
    """Return the picture in RGB, scaled down to at most `side` pixels; raises ImageRefused."""
    with _loaded(data) as image:
        small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


@contextmanager
def _loaded(data: bytes) -> Iterator[Image.Image]:
    opener = next((opener for magic, opener in _OPENERS if data.startswith(magic)), None)
    if opener is None:
        raise ImageRefused("neither PNG nor JPEG nor WebP")
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageRefused(f"{len(data)} bytes are too many")
    try:
        end = _end(data)
        with opener(io.BytesIO(data)) as image:
            _check_size(image)
            image.load()
            if end < len(data):
                raise ImageRefused(f"{len(data) - end} bytes follow the end of the picture")
            yield image
    except ImageRefused:
        raise
    except Image.DecompressionBombError:
        raise ImageRefused("its pixels are too many") from None
    except _BAD_IMAGE as error:
        raise ImageRefused(str(error)[:120] or type(error).__name__) from None


def _check_size(image: ImageFile.ImageFile) -> None:
    width, height = image.size
    if getattr(image, "n_frames", 1) > 1:
        raise ImageRefused("an animation")
    price = 4
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        # two canvases and a copy in the decoder
        price = 14
    elif image.info.get("progressive") or image.info.get("progression"):
        # all coefficients are kept until the last scan
        price = 4 + 2 * len(image.getbands())
    if max(width, height) > MAX_IMAGE_SIDE or width * height * price > MAX_DECODED_BYTES:
        raise ImageRefused(f"{width} x {height} pixels are too many")


def _end(data: bytes) -> int:
    """Return where the picture ends; the file's own end where that cannot be told."""
    if data.startswith(_PNG):
        return _png_end(data)
    if data.startswith(_RIFF):
        size = int.from_bytes(data[4:8], "little")
        return 8 + size + size % 2
    return _jpeg_end(data)


def _png_end(data: bytes) -> int:
    position = len(_PNG)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        position += 12 + length
        if kind == b"IEND":
            return position
    raise ImageRefused("the file ends before the picture")


def _jpeg_end(data: bytes) -> int:
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise ImageRefused("no marker where one must be")
        marker = data[position + 1]
        if marker == 0xD9:
            return position + 2
        if marker == 0xFF:
            position += 1
        elif marker in _BARE:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
            if marker == 0xDA:
                position = _scan_end(data, position)
    if data[position : position + 2] == b"\xff\xd9":
        return position + 2
    raise ImageRefused("the file ends before the picture")


def _scan_end(data: bytes, position: int) -> int:
    """Return where the next true marker stands: in a scan FF is followed by 00 or a restart."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            raise ImageRefused("the file ends before the picture")
        if data[position + 1] == 0 or 0xD0 <= data[position + 1] <= 0xD7:
            position += 2
        else:
            return position
