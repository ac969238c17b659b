"""What an export writes, before it is written: bytes, and weights that are copied and never held whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Piece:
    """The content of one file: `head`, and behind it another file from byte `start` on."""

    head: bytes = b""
    rest: Path | None = None
    start: int = 0

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self.head) + (self.rest.stat().st_size - self.start if self.rest else 0)

    @property
    def sha256(self) -> str:
        """The hash of all bytes."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in order, at most a mebibyte at a time beyond the head."""
        yield self.head
        if self.rest is None:
            return
        with self.rest.open("rb") as stream:
            stream.seek(self.start)
            while chunk := stream.read(_CHUNK):
                yield chunk

    def write(self, path: Path, wrote: Callable[[int], None]) -> None:
        """Write the content to `path`, which nobody else has open; `wrote` hears of each lot of bytes."""
        with path.open("wb") as stream:
            for chunk in self.chunks():
                stream.write(chunk)
                wrote(len(chunk))
