"""Check a safetensors header before any library opens the file.

Format: https://github.com/huggingface/safetensors (8 bytes little-endian header length, a JSON object, tensor
bytes). The reference reader accepts a tensor name twice, a million empty tensors and a header of 100 MB;
nothing that we ship or load needs any of these, and each is a way to show two programs two different files.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from talent_factory.core.errors import KitError
from talent_factory.kits.strict import StrictJsonError, parse_text, parse_words

MAX_HEADER_BYTES = 8 << 20
MAX_TENSORS = 5000
MAX_DIMENSIONS = 8
MAX_WORDS = 2000
# Three brackets a tensor and some commas: more would fill the memory before anybody counts the tensors.
_MAX_BRACKETS = 4 * MAX_TENSORS
_MAX_COMMAS = 20 * MAX_TENSORS
_ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "I64": 8}
ITEM_BYTES: Mapping[str, int] = _ITEM_BYTES
_FIELDS = {"dtype", "shape", "data_offsets"}
_HUGE = 1 << 62
_METADATA_FIRST = '{"__metadata__":'
_CACHED_LENGTH = 1 << 18

Buffer = bytes | bytearray | memoryview | mmap.mmap


class HeaderError(KitError):
    """The file is no safetensors file that we accept; `code` is the finding that it becomes."""

    def __init__(self, message: str, *, code: str = "weights-header", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy or "get the file again from its source, or pack the kit anew")
        self.code = code


class TensorEntry(NamedTuple):
    """One tensor; `start` and `end` count bytes from the end of the header, as in the format."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def numbers(self) -> int:
        """How many numbers the tensor holds."""
        return (self.end - self.start) // ITEM_BYTES[self.dtype]


class Header(NamedTuple):
    """The checked header: tensors in the order of their bytes, metadata, and where in the file they begin."""

    tensors: tuple[TensorEntry, ...]
    metadata: dict[str, str]
    data_start: int

    def by_name(self) -> dict[str, TensorEntry]:
        """Return the tensors by their names."""
        return {tensor.name: tensor for tensor in self.tensors}


def parse_header(buffer: Buffer) -> Header:
    """Return the header of the safetensors file in `buffer`, or raise HeaderError.

    Accepted: header of at most 8 MiB, unique names, at most 5,000 tensors of F16, BF16, F32 (I64 for one
    number only), no dimension of zero, tensor bytes that follow each other without a hole and end with the
    file, metadata from text to text.
    """
    size = len(buffer)
    if size < 10:
        raise HeaderError(f"{size} bytes are too few for a safetensors file", code="weights-truncated")
    length = int.from_bytes(bytes(buffer[:8]), "little")
    if length > MAX_HEADER_BYTES:
        # Text and pickle files land here too: their first eight bytes read as a giant length.
        raise HeaderError(f"header of {length} bytes, more than {MAX_HEADER_BYTES}: not safetensors?")
    data_start = 8 + length
    if data_start > size:
        raise HeaderError(f"header ends at byte {data_start}, the file at {size}", code="weights-truncated")
    first, text = _split(bytes(buffer[8:data_start]))
    inner, tensors = _cached_table(text) if len(text) < _CACHED_LENGTH else _table(text)
    if first is not None and inner is not None:
        raise HeaderError("header: the name '__metadata__' appears twice", code="weights-duplicate")
    over = size - data_start - tensors[-1].end
    if over < 0:
        raise HeaderError(f"{-over} bytes of the tensors are missing", code="weights-truncated")
    if over > 0:
        raise HeaderError(f"{over} bytes follow the last tensor", code="weights-layout")
    return Header(tensors, dict(first or inner or {}), data_start)


