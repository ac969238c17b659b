"""Reading many objects of others, quickly: from a folder, a bucket, or a web server; nothing is written.

A Store keeps our own images, each with its digest; what is read here was put there by anyone and may be
millions of small files, so a read is one request, and pieces of large files can be asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from talent_factory.core.errors import ConfigError, StorageError, UsageError
from talent_factory.storage.explain import code_of, explain
from talent_factory.storage.keys import checked_key

if TYPE_CHECKING:
    from obstore.store import HTTPStore, MemoryStore, S3Store

_PASSING = ("408", "425", "429", "500", "502", "503", "504", "SlowDown", "InternalError")
_PASSING_TOO = ("ServiceUnavailable", "RequestTimeout", "Throttling", "RequestLimitExceeded")
_GONE = ("404", "410", "NoSuchKey")


class StorageAway(StorageError):
    """The place does not answer now, or asks for patience: the same request may succeed later."""


class Reader(Protocol):
    """A place to read from by key ("audio/HDTF-0001/000000.npy"), safe from several threads.

    All methods give None for what is not there, and raise StorageAway when the place does not answer now,
    StorageError when it refuses; no message holds a key pair or a signature.
    """

    @property
    def where(self) -> str:
        """The place in words a user knows, without secrets."""
        ...

    @property
    def local(self) -> bool:
        """Whether reading costs no more than a disk does."""
        ...

    def get(self, key: str) -> bytes | None:
        """All bytes of an object."""
        ...

    def get_range(self, key: str, start: int, end: int) -> bytes | None:
        """The bytes from `start` to `end` (exclusive); fewer where the object ends before."""
        ...

    def stamp(self, key: str) -> str | None:
        """Changes whenever the object is replaced: its size and time, or what the server says of it."""
        ...


class FolderReader:
    """Files below a folder."""

    local = True

    def __init__(self, root: Path) -> None:
        self._root = os.path.abspath(root)

    @property
    def where(self) -> str:
        """The folder."""
        return f"folder {self._root}"

    def path(self, key: str) -> Path:
        """Where the file lies or would lie."""
        return Path(self._root, key)

    def get(self, key: str) -> bytes | None:
        """The file's bytes."""
        with _disk(self.where, key):
            try:
                # one open is what a training that reads thousands of files a second can afford
                with open(f"{self._root}/{key}", "rb", buffering=0) as stream:
                    return stream.read()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def get_range(self, key: str, start: int, end: int) -> bytes | None:
        """A piece of the file."""
        with _disk(self.where, key):
            try:
                with open(f"{self._root}/{key}", "rb") as stream:
                    stream.seek(start)
                    return stream.read(end - start)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def stamp(self, key: str) -> str | None:
        """Size and time of the last change."""
        with _disk(self.where, key):
            try:
                found = os.stat(f"{self._root}/{key}")
            except (FileNotFoundError, NotADirectoryError):
                return None
        return f"{found.st_size}-{found.st_mtime_ns}"


