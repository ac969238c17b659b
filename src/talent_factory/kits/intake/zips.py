"""Unpack a zip: what its directory says is checked entry by entry before anything is inflated."""

from __future__ import annotations

import stat
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import IO

from talent_factory.kits.intake.archive import Ledger, store
from talent_factory.kits.intake.refusal import IntakeRefused

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1
# Python's reader takes in the whole directory at once: 2,000 entries with long names need less.
_MAX_DIRECTORY = 2 << 20


class _Sized:
    """A file that gives at most two million bytes at a time, so that no stated size can fill the memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seekable = stream.seekable
        self.seek = stream.seek
        self.tell = stream.tell
        self.close = stream.close

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes; raises IntakeRefused when that is more than any honest directory has."""
        most = _MAX_DIRECTORY if size is None or size < 0 else size
        data = self._stream.read(min(most, _MAX_DIRECTORY) + (most != size))
        if most > _MAX_DIRECTORY or len(data) > _MAX_DIRECTORY:
            raise IntakeRefused("its directory is larger than that of any kit", code="archive-bomb")
        return data


def unpack_zip(stream: IO[bytes], folder: Path, ledger: Ledger) -> list[str]:
    """Unpack the zip in `stream` into `folder`; as `archive.unpack`."""
    try:
        with zipfile.ZipFile(_Sized(stream)) as archive:
            wanted = _wanted(archive, ledger)
            for info, path in wanted:
                with archive.open(info) as entry:
                    store(folder, path, partial(_counted, entry, ledger))
    except IntakeRefused:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise IntakeRefused(f"the zip is broken: {str(error)[:120]}", code="archive") from error
    except (OSError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise
        raise IntakeRefused(f"the zip is broken: {str(error)[:120]}", code="archive") from error
    except Exception as error:
        # struct.error, KeyError and others of a reader that was never meant for hostile bytes
        raise IntakeRefused(f"the zip is broken: {type(error).__name__}", code="archive") from error
    return [path for _, path in wanted]


def _counted(entry: IO[bytes], ledger: Ledger, size: int) -> bytes:
    data = entry.read(size)
    ledger.count(len(data))
    return data


def _wanted(archive: zipfile.ZipFile, ledger: Ledger) -> list[tuple[zipfile.ZipInfo, str]]:
    found = []
    for info in archive.infolist():
        name = info.orig_filename
        if "\0" in name:
            raise IntakeRefused(f"the entry {name[:120]!r} holds a zero byte", code="name")
        _check_mode(info)
        if info.flag_bits & _ENCRYPTED:
            raise IntakeRefused(f"the entry {name[:120]!r} is encrypted", code="archive")
        path = ledger.admit(name, folder=name.endswith("/"))
        if path is None or name.endswith("/"):
            continue
        if info.compress_type not in _METHODS:
            raise IntakeRefused(
                f"the entry {name[:120]!r} is packed in a way that is not taken",
                code="archive",
                remedy="pack it as a plain zip",
            )
        found.append((info, path))
    _check_places([info for info, _ in found], getattr(archive, "start_dir", 0))
    return found


def _check_mode(info: zipfile.ZipInfo) -> None:
    mode = stat.S_IFMT(info.external_attr >> 16)
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "link" if mode == stat.S_IFLNK else "device or pipe"
        raise IntakeRefused(f"the entry {info.orig_filename[:120]!r} is a {kind}", code="link")


def _check_places(entries: list[zipfile.ZipInfo], directory: int) -> None:
    """Refuse entries that share bytes: that is how a small zip unfolds into a large one file by file."""
    end = 0
    if entries and min(entry.header_offset for entry in entries) != 0:
        raise IntakeRefused("bytes stand in front of the first entry", code="archive")
    for info in sorted(entries, key=lambda entry: entry.header_offset):
        if info.header_offset < end:
            raise IntakeRefused(
                f"the entry {info.orig_filename[:120]!r} shares its bytes with another", code="archive-bomb"
            )
        # 30: the shortest local header, whose extra field is not known yet
        end = info.header_offset + 30 + len(info.orig_filename) + info.compress_size
    if entries and end > directory:
        raise IntakeRefused("the last entry reaches into the directory", code="archive")
