"""Write what made an image into the PNG itself, without touching its pixels or encoding it again.

The chunk is an iTXt of the PNG specification (third edition, 11.3.3.4), put right behind IHDR.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from talent_factory.core.errors import ProviderError

KEYWORD = "talent-cast"
_NO_PNG = "the provider answered with something that is no PNG image"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_IHDR_END = 33  # signature 8 + length 4 + type 4 + data 13 + crc 4


def stamp(png: bytes, facts: Mapping[str, object]) -> bytes:
    """`png` with `facts` as JSON in an iTXt chunk. Raises ProviderError when the bytes are no PNG."""
    if not png.startswith(_SIGNATURE) or png[12:16] != b"IHDR":
        raise ProviderError(_NO_PNG)
    text = json.dumps(dict(facts), sort_keys=True, ensure_ascii=False)
    # keyword, no compression, method 0, no language, no translated keyword, text
    data = KEYWORD.encode("latin-1") + b"\0\0\0\0\0" + text.encode("utf-8")
    body = b"iTXt" + data
    chunk = struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_IHDR_END] + chunk + png[_IHDR_END:]


def read_stamp(path: Path) -> dict[str, object]:
    """The facts that `stamp` wrote into the image at `path`; empty when that is missing or damaged."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            facts = json.loads(str(image.info.get(KEYWORD, "{}")))
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error):
        return {}
    return facts if isinstance(facts, dict) else {}


def measure(png: bytes) -> tuple[int, int]:
    """Width and height in pixels of a PNG that decodes to its last row. Raises ProviderError for others."""
    try:
        with Image.open(BytesIO(png), formats=["PNG"]) as image:
            image.load()
            return image.size
    except UnidentifiedImageError:
        raise ProviderError(_NO_PNG) from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise ProviderError(f"the provider answered with a damaged image ({error})") from error
