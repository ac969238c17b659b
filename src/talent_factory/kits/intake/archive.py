"""Unpack an archive that a stranger made: every name is judged first, every byte is counted as it inflates.

What an archive says about its own sizes is never believed. Nothing but plain files is taken; a file of a kind
that can run code is refused before a byte of it is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from talent_factory.kits.folder import MAX_FILES, PICKLE_SUFFIXES
from talent_factory.kits.intake.refusal import IntakeRefused
from talent_factory.kits.names import folded, is_junk, kind_problem, path_problem

MAX_TOTAL_BYTES = 8 << 30
MAX_FILE_BYTES = 4 << 30
MAX_PATH_DEPTH = 8
# An archive of weights and pictures shrinks little; text shrinks more, but is small.
MAX_RATIO = 100
FREE_BYTES = 8 << 20
PIECE = 1 << 16
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
OTHER_ARCHIVES = (".7z", ".rar", ".xz", ".bz2", ".zst", ".lz", ".lzma", ".gz", ".cab", ".iso", ".arj", ".lzh")


class Ledger:
    """Counts what an archive of `packed` bytes unfolds into, and keeps the names it has used."""

    def __init__(self, packed: int) -> None:
        self.packed = packed
        self.inflated = 0
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def admit(self, name: str, *, folder: bool = False) -> str | None:
        """Return the clean relative path of an entry, None for what is passed over.

        Raises IntakeRefused for a name, a kind or a number of entries that no kit has.
        """
        path = name.rstrip("/") if folder else name
        problem = path_problem(path)
        if problem:
            raise IntakeRefused(f"the entry {name[:120]!r} {problem}", code="name")
        if path.count("/") >= MAX_PATH_DEPTH:
            raise IntakeRefused(f"the entry {name[:120]!r} lies too deep", code="too-many-files")
        if len(self._files) + len(self._folders) >= MAX_FILES:
            raise IntakeRefused(f"more than {MAX_FILES} entries", code="too-many-files")
        if is_junk(path):
            return None
        if folder:
            self._claim_folder(path)
            return path
        refuse_kind(path)
        self._claim_folder(path.rpartition("/")[0])
        key = folded(path)
        other = self._folders.get(key) or self._files.get(key)
        if other is not None:
            raise _same(other, path)
        self._files[key] = path
        return path

    def count(self, size: int) -> None:
        """Add bytes that came out; raises IntakeRefused when they are too many for what went in."""
        self.inflated += size
        if self.inflated > MAX_TOTAL_BYTES:
            raise IntakeRefused(f"it unfolds to more than {MAX_TOTAL_BYTES >> 30} GB", code="archive-bomb")
        if self.inflated > FREE_BYTES and self.inflated > MAX_RATIO * self.packed:
            raise IntakeRefused(
                f"it unfolds to more than {MAX_RATIO} times its own size", code="archive-bomb"
            )

    def _claim_folder(self, path: str) -> None:
        """Folders may be named again, but always by the same letters, and never like a file."""
        while path:
            key = folded(path)
            other = self._files.get(key) or self._folders.setdefault(key, path)
            if other != path or key in self._files:
                raise _same(other, path)
            path = path.rpartition("/")[0]


def _same(one: str, other: str) -> IntakeRefused:
    return IntakeRefused(
        f"the entries {one[:80]!r} and {other[:80]!r} are one file on some systems", code="name"
    )


def refuse_kind(path: str) -> None:
    """Raise IntakeRefused for a file that can run code, is an archive itself or belongs to no kit."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in PICKLE_SUFFIXES:
        raise IntakeRefused(
            f"{path[:120]!r} is of a kind that can run code when it is loaded",
            code="pickle",
            remedy="take the .safetensors form of it; others are never opened",
        )
    if path.lower().endswith(ARCHIVE_SUFFIXES + OTHER_ARCHIVES):
        raise IntakeRefused(
            f"{path[:120]!r} is an archive inside the archive",
            code="archive",
            remedy="unpack it yourself first",
        )
    problem = kind_problem(path)
    if problem:
        raise IntakeRefused(f"{path[:120]!r}: {problem}", code="kind", remedy="leave it out of the archive")


def unreadable(path: Path, error: OSError) -> IntakeRefused:
    """The refusal of a file that could not be opened; links are never followed."""
    if path.is_symlink():
        return IntakeRefused("a link", code="link", remedy="name the file that it points to")
    return IntakeRefused(f"cannot be read: {error.strerror or error}", code="file-unreadable")


def is_archive(path: Path) -> bool:
    """Whether the name says that this is an archive of a kind that is unpacked here."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(path: Path, folder: Path) -> list[str]:
    """Unpack the zip, tar or tar.gz at `path` into the empty `folder`; returns the relative paths written.

    Raises IntakeRefused for anything that an honest archive of a kit does not hold: the first bytes decide
    which format it is, whatever its name says.
    """
    from talent_factory.kits.intake.tars import unpack_tar
    from talent_factory.kits.intake.zips import unpack_zip

    try:
        stream = _open(path)
    except OSError as error:
        raise unreadable(path, error) from error
    with stream:
        head = stream.read(512)
        stream.seek(0)
        ledger = Ledger(os.fstat(stream.fileno()).st_size)
        if head.startswith(b"PK\x03\x04"):
            return unpack_zip(stream, folder, ledger)
        if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
            return unpack_tar(stream, folder, ledger, packed=head.startswith(b"\x1f\x8b"))
    raise IntakeRefused(
        "neither a zip nor a tar nor a tar.gz",
        code="archive",
        remedy="unpack it yourself and import the folder",
    )


def store(folder: Path, path: str, read: Callable[[int], bytes]) -> None:
    """Write one file below `folder` from `read`, which gives up to so many bytes and counts them.

    Raises IntakeRefused when the file grows too large; it is new, never an existing one.
    """
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with open(target, "xb") as out:
        while piece := read(PIECE):
            size += len(piece)
            if size > MAX_FILE_BYTES:
                raise IntakeRefused(
                    f"{path[:120]!r} is larger than {MAX_FILE_BYTES >> 30} GB", code="archive-bomb"
                )
            out.write(piece)


def _open(path: Path) -> IO[bytes]:
    from talent_factory.kits.strict import open_regular

    descriptor, _ = open_regular(path, limit=MAX_TOTAL_BYTES)
    return open(descriptor, "rb", buffering=PIECE)
