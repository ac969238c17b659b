"""Which store an answer like "s3", "s3://bucket" or a folder stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from talent_factory.core.errors import UsageError
from talent_factory.storage.local import LocalStore

if TYPE_CHECKING:
    from talent_factory.storage.port import Store

_KNOWN = "a folder, s3 (bucket from AWS_USER_FILES_BUCKET) or s3://BUCKET"


def open_store(
    where: str | Path | Store | None = None,
    *,
    default: Path | None = None,
    environ: Mapping[str, str] | None = None,
    dotenv: Path | None = None,
) -> Store:
    """The store that `where` names: None or "local" the folder `default`, a path that folder, "s3" or
    "s3://BUCKET" a bucket with keys from the environment or `.env`; a Store is returned as it is.

    Raises:
        ConfigError: settings of the bucket are missing; the message names the variable.
        UsageError: `where` names no known kind of store.
    """
    if where is None or where == "local":
        if default is None:
            raise UsageError("no folder to store in", remedy=f"name {_KNOWN}")
        return LocalStore(default)
    if isinstance(where, Path):
        return LocalStore(where)
    if not isinstance(where, str):
        return where
    text = where.strip()
    if text == "s3" or text.startswith("s3://"):
        bucket = text.removeprefix("s3").removeprefix("://").rstrip("/")
        if "/" in bucket:
            raise UsageError(
                f"{text[:80]!r}: keys begin at the bucket, so no folder can follow it",
                remedy="name the bucket alone: s3://BUCKET",
            )
        from talent_factory.storage.s3 import open_s3
        from talent_factory.storage.settings import s3_settings

        return open_s3(s3_settings(bucket or None, environ=environ, dotenv=dotenv))
    if not text or re.match(r"[a-z][a-z0-9+.-]+:", text, re.IGNORECASE) or "\0" in text:
        raise UsageError(f"{text[:80]!r} is no store that is known here", remedy=f"name {_KNOWN}")
    return LocalStore(Path(text))
