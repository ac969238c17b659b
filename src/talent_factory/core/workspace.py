"""Where things lie, what names are allowed, and who may write at a time."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from talent_factory.core.errors import UsageError, WorkspaceBusy

_ID = re.compile(r"avatar\.(identity|style)\.[a-z0-9_]+(\.[a-z0-9_]+)*")
_TOKEN = re.compile(r"[a-z0-9_]+")
# Windows opens devices under these names, with or without an extension
_RESERVED = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}
_LOCK_TRIES, _LOCK_PAUSE = 3, 0.01


@dataclass(frozen=True)
class Workspace:
    """One folder that holds all that the user makes; the folders below it are born on first use."""

    root: Path

    @property
    def talents(self) -> Path:
        """Finished kits, one folder `<talent_id>/` each."""
        return self.root / "talents" / "avatar"

    @property
    def runs(self) -> Path:
        """Trainings with their events, samples and checkpoints."""
        return self.root / "runs"

    @property
    def casts(self) -> Path:
        """Image sets made from a portrait."""
        return self.root / "casts"

    @property
    def datasets(self) -> Path:
        """Images with captions, ready to train on."""
        return self.root / "datasets"

    @property
    def people(self) -> Path:
        """Photos of real people, checked and prepared, one folder a person."""
        return self.root / "people"

    @property
    def personas(self) -> Path:
        """Saved mixes, one file `ID.json` each."""
        return self.root / "personas"

    @property
    def cache(self) -> Path:
        """What can be computed again; safe to delete."""
        return self.root / "cache"

    @property
    def reports(self) -> Path:
        """Self-contained report pages."""
        return self.root / "reports"


def workspace_from(path: Path | None = None) -> Workspace:
    """The workspace at `path`, else at $TALENT_WORKSPACE, else at the current folder.

    Raises:
        UsageError: the path is a file, or no text.
    """
    root = Path(path or os.environ.get("TALENT_WORKSPACE") or ".").expanduser().resolve()
    try:
        str(root).encode("utf-8")
    except UnicodeEncodeError:
        # records hold paths, and JSON has no word for such a name
        raise UsageError(
            f"workspace {root} has a name that is not UTF-8", remedy="name another folder with --workspace"
        ) from None
    if root.exists() and not root.is_dir():
        raise UsageError(f"workspace {root} is not a folder", remedy="name a folder with --workspace")
    return Workspace(root)


def check_id(text: str) -> str:
    """Return `text` when it is a talent id such as `avatar.identity.dot_kairo`, safe as a folder name.

    Raises:
        UsageError: anything else, a trailing newline included.
    """
    if len(text) <= 100 and _ID.fullmatch(text) and not _RESERVED.intersection(text.split(".")):
        return text
    raise UsageError(
        f"{_shown(text)} is no talent id",
        remedy="write avatar.identity.NAME or avatar.style.NAME in lower-case letters, digits, _ and dots, "
        "at most 100 characters",
    )


def check_token(text: str) -> str:
    """Return `text` when it can be the trigger word of an actor or style: [a-z0-9_]+, at most 40 characters.

    Raises:
        UsageError: anything else.
    """
    if len(text) <= 40 and _TOKEN.fullmatch(text) and text not in _RESERVED:
        return text
    raise UsageError(
        f"{_shown(text)} is no token",
        remedy="use lower-case letters, digits and _, at most 40 characters, for example dot_kairo",
    )


@contextmanager
def exclusive(path: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of the folder `path`; it dies with the process, so a killed one never blocks the next.

    Another that holds it is waited for, `wait_s` seconds.

    Raises:
        WorkspaceBusy: another process (named by its id) or another part of this one holds it.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _lock_soon(descriptor, wait_s):
            holder = (
                os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() if hasattr(os, "pread") else ""
            )
            who = f"process {holder}" if holder.isdecimal() else "another process"
            raise WorkspaceBusy(
                f"{path} is in use by {who}",
                remedy="wait until it ends, or choose another folder with --workspace",
            )
        # the file stays after release: removing it would let two processes lock two different files
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _lock_soon(descriptor: int, wait_s: float) -> bool:
    """Whether the lock is ours; one who only looks whether it is held has it for a moment."""
    for _ in range(_LOCK_TRIES + int(wait_s / _LOCK_PAUSE)):
        if _try_lock(descriptor):
            return True
        time.sleep(_LOCK_PAUSE)
    return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            # the byte lies beyond the pid text, which must stay readable for others
            os.lseek(descriptor, 1 << 20, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _shown(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:117] + "...")
