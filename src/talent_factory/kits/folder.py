"""The files of one kit as they lie on disk: listed without following links, each read and hashed once."""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from talent_factory.kits.findings import Notes
from talent_factory.kits.manifest import WEIGHTS_FILE
from talent_factory.kits.names import folded, is_junk, kind_problem, name_problem
from talent_factory.kits.strict import open_regular, read_regular

MAX_FILES = 2000
MAX_DEPTH = 6
MAX_WEIGHTS_BYTES = 4 << 30
MAX_OTHER_BYTES = 64 << 20
# What torch, joblib and numpy load by running code that the file brings along.
PICKLE_SUFFIXES = frozenset(
    {".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle", ".joblib", ".dill", ".npy", ".npz", ".mar", ".h5"}
)


class KitFolder:
    """One kit on disk; `sizes` maps each regular file's name (POSIX, relative) to its bytes."""

    def __init__(self, root: Path, notes: Notes) -> None:
        self.root = root
        self.notes = notes
        self.sizes: dict[str, int] = {}
        self.digests: dict[str, str] = {}
        self._folded: dict[str, str] = {}
        self.exists = self._check_root() and self._list(root, "", 0)

    def read(self, name: str, *, limit: int) -> bytes | None:
        """Return the bytes of a listed file and keep their digest; None (with a finding) on failure."""
        if name not in self.sizes:
            self.notes.error("file-missing", name, f"{name} is not there", "pack the kit anew")
            return None
        try:
            data = read_regular(self.root / name, limit=limit)
        except OSError as error:
            self._unreadable(name, error)
            return None
        self.digests[name] = hashlib.sha256(data).hexdigest()
        return data

    @contextmanager
    def mapped(self, name: str) -> Iterator[mmap.mmap | bytes | None]:
        """Yield the bytes of a large file, mapped, not copied; None (with a finding) on failure."""
        if name not in self.sizes:
            self.notes.error("file-missing", name, f"{name} is not there", "pack the kit anew")
            yield None
            return
        try:
            limit = MAX_WEIGHTS_BYTES if name == WEIGHTS_FILE else MAX_OTHER_BYTES
            descriptor, size = open_regular(self.root / name, limit=limit)
            try:
                # an empty file cannot be mapped
                data = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else b""
            finally:
                os.close(descriptor)
        except OSError as error:
            self._unreadable(name, error)
            yield None
            return
        try:
            yield data
        finally:
            if isinstance(data, mmap.mmap):
                data.close()

    def digest(self, name: str) -> str | None:
        """Return the sha256 of a listed file, reading it if nobody did before."""
        if name not in self.digests and name in self.sizes:
            with self.mapped(name) as data:
                if data is not None:
                    self.keep_digest(name, data)
        return self.digests.get(name)

    def keep_digest(self, name: str, data: mmap.mmap | bytes) -> None:
        """Hash a file that lies mapped already."""
        self.digests[name] = hashlib.sha256(data).hexdigest()

    def _check_root(self) -> bool:
        if self.root.is_symlink():
            self.notes.error("link", "", "the kit folder is a link", "copy the kit itself")
            return False
        if not self.root.is_dir():
            self.notes.error(
                "kit-missing", "", f"{self.root} is no folder", "talent kit list shows the kits there are"
            )
            return False
        return True

    def _list(self, folder: Path, prefix: str, depth: int) -> bool:
        try:
            with os.scandir(folder) as entries:
                some = itertools.islice(entries, MAX_FILES + 1)
                found = sorted(some, key=lambda entry: entry.name)
        except OSError as error:
            self._unreadable(prefix.rstrip("/"), error)
            return bool(depth)
        for entry in found:
            name = prefix + entry.name
            if len(self.sizes) >= MAX_FILES or depth > MAX_DEPTH:
                remedy = "remove what does not belong to the kit"
                self.notes.error(
                    "too-many-files", "", f"more than {MAX_FILES} files or {MAX_DEPTH} levels", remedy
                )
                return True
            self._take(entry, name, depth)
        return True

    def _take(self, entry: os.DirEntry[str], name: str, depth: int) -> None:
        shown = name.encode("utf-8", "replace").decode()
        self._check_name(entry.name, name, shown)
        if entry.is_symlink():
            self.notes.error("link", shown, "a link", "put the file itself in the kit")
        elif entry.is_dir(follow_symlinks=False):
            self._list(Path(entry.path), name + "/", depth + 1)
        elif not entry.is_file(follow_symlinks=False):
            self.notes.error("link", shown, "a pipe, socket or device", "remove it")
        else:
            if os.path.splitext(name)[1].lower() in PICKLE_SUFFIXES:
                remedy = "remove it; kits hold weights as safetensors only"
                self.notes.error("pickle", shown, "a file of this kind can run code when loaded", remedy)
            elif (problem := kind_problem(name)) and not is_junk(name):
                self.notes.error("kind", shown, problem, "remove what does not belong to the kit")
            size = self.sizes[name] = entry.stat(follow_symlinks=False).st_size
            if size > MAX_OTHER_BYTES and name != WEIGHTS_FILE:
                message = f"{size} bytes; beside the weights {MAX_OTHER_BYTES} are enough"
                self.notes.error("file-unreadable", shown, message, "remove what does not belong to the kit")

    def _check_name(self, part: str, name: str, shown: str) -> None:
        remedy = "rename it: letters, digits, _ and - do everywhere"
        problem = name_problem(part)
        if problem:
            self.notes.error("name", shown, f"its name {problem}", remedy)
        other = self._folded.setdefault(folded(name), name)
        if other != name:
            self.notes.error(
                "name", shown, "differs from another only in case or in how it is written", remedy
            )

    def _unreadable(self, name: str, error: OSError) -> None:
        message = f"cannot be read: {error.strerror or error}"
        self.notes.error("file-unreadable", name, message, "restore the file or pack the kit anew")
