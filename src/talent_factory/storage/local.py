"""The Store in a local folder: plain files that any program opens, digests in a hidden folder beside."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from talent_factory.core.errors import StorageError, TalentError
from talent_factory.core.files import (
    clear_leftovers,
    disk_full,
    is_no_room,
    sha256_bytes,
    sha256_file,
    write_bytes,
)
from talent_factory.core.records import Record, read_record, write_record
from talent_factory.storage.keys import checked_key, checked_prefix, content_type_of
from talent_factory.storage.port import Entry, Sha256, Stored

_LABELS = ".store"


class _Label(Record):
    """What is noted of a file when it is stored."""

    sha256: Sha256
    bytes: int
    content_type: str


class LocalStore:
    """Objects as files below one folder; writes are atomic and reach the disk before `put` returns.

    Two processes that put different bytes under one key at the same moment are not told apart: the last
    one stays. Within a process they are.
    """

    def __init__(self, root: Path) -> None:
        """Keep objects below `root`, which is made by the first `put`."""
        self._root = Path(os.path.abspath(root))
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}

    def __repr__(self) -> str:
        return f"LocalStore({self._root})"

    @property
    def name(self) -> str:
        """Short id for manifests: "local"."""
        return "local"

    @property
    def where(self) -> str:
        """The folder."""
        return f"folder {self._root}"

    def check(self, prefix: str = "") -> None:
        """Write and delete a tiny file below `prefix`; raises StorageError or DiskFull."""
        folder = self._root / checked_prefix(prefix)
        with self._errors("a test of writing"):
            probe = folder / f"check-{secrets.token_hex(8)}"
            write_bytes(probe, b"ok\n")
            probe.unlink()

    def put(self, key: str, data: bytes, *, content_type: str = "", replace: bool = False) -> Stored:
        """Keep `data` under `key`; the same bytes again are not written again."""
        path = self._path(key)
        label = _Label(
            sha256=sha256_bytes(data), bytes=len(data), content_type=content_type or content_type_of(key)
        )
        with self._errors(f"storing {key}"), self._alone(key):
            existed = (
                path.is_file() and path.stat().st_size == len(data) and sha256_file(path) == label.sha256
            )
            if not existed:
                if path.exists() and not replace:
                    raise StorageError(
                        f"{self.where} holds another object under {key}",
                        remedy="choose another id, delete the file, or store with replace=True",
                    )
                # without a label a file is taken as it is, so a kill here leaves no contradiction
                self._label_path(key).unlink(missing_ok=True)
                clear_leftovers(path.parent)
                write_bytes(path, data)
            if not existed or self._label(key) != label:
                write_record(self._label_path(key), label)
        return Stored(key=key, url=self.url(key), sha256=label.sha256, bytes=len(data), existed=existed)

    def get(self, key: str) -> bytes:
        """The bytes of the file, held to the sha256 that was noted when it was stored."""
        path = self._path(key)
        with self._errors(f"reading {key}"):
            data = path.read_bytes()
            label = self._label(key)
        if label is not None and label.sha256 != sha256_bytes(data):
            raise StorageError(
                f"reading {key} failed: {path} was changed after it was stored",
                remedy="restore it, or store the image again with replace=True",
            )
        return data

    def head(self, key: str) -> Entry | None:
        """What is known of the file, or None when there is none."""
        path = self._path(key)
        with self._errors(f"looking for {key}"):
            if not path.is_file():
                return None
            label = self._label(key)
            return Entry(
                key=key,
                bytes=path.stat().st_size,
                content_type=label.content_type if label else content_type_of(key),
                sha256=label.sha256 if label else None,
            )

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        """The files in the folder `prefix` and below, sorted by key; hidden ones are not ours."""
        folder = self._root / checked_prefix(prefix)
        entries = []
        with self._errors(f"listing {prefix or 'everything'}"):
            self._inside(folder)
            for here, folders, names in os.walk(folder):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    path = Path(here) / name
                    if not name.startswith(".") and path.is_file():
                        key = path.relative_to(self._root).as_posix()
                        entries.append(Entry(key=key, bytes=path.stat().st_size))
        return tuple(sorted(entries, key=lambda entry: entry.key))

    def delete(self, key: str) -> None:
        """Remove a file; one that is not there is no error."""
        path = self._path(key)
        with self._errors(f"deleting {key}"), self._alone(key):
            self._label_path(key).unlink(missing_ok=True)
            with suppress(NotADirectoryError):
                path.unlink(missing_ok=True)

    def url(self, key: str, *, expires_s: float | None = None) -> str:
        """The file's address (file://…); a file needs no signature, so `expires_s` changes nothing."""
        return self._path(key).as_uri()

    def _path(self, key: str) -> Path:
        path = self._root / checked_key(key)
        self._inside(path)
        return path

    def _inside(self, path: Path) -> None:
        """Raises StorageError when a link on the way leads out of the folder."""
        root = self._root.resolve()
        if not path.resolve().is_relative_to(root):
            raise StorageError(
                f"{path} leads out of {self._root} through a link",
                remedy="remove the link, or store elsewhere",
            )

    def _label_path(self, key: str) -> Path:
        return self._root / _LABELS / f"{key}.json"

    def _label(self, key: str) -> _Label | None:
        """The note of a stored file; none when it was put there by hand or the note is broken."""
        try:
            return read_record(self._label_path(key), _Label)
        except TalentError:
            return None

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        with self._lock:
            lock = self._busy.setdefault(key, threading.Lock())
        with lock:
            yield

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise StorageError(
                f"{doing} failed: {self.where} has no such object",
                remedy="list what is there, or put it there first",
            ) from None
        except OSError as error:
            if is_no_room(error):
                raise disk_full(self._root, error) from None
            raise StorageError(
                f"{doing} failed: {self.where}: {error.strerror or error}",
                remedy="check that the folder is there and may be written",
            ) from None
