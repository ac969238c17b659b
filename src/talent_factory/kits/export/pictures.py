"""The pictures of a kit as an export needs them: which there are, what was asked for, and nothing private."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from talent_factory.kits.images import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, parameters_text, tells_place
from talent_factory.kits.manifest import EXAMPLES_FOLDER, PREVIEW_FILE
from talent_factory.kits.strict import read_regular

MOST_PICTURES = 20
_MOST_PROMPT = 2000
_PNG = b"\x89PNG\r\n\x1a\n"
# What decides the pixels; all other chunks say something about the file.
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT"}
# The mark that a machine made the picture stays: it tells nothing of who asked for it.
_MADE_BY_MACHINE = b"trainedAlgorithmicMedia"
_XMP = b"XML:com.adobe.xmp\0"
# How other programs call a LoRA in the midst of a prompt.
_CALLED = re.compile(r"<lora:[^<>]*>")


class Picture(NamedTuple):
    """One example: its file's name, its bytes, and the prompt it was drawn from ("" when it does not say)."""

    name: str
    data: bytes
    prompt: str


def preview_of(kit: Path, *, minimal: bool) -> bytes | None:
    """Return the preview as PNG, without its text when `minimal`; None when the kit has none."""
    path = kit / PREVIEW_FILE
    if not path.is_file():
        return None
    data = read_regular(path, limit=MAX_IMAGE_BYTES)
    return bare_png(data) if minimal or not data.startswith(_PNG) or tells_place(data) else data


def examples_of(kit: Path, *, minimal: bool) -> tuple[Picture, ...]:
    """Return the kit's examples in order, at most MOST_PICTURES; raises OSError when one cannot be read.

    One that says where it was taken loses all its words, also where `minimal` is not asked for.
    """
    folder = kit / EXAMPLES_FOLDER
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    found = []
    for path in paths[:MOST_PICTURES]:
        data = read_regular(path, limit=MAX_IMAGE_BYTES)
        prompt = prompt_in(data)
        if minimal or tells_place(data):
            found.append(Picture(f"{path.stem}.png", bare_png(data), "" if minimal else prompt))
        else:
            found.append(Picture(path.name, data, prompt))
    return tuple(found)


def prompt_in(data: bytes) -> str:
    """Return the prompt in the `parameters` text of a PNG, as one line; "" when there is none."""
    lines = parameters_text(data).split("\n")
    end = next((n for n, line in enumerate(lines) if line.startswith(("Negative prompt:", "Steps:"))), None)
    said = _CALLED.sub("", " ".join(lines[:end]))
    return " ".join(said.split())[:_MOST_PROMPT]


def bare_png(data: bytes) -> bytes:
    """Return the picture as a PNG that holds its pixels and no words; a PNG is not packed anew."""
    if not data.startswith(_PNG):
        with Image.open(io.BytesIO(data), formats=["JPEG", "WEBP", "PNG"]) as image:
            plain = image.convert("RGBA" if "A" in image.getbands() else "RGB")
        # a fresh image, because Pillow writes what it read beside the pixels
        clean = Image.frombytes(plain.mode, plain.size, plain.tobytes())
        stream = io.BytesIO()
        clean.save(stream, format="PNG")
        return stream.getvalue()
    kept, position = bytearray(_PNG), len(_PNG)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        marked = kind == b"iTXt" and body.startswith(_XMP) and _MADE_BY_MACHINE in body and length < 4096
        if kind in _PIXEL_CHUNKS or marked:
            kept += data[position:end]
        position = end
        if kind == b"IEND":
            break
    return bytes(kept)
