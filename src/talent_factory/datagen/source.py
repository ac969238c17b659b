"""The picture that a program starts from: a buffer first, else an address, as a file that can be read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from talent_factory.core.errors import PortraitError
from talent_factory.core.files import write_bytes
from talent_factory.datagen.portrait import MAX_BYTES, normalise
from talent_factory.datagen.remote import fetch_portrait

Buffer = bytes | bytearray | memoryview | IO[bytes]


def bring_picture(
    url: str | Path | None,
    buffer: Buffer | None,
    *,
    into: Path,
    name: str = "portrait",
    allow_local: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """A file below `into` with the picture of `buffer`, or when that cannot be read with that of `url`.

    A string is fetched (https from public addresses only, unless `allow_local`); a `Path` names a file of
    this machine; `name` is what messages call the picture. `say` is told when the address had to serve.
    Raises PortraitError in the words of the caller: no path of a temporary file is ever named.
    """
    if buffer is not None:
        try:
            return _readable(_bytes_of(buffer, f"{name}_buffer"), into / f"{name}_buffer")
        except PortraitError as error:
            if not url:
                raise
            say(f"{error.message}; the address serves instead")
    if isinstance(url, os.PathLike):
        normalise(Path(url))
        return Path(url)
    if not url or not isinstance(url, str):
        raise PortraitError(
            f"there is no {name}: neither a buffer nor an address was given",
            remedy="give an https address, a pathlib.Path, or the bytes of a picture",
        )
    return _readable(fetch_portrait(url, allow_local=allow_local), into / _name_of(url))


def _readable(data: bytes, path: Path) -> Path:
    if not data:
        raise PortraitError(f"{path.name} is empty", remedy="read the picture again and rewind it")
    write_bytes(path, data)
    try:
        normalise(path)
    except PortraitError as error:
        error.message = error.message.replace(f"{path.parent}{os.sep}", "")
        raise
    return path


def _bytes_of(buffer: Buffer, name: str) -> bytes:
    if isinstance(buffer, bytes | bytearray | memoryview):
        data = bytes(buffer)
    else:
        try:
            data = buffer.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: a closed file
            raise PortraitError(
                f"{name} cannot be read ({error})", remedy="give bytes or an open binary file"
            ) from None
        if not isinstance(data, bytes):
            raise PortraitError(f"{name} gives text, not bytes", remedy='open the file with "rb"')
    if len(data) > MAX_BYTES:
        raise PortraitError(
            f"{name} is larger than {MAX_BYTES // 2**20} MiB", remedy="save it smaller, as JPEG"
        )
    return data


def _name_of(url: str) -> str:
    """The last part of the address as a file name, for the record of where the picture came from."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", urlsplit(url).path.rpartition("/")[2])[-80:].lstrip(".")
    return name or "picture"
