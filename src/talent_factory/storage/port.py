"""The one door to every place that keeps finished images: put, get, head, list, delete, url."""

from __future__ import annotations

from typing import Annotated, Protocol

from pydantic import Field

from talent_factory.core.records import Record

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Stored(Record):
    """What `put` did: the key, a plain address (no signature), the content's digest and size in bytes.

    `existed` says that the very same bytes were there before and nothing was sent again.
    """

    key: str
    url: str
    sha256: Sha256
    bytes: int = Field(ge=0)
    existed: bool = False


class Entry(Record):
    """What is known of one object; `sha256` is None where the object was not put there by a Store."""

    key: str
    bytes: int = Field(ge=0)
    content_type: str = ""
    sha256: Sha256 | None = None


class Store(Protocol):
    """A place for objects named by keys ("ada/training_data/x.jpg"), safe from several threads.

    Every method raises StorageError when the place is missing, denied, unreachable or broken, UsageError for
    a key that is none (see `storage.keys.checked_key`), DiskFull where the place is a full disk. No message
    holds a key pair, a token or a signature.
    """

    @property
    def name(self) -> str:
        """Short id for manifests, such as "local" or "s3"."""
        ...

    @property
    def where(self) -> str:
        """The place in words a user knows: the folder, or the bucket and its region or endpoint."""
        ...

    def check(self, prefix: str = "") -> None:
        """Write and delete a tiny object below `prefix`, so that a store that cannot keep is known before
        anything is paid for; raises StorageError.
        """
        ...

    def put(self, key: str, data: bytes, *, content_type: str = "", replace: bool = False) -> Stored:
        """Keep `data` under `key`, with its sha256 beside it; putting the same bytes again changes nothing.

        Other bytes under the same key are replaced only with `replace`, else StorageError. An empty
        `content_type` is guessed from the key's suffix.
        """
        ...

    def get(self, key: str) -> bytes:
        """The bytes under `key`; StorageError when there are none or they no longer fit their sha256."""
        ...

    def head(self, key: str) -> Entry | None:
        """What is known of the object, or None when there is none."""
        ...

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        """The objects in the folder `prefix` and below, sorted by key; without digests and types."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    def url(self, key: str, *, expires_s: float | None = None) -> str:
        """The address of an object (there or not): plain, or signed and good for `expires_s` seconds.

        A plain address opens only where the place is public. A store without signatures gives the plain one.
        """
        ...
