"""The Store over the object-store library: S3 and what speaks like it, and a bucket in memory."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from talent_factory.core.errors import StorageError, TalentError, UsageError
from talent_factory.core.files import sha256_bytes
from talent_factory.storage.explain import code_of, explain, lacks_conditions, lost_answer
from talent_factory.storage.keys import checked_key, checked_prefix, content_type_of, quoted
from talent_factory.storage.port import Entry, Stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore import Attributes, GetResult
    from obstore.store import MemoryStore, S3Store

# The library gives attributes under the names they were put with, but some servers change the case.
_DIGEST = "sha256"
MAX_SIGNED_S = 7 * 24 * 3600.0


class ObjectStore:
    """Objects in a bucket, each with its sha256 as metadata that every `get` is held to."""

    def __init__(self, inner: S3Store | MemoryStore, *, name: str, where: str, public: str) -> None:
        """`where` names the place for a user; `public` begins plain addresses, without a slash."""
        self._inner = inner
        self._name, self._where, self._public = name, where, public
        # whether "only if there is nothing yet" is understood: most do, and those that refuse are asked once
        self._conditions = True
        self._bucket_seen = False

    def __repr__(self) -> str:
        return f"ObjectStore({self._where})"

    @property
    def name(self) -> str:
        """Short id for manifests: "s3" or "memory"."""
        return self._name

    @property
    def where(self) -> str:
        """The bucket and its region or endpoint."""
        return self._where

    def check(self, prefix: str = "") -> None:
        """Write and delete a tiny object below `prefix`; raises StorageError when that cannot be done."""
        folder = checked_prefix(prefix)
        key = f"{folder}/check-{secrets.token_hex(8)}" if folder else f"check-{secrets.token_hex(8)}"
        with self._errors("a test of writing"):
            self._write(key, b"ok\n", "text/plain", create=False)
            self._bucket_seen = True
            self._remove(key)

    def put(self, key: str, data: bytes, *, content_type: str = "", replace: bool = False) -> Stored:
        """Keep `data` under `key`; the same bytes again are not sent again."""
        checked_key(key)
        digest = sha256_bytes(data)
        kind = content_type or content_type_of(key)
        with self._errors(f"storing {key}"):
            before = self._known_before(key)
            if before is None:
                if self._write(key, data, kind, create=not replace):
                    return self._stored(key, data, digest)
                before = self._head(key)  # another writer was quicker
            if before is not None and self._same(before, digest, len(data)):
                return self._stored(key, data, digest, existed=True)
            if not replace:
                raise StorageError(
                    f"{self._where} holds another object under {key}",
                    remedy="choose another id, delete the object, or store with replace=True",
                )
            self._write(key, data, kind, create=False)
        return self._stored(key, data, digest)

    def get(self, key: str) -> bytes:
        """The bytes under `key`, held to the sha256 that was stored with them."""
        checked_key(key)
        with self._errors(f"reading {key}"):
            result = self._inner.get(key)
            wanted = _digest_of(result.attributes)
            data = bytes(result.bytes())
        if wanted is not None and sha256_bytes(data) != wanted:
            raise StorageError(
                f"reading {key} failed: its bytes at {self._where} do not fit their sha256",
                remedy="try again; if it stays so, store the image again with replace=True",
            )
        return data

    def head(self, key: str) -> Entry | None:
        """What is known of the object, or None when there is none."""
        checked_key(key)
        with self._errors(f"looking for {key}"):
            return self._head(key)

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        """The objects in the folder `prefix` and below, sorted by key."""
        folder = checked_prefix(prefix)
        with self._errors(f"listing {folder or 'everything'}"):
            found = [item for page in self._inner.list(folder or None) for item in page]
        entries = (Entry(key=str(item["path"]), bytes=int(item["size"])) for item in found)
        return tuple(sorted(entries, key=lambda entry: entry.key))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        checked_key(key)
        with self._errors(f"deleting {key}"):
            self._remove(key)

    def url(self, key: str, *, expires_s: float | None = None) -> str:
        """The plain address of an object, or a signed one, good for `expires_s` seconds (<= 7 days)."""
        checked_key(key)
        if expires_s is None or self._name == "memory":
            return f"{self._public}/{quoted(key)}"
        if not 1 <= expires_s <= MAX_SIGNED_S:
            raise UsageError(
                f"a signed address cannot last {expires_s:g} s", remedy="ask for 1 s to 604800 s (7 days)"
            )
        from datetime import timedelta

        import obstore

        with self._errors(f"signing an address for {key}"):
            inner = cast("S3Store", self._inner)
            return obstore.sign(inner, "GET", key, timedelta(seconds=int(expires_s)))

    def _stored(self, key: str, data: bytes, digest: str, *, existed: bool = False) -> Stored:
        return Stored(key=key, url=self.url(key), sha256=digest, bytes=len(data), existed=existed)

    def _write(self, key: str, data: bytes, content_type: str, *, create: bool) -> bool:
        """Send the bytes; False when `create` was asked and something is there already."""
        from obstore.exceptions import AlreadyExistsError

        labels = cast("Attributes", {"Content-Type": content_type, _DIGEST: sha256_bytes(data)})
        # the library repeats what may be repeated, but no conditional put whose answer was lost; ours may be:
        # if the first one arrived, the next finds its own bytes
        for pause in (0.2, 0.8, 3.2, None):
            if not (create and self._conditions):
                break
            try:
                self._inner.put(key, data, attributes=labels, mode="create", use_multipart=False)
                return True
            except AlreadyExistsError:
                return False
            except _failures() as error:
                if lacks_conditions(error):
                    self._conditions = False
                elif pause is None or not lost_answer(error):
                    raise
                else:
                    time.sleep(pause)
        # one request, never parts: the bucket then holds all of it or nothing
        self._inner.put(key, data, attributes=labels, use_multipart=False)
        return True

    def _known_before(self, key: str) -> Entry | None:
        """What is there before a put; who may write but not look is not hindered by that."""
        from obstore.exceptions import PermissionDeniedError

        try:
            return self._head(key)
        except PermissionDeniedError:
            # S3 says 403 for "not there" to those who may not list; the put itself will tell
            return None

    def _head(self, key: str) -> Entry | None:
        try:
            result: GetResult = self._inner.get(key, options={"head": True})
        except FileNotFoundError:
            self._see_bucket()
            return None
        self._bucket_seen = True
        labels = {name.lower(): value for name, value in _labels(result.attributes).items()}
        return Entry(
            key=key,
            bytes=int(result.meta["size"]),
            content_type=labels.get("content-type", ""),
            sha256=_digest_of(result.attributes),
        )

    def _see_bucket(self) -> None:
        """Tell "no such object" from "no such bucket", which a HEAD answers alike: the latter raises."""
        if self._bucket_seen:
            return
        try:
            next(iter(self._inner.list("check", chunk_size=1)), None)
        except _failures() as error:
            if code_of(error) == "NoSuchBucket":
                raise
        self._bucket_seen = True

    def _same(self, before: Entry, digest: str, size: int) -> bool:
        if before.bytes != size:
            return False
        if before.sha256 is not None:
            return before.sha256 == digest
        return sha256_bytes(bytes(self._inner.get(before.key).bytes())) == digest

    def _remove(self, key: str) -> None:
        try:
            self._inner.delete(key)
        except FileNotFoundError as error:
            if code_of(error) == "NoSuchBucket":
                raise

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Every failure of the library as one StorageError; its own text may hold whole requests."""
        try:
            yield
        except TalentError:
            raise
        except _failures() as error:
            raise explain(error, doing=doing, where=self._where) from None


def memory_store() -> ObjectStore:
    """A bucket in this process's memory, gone with it: for tests and trials."""
    from obstore.store import MemoryStore

    return ObjectStore(MemoryStore(), name="memory", where="the store in memory", public="memory://bucket")


def _failures() -> tuple[type[Exception], ...]:
    """What the library raises; anything else is a fault of ours and must be seen."""
    from obstore.exceptions import BaseError

    # besides its own tree: FileNotFoundError, kinds of RuntimeError and, for paths, ValueError
    return (BaseError, OSError, RuntimeError, ValueError)


def _labels(attributes: Mapping[str, str] | Attributes) -> dict[str, str]:
    return {str(name): str(value) for name, value in attributes.items()}


def _digest_of(attributes: Mapping[str, str] | Attributes) -> str | None:
    for name, value in _labels(attributes).items():
        if name.lower() == _DIGEST and len(value) == 64 and set(value) <= set("0123456789abcdef"):
            return value
    return None