class ObjectReader:
    """Objects below a prefix of a bucket, or files of a web server."""

    local = False

    def __init__(self, inner: S3Store | HTTPStore | MemoryStore, *, where: str, prefix: str = "") -> None:
        """`prefix` is "" or ends in a slash."""
        self._inner, self._where, self._prefix = inner, where, prefix

    @property
    def where(self) -> str:
        """The bucket or the address."""
        return self._where

    def get(self, key: str) -> bytes | None:
        """The object's bytes."""
        with self._errors(key) as missing:
            result = self._inner.get(self._prefix + checked_key(key))
            data = bytes(result.bytes())
            if len(data) == int(result.meta["size"]):
                return data
            raise StorageAway(f"reading {key} from {self._where} was cut short", remedy="try again")
        return missing

    def get_range(self, key: str, start: int, end: int) -> bytes | None:
        """A piece of the object; StorageError where the server only gives whole ones."""
        with self._errors(key) as missing:
            return bytes(self._inner.get_range(self._prefix + checked_key(key), start=start, end=end))
        return missing

    def stamp(self, key: str) -> str | None:
        """The ETag, else time and size."""
        with self._errors(key) as missing:
            meta: Any = self._inner.head(self._prefix + checked_key(key))
            return str(meta.get("e_tag") or f"{meta['size']}-{meta['last_modified']}")
        return missing

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """What the library raises as ours; "not there" ends the block quietly, so that None follows it."""
        from obstore.exceptions import BaseError

        try:
            yield None
        except FileNotFoundError as error:
            if code_of(error) == "NoSuchBucket":
                raise explain(error, doing=f"reading {key}", where=self._where) from None
        except (BaseError, OSError, RuntimeError, ValueError) as error:
            if isinstance(error, StorageError):
                raise
            code = code_of(error)
            if code in _GONE:
                return
            told = explain(error, doing=f"reading {key}", where=self._where)
            # no code at all: the connection was refused, cut or timed out
            passing = not code or code in _PASSING or code in _PASSING_TOO
            kind = StorageAway if passing else StorageError
            raise kind(told.message, remedy=told.remedy) from None


def open_reader(
    where: str | Path,
    *,
    environ: Mapping[str, str] | None = None,
    dotenv: Path | None = None,
    timeout_s: float = 20.0,
) -> Reader:
    """The reader of a folder, of `s3://BUCKET/PREFIX` (keys as for Stores), or of `https://HOST/PATH`.

    Nothing is sent yet. Requests are not repeated here: who reads knows how long it can wait.

    Raises:
        UsageError: `where` is none of these, or an http address of another machine.
        ConfigError: settings of the bucket are missing; the message names the variable.
    """
    text = str(where)
    if isinstance(where, Path) or "://" not in text:
        return FolderReader(Path(where))
    parts = urlsplit(text)
    if parts.scheme == "file":
        return FolderReader(Path(parts.path))
    if parts.scheme == "s3":
        from talent_factory.storage.s3 import s3_client
        from talent_factory.storage.settings import s3_settings

        try:
            settings = s3_settings(parts.netloc or None, environ=environ, dotenv=dotenv)
        except ConfigError as error:
            # the settings speak of storing, which is what they were made for
            words = error.message.replace("storing in S3", "reading from S3")
            raise ConfigError(words, remedy=error.remedy.split(", or leave")[0]) from None
        inner = s3_client(settings, timeout_s=timeout_s, retries=0, patience_s=timeout_s)
        place = urlsplit(settings.endpoint).netloc if settings.endpoint else settings.region
        folder = parts.path.strip("/")
        return ObjectReader(
            inner, where=f"bucket {settings.bucket} ({place})", prefix=f"{folder}/" if folder else ""
        )
    if parts.scheme in ("http", "https") and parts.hostname:
        return _web(text, timeout_s)
    raise UsageError(
        f"{text[:80]!r} is no place to read from",
        remedy="name a folder, s3://BUCKET/PREFIX or https://HOST/PATH",
    )


def _web(address: str, timeout_s: float) -> ObjectReader:
    from obstore.store import HTTPStore

    parts = urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError(
            f"http://{parts.hostname} is not encrypted", remedy="give an https address, or this machine's"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            f"the address at {parts.hostname} holds a password, a query or a fragment",
            remedy="give a plain https address, or use s3:// with keys",
        )
    inner = HTTPStore.from_url(
        address.rstrip("/"),
        client_options={
            "allow_http": parts.scheme == "http",
            "connect_timeout": timedelta(seconds=min(5.0, timeout_s)),
            "timeout": timedelta(seconds=timeout_s),
        },
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=timeout_s)},
    )
    return ObjectReader(inner, where=f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}")


@contextmanager
def _disk(where: str, key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"reading {key} failed: {where}: {error.strerror or error}",
            remedy="check the disk and the rights of the folder",
        ) from None
