"""Keys of objects, and the ids they are made of: checked before they come near a path or an address."""

from __future__ import annotations

import mimetypes
import re
from urllib.parse import quote

from talent_factory.core.errors import UsageError

MAX_KEY_BYTES = 1024
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+=-]{0,127}")
_UNFIT = '\\:*?"<>|#%'
_SUFFIX = re.compile(r"[a-z0-9]{1,8}")
# Names that Windows takes for devices, whatever suffix follows.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def checked_id(kind: str, value: str | int) -> str:
    """`value` as an id that is safe inside a key, a path and an address; `kind` names it in messages.

    Letters, digits and `. _ @ + = -` are taken, 1 to 128 of them, beginning with a letter or digit. Raises
    UsageError for anything else: slashes, "..", control characters, spaces, letters beyond ASCII.
    """
    text = "" if isinstance(value, bool) or not isinstance(value, str | int) else str(value)
    if not _ID.fullmatch(text) or ".." in text or text.endswith(".") or _DEVICES.fullmatch(text):
        raise UsageError(
            f"{kind} {_shown(value)} cannot be part of a key",
            remedy="use 1 to 128 of A-Z a-z 0-9 . _ @ + = - and begin with a letter or digit",
        )
    return text


def training_folder(user_id: str | int, actor_id: str | int) -> str:
    """The folder of an actor's training images: `{user_id}/custom-actors/{actor_id}/training_data`."""
    user, actor = checked_id("user id", user_id), checked_id("actor id", actor_id)
    return f"{user}/custom-actors/{actor}/training_data"


def training_image_key(
    user_id: str | int, actor_id: str | int, number: int, *, suffix: str = "jpg", kind: str = "actor"
) -> str:
    """The key of training image `number` (from 0 or 1, two digits at least) of an actor or a style.

    `…/training_data/actor_{actor_id}_td_{NN}.jpg`. Raises UsageError for bad ids, kinds, numbers, suffixes.
    """
    folder = training_folder(user_id, actor_id)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 100_000:
        raise UsageError(
            f"image number {_shown(number)} is none", remedy="count the images from 0 up to 99999"
        )
    if kind not in ("actor", "style"):
        raise UsageError(f"kind {_shown(kind)} is unknown", remedy="use actor or style")
    if not isinstance(suffix, str) or not _SUFFIX.fullmatch(suffix):
        raise UsageError(f"suffix {_shown(suffix)} is none", remedy="use jpg or png, without a dot")
    return f"{folder}/{kind}_{checked_id('actor id', actor_id)}_td_{number:02d}.{suffix}"


def checked_key(key: str) -> str:
    """`key` itself when it is a relative POSIX path that every store takes.

    Raises UsageError for an empty or too long key (1024 bytes), empty segments, "." and "..", hidden
    segments (leading dot), control characters, and what some file system or address cannot hold as it is.
    """
    problem = _key_problem(key)
    if problem:
        raise UsageError(f"key {_shown(key)} {problem}", remedy="use names joined by single slashes")
    return key


def checked_prefix(prefix: str) -> str:
    """`prefix` without a slash at its end, checked like a key; "" stands for everything."""
    if prefix == "":
        return ""
    return checked_key(prefix.removesuffix("/") if isinstance(prefix, str) else prefix)


def quoted(key: str) -> str:
    """The key as the path of an address: everything but unreserved characters and slashes in percent form."""
    return quote(key, safe="/")


def content_type_of(key: str) -> str:
    """The media type that goes with the key's suffix, "application/octet-stream" when none is known."""
    suffix = "." + key.rpartition(".")[2].lower()
    # the table of the machine may lack or change entries; ours is the same everywhere
    return _TYPES.get(suffix) or mimetypes.types_map.get(suffix, "application/octet-stream")


_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".txt": "text/plain",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".safetensors": "application/octet-stream",
}


def _key_problem(key: str) -> str:
    if not isinstance(key, str) or not key:
        return "is empty"
    try:
        if len(key.encode("utf-8")) > MAX_KEY_BYTES:
            return f"is longer than {MAX_KEY_BYTES} bytes"
    except UnicodeEncodeError:
        return "is no valid text"
    if any(ord(letter) < 32 or ord(letter) == 127 or letter in _UNFIT for letter in key):
        return f"holds a control character or one of {_UNFIT}"
    for segment in key.split("/"):
        if not segment:
            return "holds an empty part"
        if segment.startswith("."):
            return "holds a part that begins with a dot"
        if segment.endswith((".", " ")) or segment.startswith(" ") or _DEVICES.fullmatch(segment):
            return "holds a part that some file systems cannot keep"
        if len(segment.encode("utf-8")) > 200:
            return "holds a part longer than 200 bytes"
    return ""


def _shown(value: object) -> str:
    """The value as one short line, control characters escaped, for a message."""
    text = repr(value) if isinstance(value, str) else f"{value!r} ({type(value).__name__})"
    return text if len(text) <= 80 else f"{text[:77]}…"
