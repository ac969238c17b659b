"""Writes that either happen whole or not at all, and the hashes that name contents.

Every write goes to a temporary neighbour on the same file system, is flushed to the disk, renamed into place,
and the folder is flushed too; a kill at any moment leaves the old content or the new one, never a mixture.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talent_factory.core.errors import DiskFull, FileError, TalentError

_PREFIX = ".tmp-"
_OLD = ".old-"
_TEMPORARY = re.compile(rf"{re.escape(_PREFIX)}\d+-")
_CHUNK = 1 << 20
# The cut keeps the name below the 255 bytes of common file systems.
_KEPT_NAME = 40
SUMS = "SHA256SUMS"
# EFBIG is what a file-size limit or a FAT disk answers: for the user it is the same lack of room
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# safetensors and tokenizers raise errors of their own that name the number only in their text
_RUST_ERROR = re.compile(r"\(os error (\d{1,9})\)")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path to fill; on success it becomes `target`, on any error it vanishes.

    The temporary name ends like the target's, for libraries that choose a format by suffix.

    Raises:
        DiskFull: the file system took no more bytes; an existing target is untouched.
        FileError: the target is a folder.
    """
    if Path(target).is_dir():
        raise FileError(
            f"{target} is a folder, not a file", remedy="name a file, in that folder or elsewhere"
        )
    temporary = _temporary_beside(target)
    try:
        with _disk_errors(target, temporary):
            yield temporary
            _fsync_file(temporary)
            os.replace(temporary, target)
            fsync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it replaces `target` as a whole.

    Where the system can exchange two names in one step (Linux) a reader never sees the target missing.
    Without `replace` it only takes a name that is free at the end, too: of two that want it one gets it.

    Raises:
        DiskFull: the file system took no more bytes; an existing target is untouched.
        FileError: the target is there, and may not be replaced.
    """
    target = Path(target)
    restore_folder(target)
    temporary = _temporary_beside(target)
    try:
        with _disk_errors(target, temporary):
            temporary.mkdir()
            yield temporary
            _fsync_tree(temporary)
            if replace:
                _swap_folder(temporary, target)
            else:
                _claim_folder(temporary, target)
            fsync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder in one step for every reader; what a kill leaves of it `clear_leftovers` takes."""
    temporary = _temporary_beside(folder)
    os.rename(folder, temporary)
    fsync_folder(folder.parent)
    shutil.rmtree(temporary)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` atomically; folders on the way are made.

    Raises:
        DiskFull: the file system took no more bytes.
    """
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically as UTF-8 with the line ends as given."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, obj: object) -> None:
    """Write `obj` atomically as JSON: indented, keys sorted, one newline at the end.

    Raises:
        ValueError: a number is not finite; JSON has no word for it.
    """
    write_text(path, json_text(obj))


def json_text(obj: object) -> str:
    """The text that `write_json` writes, so that equal objects are equal bytes."""
    return json.dumps(obj, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read one JSON document.

    Raises:
        FileError: the file is missing, is not UTF-8 or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileError(f"{path} does not exist", remedy="check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FileError(f"{path} is not valid JSON: {error}", remedy="restore it or make it anew") from None


def name_as_text(name: str) -> str:
    """A file name as text that UTF-8 can hold; other bytes, as old archives leave them, become marks."""
    return os.fsencode(name).decode("utf-8", "replace")


def sha256_bytes(data: bytes) -> str:
    """The sha256 of `data` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The sha256 of a file's content as 64 lower-case hex digits, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def sha256_tree(root: Path, *, exclude: Container[str] = ()) -> str:
    """One sha256 over all files below `root`: names and contents in sorted order.

    `exclude` holds relative POSIX paths to leave out; hidden temporaries of this module never count.
    """
    root = Path(root)
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        if name in exclude or path.name.startswith((_PREFIX, _OLD)):
            continue
        # both parts have a fixed end, so no two different trees can feed the same bytes
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + sha256_file(path).encode() + b"\n")
    return digest.hexdigest()


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` into `folder`: `digest  relative/name` lines that sha256sum(1) reads."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    lines = [f"{sha256_file(folder / name)}  {name}\n" for name in names if name != SUMS]
    write_text(folder / SUMS, "".join(lines))


