"""Read small files and JSON that a stranger wrote: bounded, regular files only, nothing guessed.

Python's `json` keeps the last of two equal names, accepts NaN and turns 1e999 into infinity. Each of these
lets two readers see two different documents, so all of them are errors here.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from json.decoder import scanstring  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

MAX_TEXT_BYTES = 1 << 20
MAX_DEPTH = 64
_BLANK = re.compile(r"[ \t\r\n]*")
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class StrictJsonError(ValueError):
    """The bytes are not one plain JSON document; the message says why in a few words."""


def open_regular(path: Path, *, limit: int) -> tuple[int, int]:
    """Open a regular file of at most `limit` bytes for reading; returns descriptor and size.

    Links, pipes and devices raise OSError instead of being followed or waited for; so does a longer file.
    """
    descriptor = os.open(path, _READ)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        if status.st_size > limit:
            raise OSError(f"{status.st_size} bytes, more than the {limit} allowed")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def read_regular(path: Path, *, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes; raises OSError as `open_regular` does."""
    descriptor, size = open_regular(path, limit=limit)
    try:
        pieces = [os.read(descriptor, size + 1)]
        # one read is enough for a file at rest; more only when it grows meanwhile
        while len(pieces[-1]) > 0 and sum(map(len, pieces)) != size:
            pieces.append(os.read(descriptor, size + 1))
            if sum(map(len, pieces)) > limit:
                raise OSError(f"more than the {limit} bytes allowed")
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def parse_json(data: bytes) -> Any:
    """Return the document in `data` (UTF-8), or raise StrictJsonError.

    Refused beyond what JSON itself refuses: a byte order mark, a name twice in one object, NaN and infinities
    (written out or by overflow), integers of more than 4,300 digits and nesting that exhausts the parser.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StrictJsonError(f"not UTF-8 at byte {error.start}") from None
    return parse_text(text)


def parse_text(text: str) -> Any:
    """Like `parse_json`, from text."""
    with _in_words():
        return _DECODER.decode(text)


def parse_words(text: str, start: int, *, most: int) -> tuple[dict[str, str], int]:
    """Return the object from text to text that begins at `start`, and where it ends.

    Raises StrictJsonError for another value, a name twice and more than `most` names; no more memory is used
    than the text itself takes, whatever it says.
    """
    with _in_words():
        return _words(text, start, most=most)


def _words(text: str, start: int, *, most: int) -> tuple[dict[str, str], int]:
    found: dict[str, str] = {}
    position = _expect(text, start, "{")
    while text[position : position + 1] != "}":
        if found:
            position = _expect(text, position, ",")
        name, position = _quoted(text, position)
        value, position = _quoted(text, _expect(text, position, ":"))
        if name in found:
            raise StrictJsonError(f"the name {name[:80]!r} appears twice")
        if len(found) >= most:
            raise StrictJsonError(f"more than {most} words of metadata")
        found[name] = value
    return found, position + 1


def _expect(text: str, position: int, mark: str) -> int:
    position = _BLANK.match(text, position).end()  # type: ignore[union-attr]
    if text[position : position + 1] != mark:
        raise StrictJsonError(f"not JSON: {mark} expected at character {position}")
    return _BLANK.match(text, position + 1).end()  # type: ignore[union-attr]


def _quoted(text: str, position: int) -> tuple[str, int]:
    if text[position : position + 1] != '"':
        raise StrictJsonError(f"text must map to text, at character {position}")
    value, end = scanstring(text, position + 1, True)
    # half of a pair of surrogates is no letter, and nobody could write it again
    value.encode("utf-8")
    return value, _BLANK.match(text, end).end()  # type: ignore[union-attr]


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except StrictJsonError:
        raise
    except RecursionError:
        raise StrictJsonError("nested too deeply") from None
    except ValueError as error:
        raise StrictJsonError(f"not JSON: {error}") from None


def parse_object(data: bytes) -> dict[str, Any]:
    """Like `parse_json`, and the document must be an object nested at most MAX_DEPTH levels."""
    document = parse_json(data)
    if not isinstance(document, dict):
        raise StrictJsonError(f"an object is needed, not {type(document).__name__}")
    if _depth(document) > MAX_DEPTH:
        raise StrictJsonError(f"nested deeper than {MAX_DEPTH} levels")
    return document


def _depth(document: object) -> int:
    depth, level = 0, [document]
    while level:
        depth += 1
        children: list[object] = []
        for node in level:
            if isinstance(node, dict):
                children.extend(node.values())
            elif isinstance(node, list):
                children.extend(node)
        level = children
    return depth


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise StrictJsonError(f"the name {twice[:80]!r} appears twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise StrictJsonError(f"the number {text[:40]} is out of range")
    return number


def _no_constant(text: str) -> float:
    raise StrictJsonError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
