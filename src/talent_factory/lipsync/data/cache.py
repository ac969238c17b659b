"""Files that were fetched from far away, kept on the disk up to a limit, each with a check of its bytes."""

from __future__ import annotations

import os
import secrets
import struct
import threading
import zlib
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from talent_factory.core.files import disk_full, is_no_room

_TAIL = struct.Struct("<4sIQ")  # mark, CRC-32, length
_MARK = b"TLC1"


class DiskCache:
    """Bytes by key in a folder, shared by threads and processes; a torn or changed file is fetched anew.

    A file ends in a mark with its CRC-32 and length, and comes into being by a rename. It is not flushed to
    the disk: what a power cut tears, the mark shows. The least recently written or used files go when
    `limit` bytes are passed.
    """

    def __init__(self, folder: Path, *, source: str, limit: int) -> None:
        """Keep files of `source` (the address they come from, so that two sources never mix)."""
        self._root = Path(folder) / sha256(source.encode()).hexdigest()[:16]
        self._folder = Path(folder)
        self._limit = limit
        self._lock = threading.Lock()
        self._grown = limit  # counts what is there before the first file is added
        self._made: set[str] = set()

    def get(self, key: str) -> bytes | None:
        """The bytes kept under `key`, None when there are none that are whole."""
        path = self._root / key
        try:
            with open(path, "rb", buffering=0) as stream:
                data = stream.read()
        except OSError:
            return None
        body = data[: -_TAIL.size]
        if len(data) < _TAIL.size or not _fits(data[-_TAIL.size :], body):
            with suppress(OSError):
                path.unlink()
            return None
        return body

    def path(self, key: str) -> Path | None:
        """The file kept under `key`, its mark at the end, when it is whole by its length."""
        path = self._root / key
        try:
            with open(path, "rb") as stream:
                stream.seek(-_TAIL.size, os.SEEK_END)
                mark, _, length = _TAIL.unpack(stream.read(_TAIL.size))
                whole = mark == _MARK and length + _TAIL.size == stream.tell()
        except (OSError, struct.error):
            return None
        return path if whole else None

    def put(self, key: str, data: bytes) -> None:
        """Keep `data`; DiskFull where the disk takes no more."""
        path = self._root / key
        temporary = path.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            self._make(path.parent)
            with open(temporary, "wb", buffering=0) as stream:
                stream.write(data + _TAIL.pack(_MARK, zlib.crc32(data), len(data)))
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            if is_no_room(error):
                raise disk_full(self._folder, error) from None
            raise
        self._grow(len(data) + _TAIL.size)

    def _make(self, folder: Path) -> None:
        if str(folder) not in self._made:
            folder.mkdir(parents=True, exist_ok=True)
            self._made.add(str(folder))

    def _grow(self, size: int) -> None:
        with self._lock:
            self._grown += size
            # other processes write here, too: look at the folder itself now and then
            if self._grown < self._limit / 16:
                return
            self._grown = 0
        self._shrink()

    def _shrink(self) -> None:
        """Bring the cache below nine tenths of its limit when it has passed it."""
        files, total = [], 0
        for here, _, names in os.walk(self._folder):
            for name in names:
                with suppress(OSError):
                    found = os.stat(f"{here}/{name}")
                    total += found.st_size
                    files.append((max(found.st_mtime_ns, found.st_atime_ns), found.st_size, f"{here}/{name}"))
        if total <= self._limit:
            return
        for _, size, path in sorted(files):
            if total <= self._limit * 0.9:
                break
            with suppress(OSError):
                os.unlink(path)
                total -= size


def _fits(tail: bytes, body: bytes) -> bool:
    mark, crc, length = _TAIL.unpack(tail)
    return bool(mark == _MARK and length == len(body) and crc == zlib.crc32(body))