def check_sums(folder: Path) -> list[str]:
    """Names listed in `folder`/SHA256SUMS whose file is missing or has another content."""
    broken = []
    for line in (folder / SUMS).read_text("utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or sha256_file(path) != digest:
            broken.append(name)
    return broken


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename survives a power cut."""
    if sys.platform == "win32":  # Windows cannot open folders; NTFS journals its renames
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no fsync for folders
            raise
    finally:
        os.close(descriptor)


def clear_leftovers(folder: Path) -> int:
    """Remove what killed processes left in `folder`; returns how many entries went.

    Temporaries of living processes stay, so this is safe beside another writer on the same machine.
    """
    removed = 0
    if not folder.is_dir():
        return 0
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(_OLD):
            restore_folder(folder / entry.name.removeprefix(_OLD))
        elif _TEMPORARY.match(entry.name) and not _writer_alive(entry.name):
            removed += 1
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    return removed


def clear_halves(target: Path) -> None:
    """Remove what killed processes left of writing the file `target`, and nothing else beside it."""
    if not target.parent.is_dir():
        return
    tail = re.escape(target.name[-_KEPT_NAME:])
    ours = re.compile(rf"{re.escape(_PREFIX)}\d+-[0-9a-f]{{8}}-{tail}")
    for entry in target.parent.iterdir():
        if ours.fullmatch(entry.name) and not _writer_alive(entry.name):
            entry.unlink(missing_ok=True)


def restore_folder(target: Path) -> None:
    """Finish or undo a folder replacement that was cut between its two renames."""
    old = target.parent / f"{_OLD}{target.name}"
    if not old.exists():
        return
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(old, target)


@contextmanager
def _disk_errors(target: Path, temporary: Path | None = None) -> Iterator[None]:
    """DiskFull for a lack of room; other errors keep their kind, but name what the user knows."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise disk_full(target, error) from error
        if temporary is not None and isinstance(error.filename, str | os.PathLike):
            error.filename = os.fspath(error.filename).replace(str(temporary), str(target))
        raise
    except TalentError:
        raise
    except Exception as error:
        told = _RUST_ERROR.search(str(error))
        if told and int(told[1]) in _NO_ROOM:
            number = int(told[1])
            raise disk_full(target, OSError(number, os.strerror(number))) from error
        raise


def disk_full(where: Path | str, error: OSError) -> DiskFull:
    """The DiskFull that tells about `error` at `where`."""
    return DiskFull(
        f"no room to write {where}: {error.strerror or error}",
        remedy="free some space or choose another disk with --workspace, then run the same command again",
    )


def is_no_room(error: OSError) -> bool:
    """Whether an OSError means that the file system took no more bytes."""
    return error.errno in _NO_ROOM


def _temporary_beside(target: Path) -> Path:
    target = Path(target)
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    # the tail keeps the suffix
    return target.parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{target.name[-_KEPT_NAME:]}"


def _writer_alive(name: str) -> bool:
    pid = name.removeprefix(_PREFIX).partition("-")[0]
    return pid.isdecimal() and process_alive(int(pid))


def process_alive(pid: int) -> bool:
    """Whether a process with this id runs on this machine."""
    if pid <= 0:
        return False
    if sys.platform == "win32":
        import psutil

        return bool(psutil.pid_exists(pid))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _fsync_file(path: Path) -> None:
    # Windows flushes only what is open for writing
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            _fsync_file(Path(folder) / name)
        fsync_folder(Path(folder))


def _swap_folder(fresh: Path, target: Path) -> None:
    if not target.exists():
        os.rename(fresh, target)
        return
    if _exchange(fresh, target):
        return  # `fresh` now holds the old content; the caller removes it
    old = target.parent / f"{_OLD}{target.name}"
    shutil.rmtree(old, ignore_errors=True)
    os.rename(target, old)
    os.rename(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


def _claim_folder(fresh: Path, target: Path) -> None:
    # a rename replaces an empty folder, which nobody misses, and no other
    try:
        os.rename(fresh, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileError(f"{target} is there already", remedy="choose another name") from None
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step by renameat2(2); False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    at_cwd, exchange = -100, 2
    done: int = renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange)
    return done == 0
