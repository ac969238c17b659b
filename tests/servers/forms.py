"""Multipart forms and small pictures, as the loopback servers read and make them."""

from __future__ import annotations

import random
from email.parser import BytesParser
from email.policy import HTTP
from functools import lru_cache
from io import BytesIO

from PIL import Image

from servers.loopback import Exchange


def read_form(ask: Exchange) -> dict[str, list[tuple[str, bytes]]]:
    """The fields of a multipart body: (file name or "", bytes) of each part, by field name."""
    head = f"content-type: {ask.headers.get('content-type', '')}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + ask.body)
    fields: dict[str, list[tuple[str, bytes]]] = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", "", header="content-disposition"))
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        fields.setdefault(name, []).append((part.get_filename() or "", data))
    return fields


def image_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of an encoded picture that decodes to its end, else None."""
    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
            return image.size
    except (OSError, ValueError, SyntaxError):
        return None


@lru_cache(maxsize=256)
def paint(key: str, width: int, height: int, kind: str = "png") -> bytes:
    """Soft patches of colour, others for every key, as PNG, JPEG or WebP bytes."""
    noise = random.Random(f"paint/{key}").randbytes(8 * 6 * 3)
    image = Image.frombytes("RGB", (8, 6), noise).resize((width, height), Image.Resampling.BICUBIC)
    stream = BytesIO()
    image.save(stream, {"jpg": "JPEG"}.get(kind, kind.upper()))
    return stream.getvalue()
