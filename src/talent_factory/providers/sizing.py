"""Sizes that models can make, and the cut from there to the aspect that was asked for."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from talent_factory.core.errors import ProviderError
from talent_factory.providers.embedded.framing import canvas_size

# Wider misses than this are cut off; smaller ones are rounding and left alone.
_ASPECT_TOLERANCE = 0.004
_MAX_PIXELS = 64_000_000


def cover_size(aspect: str, long_side: int, *, multiple: int) -> tuple[int, int]:
    """The smallest (width, height) in whole multiples that covers the canvas of this aspect and long side."""
    width, height = canvas_size(aspect, long_side)
    return -(-width // multiple) * multiple, -(-height // multiple) * multiple


def near_size(aspect: str, long_side: int, *, multiple: int) -> tuple[int, int]:
    """The (width, height) in whole multiples that keeps the aspect best, up to a tenth below the long side.

    For services whose pictures are taken as they come: 16:9 at 1360 becomes 1280 x 720 exactly.
    """
    across, down = canvas_size(aspect, 100_000)
    ratio = min(across, down) / max(across, down)

    def off(long: int) -> tuple[float, int]:
        short = max(multiple, round(long * ratio / multiple) * multiple)
        return abs(short / long / ratio - 1), -long

    most = max(multiple, long_side // multiple * multiple)
    longs = range(max(multiple, -(-int(most * 0.9) // multiple) * multiple), most + 1, multiple)
    long = min(longs, key=off)
    short = max(multiple, round(long * ratio / multiple) * multiple)
    return (long, short) if across >= down else (short, long)


def covering(aspect: str, sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The one of the fixed `sizes` that keeps most of its pixels when it is cut to the aspect."""
    across, down = canvas_size(aspect, 1000)

    def kept(size: tuple[int, int]) -> float:
        ratio = (size[0] / size[1]) / (across / down)
        return min(ratio, 1 / ratio) * size[0] * size[1]

    return max(sizes, key=kept)


def cut_image(image: Image.Image, aspect: str) -> Image.Image:
    """The largest centred part of an image that has the aspect; the image itself where it already fits."""
    across, down = canvas_size(aspect, 100_000)
    want = across / down
    if abs(image.width / image.height / want - 1) <= _ASPECT_TOLERANCE:
        return image
    width = min(image.width, max(1, round(image.height * want)))
    height = min(image.height, max(1, round(image.width / want)))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def cut_to_aspect(data: bytes, aspect: str) -> bytes:
    """Encoded picture in, encoded picture out: the same bytes if the aspect fits, else a PNG cut to it.

    Raises ProviderError for bytes that are no picture, or one beyond 64 megapixels.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ProviderError(f"the provider sent a picture of {image.width} x {image.height} pixels")
            cut = cut_image(image, aspect)
            if cut is image:
                image.load()
                return data
            return png(cut)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ProviderError(
            f"the provider's answer is no whole picture: {type(error).__name__}", remedy="cast the slot again"
        ) from None


def png(image: Image.Image) -> bytes:
    """An image as PNG bytes, RGB."""
    out = BytesIO()
    image.convert("RGB").save(out, "PNG", compress_level=3)
    return out.getvalue()
