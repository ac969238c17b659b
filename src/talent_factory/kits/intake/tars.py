"""Unpack a tar, plain or gzipped, as it streams by: one entry after the other, never backwards."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import IO

from talent_factory.kits.intake.archive import PIECE, Ledger, store
from talent_factory.kits.intake.refusal import IntakeRefused

# Long names and their like are read in one piece; a size beyond this is a lie.
_MAX_READ = PIECE
_BROKEN = (tarfile.TarError, zlib.error, EOFError, ValueError, OverflowError, KeyError, IndexError, TypeError)


def unpack_tar(stream: IO[bytes], folder: Path, ledger: Ledger, *, packed: bool) -> list[str]:
    """Unpack the tar in `stream` into `folder`; as `archive.unpack`. `packed`: it is gzipped."""
    found: list[str] = []
    source = _Forward(stream, ledger, packed=packed)
    try:
        with tarfile.open(fileobj=source, mode="r:", encoding="utf-8") as archive:  # type: ignore[call-overload]
            while (info := archive.next()) is not None:
                archive.members.clear()
                path = _admit(info, ledger)
                if path is None:
                    continue
                source.goto(info.offset_data)
                _Rest(source, info.size).into(folder, path)
                found.append(path)
            source.check_end()
    except IntakeRefused:
        raise
    except _BROKEN as error:
        raise IntakeRefused(f"the tar is broken: {str(error)[:120]}", code="archive") from error
    except RecursionError:
        raise IntakeRefused("the tar is broken: header upon header", code="archive-bomb") from None
    return found


def _admit(info: tarfile.TarInfo, ledger: Ledger) -> str | None:
    if info.issym() or info.islnk():
        raise IntakeRefused(f"the entry {info.name[:120]!r} is a link", code="link")
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or info.issparse():
        raise IntakeRefused(f"the entry {info.name[:120]!r} is a device, pipe or special file", code="link")
    # packing programs write ./ before names
    name = info.name[2:] if info.name.startswith("./") else info.name
    if info.isdir():
        if name not in ("", "."):
            ledger.admit(name, folder=True)
        return None
    return ledger.admit(name)


class _Forward:
    """A readable file over the (inflated) bytes that only ever moves on, and counts what it passes."""

    def __init__(self, stream: IO[bytes], ledger: Ledger, *, packed: bool) -> None:
        self._stream = stream
        self._ledger = ledger
        self._inflate = zlib.decompressobj(wbits=31) if packed else None
        self._kept = b""
        self._position = 0
        # the byte before the next header, which the reader looks at again
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes. Raises IntakeRefused for a size that only a lie asks for."""
        if size is None or size < 0 or size > _MAX_READ:
            raise IntakeRefused("a header of the tar is larger than any honest one", code="archive-bomb")
        pieces, missing = [], size
        while missing > 0 and (piece := self._next(missing)):
            pieces.append(piece)
            missing -= len(piece)
        data = b"".join(pieces)
        if data:
            self._ledger.count(len(data))
            self._position += len(data)
            self._last = data[-1:]
        return data

    def tell(self) -> int:
        """Where the reader is among the inflated bytes."""
        return self._position

    def seek(self, position: int) -> None:
        """Move on to `position`; one byte back is the only way back there is."""
        if position == self._position - 1 and self._last:
            self._kept = self._last + self._kept
            self._position, self._last = position, b""
            return
        if position < self._position:
            raise IntakeRefused("an entry of the tar points backwards", code="archive")
        while self._position < position:
            piece = self.read(min(PIECE, position - self._position))
            if not piece:
                return

    goto = seek

    def check_end(self) -> None:
        """Read what stands behind the last entry: only zeros may, as padding."""
        while piece := self.read(PIECE):
            if piece.strip(b"\0"):
                raise IntakeRefused("bytes follow the end of the tar", code="archive")

    def _next(self, size: int) -> bytes:
        if self._kept:
            piece, self._kept = self._kept[:size], self._kept[size:]
            return piece
        if self._inflate is None:
            return self._stream.read(min(size, PIECE))
        while not self._inflate.eof:
            raw = self._inflate.unconsumed_tail or self._stream.read(PIECE)
            piece = self._inflate.decompress(raw, min(size, PIECE))
            if piece or self._inflate.eof:
                return piece or self._finish()
            if not raw:
                raise IntakeRefused("the gzip ends too early", code="archive")
        return self._finish()

    def _finish(self) -> bytes:
        assert self._inflate is not None
        if self._inflate.unused_data.strip(b"\0") or self._stream.read(1).strip(b"\0"):
            raise IntakeRefused("bytes follow the end of the gzip", code="archive")
        return b""


class _Rest:
    """The bytes of one entry."""

    def __init__(self, source: _Forward, size: int) -> None:
        self._source = source
        self._left = size

    def into(self, folder: Path, path: str) -> None:
        """Write the entry to `folder/path`. Raises IntakeRefused when the archive ends before it does."""
        store(folder, path, self._read)
        if self._left:
            raise IntakeRefused(f"the entry {path[:120]!r} ends too early", code="archive")

    def _read(self, size: int) -> bytes:
        data = self._source.read(min(size, self._left))
        self._left -= len(data)
        return data