def _split(raw: bytes) -> tuple[dict[str, str] | None, str]:
    """Return the metadata, when they stand first as writers put them, and the rest of the header as text.

    The rest is the same in all files of one base and rank, so that it can be checked once.
    """
    try:
        text = raw.decode("utf-8")
        if not text.startswith("{"):
            raise HeaderError("the header is not a JSON object: not a safetensors file")
        if not text.startswith(_METADATA_FIRST):
            return None, text
        metadata, end = parse_words(text, len(_METADATA_FIRST), most=MAX_WORDS)
    except UnicodeDecodeError as error:
        raise HeaderError(f"header: not UTF-8 at byte {error.start}") from None
    except StrictJsonError as error:
        raise _refused(error) from None
    rest = text[end:].lstrip(" \t\r\n")
    if rest.startswith(","):
        return metadata, "{" + rest[1:]
    if rest.startswith("}"):
        return metadata, "{" + rest
    raise HeaderError("header: not JSON after __metadata__")


def _table(text: str) -> tuple[dict[str, str] | None, tuple[TensorEntry, ...]]:
    """Return the metadata, where they stand among the tensors, and the checked tensors."""
    if text.count("{") + text.count("[") > _MAX_BRACKETS or text.count(",") > _MAX_COMMAS:
        raise HeaderError("more brackets or commas than any LoRA has in its header")
    try:
        document = parse_text(text)
    except StrictJsonError as error:
        raise _refused(error) from None
    if not isinstance(document, dict):
        raise HeaderError("the header is not a JSON object: not a safetensors file")
    metadata = _metadata(document.pop("__metadata__")) if "__metadata__" in document else None
    if not document:
        raise HeaderError("no tensors inside", code="weights-empty")
    if len(document) > MAX_TENSORS:
        raise HeaderError(f"{len(document)} tensors, more than {MAX_TENSORS}")
    entries = sorted((_entry(name, raw) for name, raw in document.items()), key=attrgetter("start"))
    position = 0
    for entry in entries:
        if entry.start != position:
            where = min(position, entry.start)
            raise HeaderError(f"{entry.name[:120]!r}: hole or overlap at byte {where}", code="weights-layout")
        position = entry.end
    return metadata, tuple(entries)


_cached_table = lru_cache(maxsize=16)(_table)


def _refused(error: StrictJsonError) -> HeaderError:
    return HeaderError(
        f"header: {error}", code="weights-duplicate" if "twice" in str(error) else "weights-header"
    )


def _metadata(raw: object) -> dict[str, str]:
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise HeaderError("__metadata__ must map text to text")
    return raw


def _entry(name: str, raw: object) -> TensorEntry:
    """Check one tensor; it runs thousands of times a file, hence the one plain loop."""
    if type(raw) is not dict or len(raw) != 3 or not _FIELDS.issuperset(raw):
        raise HeaderError(f"{name[:120]!r}: dtype, shape and data_offsets are needed, nothing else")
    dtype, shape, offsets = raw["dtype"], raw["shape"], raw["data_offsets"]
    item = _ITEM_BYTES.get(dtype) if type(dtype) is str else None
    if item is None:
        raise HeaderError(f"{name[:120]!r}: no type of {', '.join(ITEM_BYTES)}", code="weights-dtype")
    if type(shape) is not list or len(shape) > MAX_DIMENSIONS:
        raise HeaderError(f"{name[:120]!r}: bad shape")
    size = item
    for dimension in shape:
        if type(dimension) is not int or not 0 < dimension < _HUGE:
            raise HeaderError(f"{name[:120]!r}: bad shape")
        size *= dimension
    if dtype == "I64" and size != item:
        raise HeaderError(f"{name[:120]!r}: I64 is for one number only", code="weights-dtype")
    if type(offsets) is not list or len(offsets) != 2:
        raise HeaderError(f"{name[:120]!r}: bad data_offsets")
    start, end = offsets
    if type(start) is not int or type(end) is not int or not 0 <= start < end < _HUGE:
        raise HeaderError(f"{name[:120]!r}: bad data_offsets")
    if end - start != size:
        raise HeaderError(f"{name[:120]!r}: its bytes do not match its shape", code="weights-layout")
    return TensorEntry(name, dtype, tuple(shape), start, end)
