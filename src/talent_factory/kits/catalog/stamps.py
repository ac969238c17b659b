"""Tell whether a kit changed since it was read, from what the file system says of its files."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from talent_factory import __version__
from talent_factory.kits import keys
from talent_factory.kits.folder import MAX_DEPTH, MAX_FILES

# A file written twice within one tick of its clock keeps its times; FAT and old network disks tick every 2 s.
SETTLED_NS = 2_000_000_000
_UNSURE = b""
_Fact = tuple[str, int, int, int, int, int]


def kit_stamp(folder: Path) -> bytes:
    """Return 16 bytes that change with every change of a file in `folder`; no bytes when that is not sure.

    They cover names, sizes, inodes and the times of content and of state, which no program can set back.
    Nothing is opened. Empty means that a file changed a moment ago, or that a folder could not be listed.
    """
    found: list[_Fact] = []
    try:
        newest = _collect(os.fspath(folder), "", 0, found)
    except OSError:
        return _UNSURE
    if len(found) > MAX_FILES or newest > time.time_ns() - SETTLED_NS:
        return _UNSURE
    found.sort()
    return hashlib.blake2b(repr(found).encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _collect(folder: str, prefix: str, depth: int, found: list[_Fact]) -> int:
    """Add one fact an entry below `folder`; returns the newest time of state in nanoseconds."""
    newest = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            name = prefix + entry.name
            found.append(
                (name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode, status.st_ino)
            )
            newest = max(newest, status.st_ctime_ns)
            # beyond these limits the validator looks no further either
            if depth <= MAX_DEPTH and len(found) <= MAX_FILES and entry.is_dir(follow_symlinks=False):
                newest = max(newest, _collect(entry.path, name + "/", depth + 1, found))
    return newest


def rules_stamp() -> str:
    """Return what changes when kits are judged by other rules: this package's version, code and base."""
    digest = hashlib.sha256(__version__.encode())
    here = Path(__file__).resolve().parents[1]
    base = keys.MINI_FOLDER
    parts = [base / part / "config.json" for part in ("unet", "text_encoder")]
    for path in [*sorted(here.rglob("*.py")), *parts]:
        try:
            status = path.stat()
        except OSError:
            continue  # kits for that base say so themselves
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
