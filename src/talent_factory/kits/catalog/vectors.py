"""The vectors of kits in the catalog: what is encoded of each, and only what is new."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import FileError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.kits.catalog.database import transaction
from talent_factory.kits.catalog.encoder import TextImageEncoder, Vectors
from talent_factory.kits.images import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, ImageRefused, rgb_picture
from talent_factory.kits.manifest import EXAMPLES_FOLDER, PREVIEW_FILE
from talent_factory.kits.strict import read_regular

# Of each kit so many pictures are looked at; the preview is usually one of them.
MAX_PICTURES = 4
TEXTS, PICTURES = "texts", "pictures"
_PICTURE_SIDE = 512
_KITS_AT_A_TIME = 16
_SHOW_FROM = 20


class _Kit(NamedTuple):
    """A kit to encode: its row, its folder and its stamp in hex."""

    number: int
    folder: Path
    stamp: str


class _Source(NamedTuple):
    """One thing to encode; `name` begins with its kind, `content` is a text or the bytes of a picture."""

    name: str
    content: str | bytes

    @property
    def digest(self) -> str:
        """What tells whether it changed."""
        data = self.content if isinstance(self.content, bytes) else self.content.encode()
        return hashlib.sha256(data).hexdigest()[:32]


def key_of(encoder: TextImageEncoder) -> str:
    """The name under which an encoder's vectors are kept: another revision has others."""
    return f"{encoder.name} {encoder.revision[:32]}"


def encode_new(
    database: sqlite3.Connection,
    base_dir: Path,
    encoder: TextImageEncoder,
    *,
    reporter: Reporter | None = None,
) -> int:
    """Encode what is new in the valid kits of an up-to-date catalog; returns of how many kits."""
    key = key_of(encoder)
    rows = database.execute(
        "SELECT number, folder, hex(stamp) FROM kits WHERE valid AND NOT EXISTS (SELECT 1 FROM vectors"
        " WHERE vectors.number = kits.number AND encoder = ? AND source = '' AND digest = hex(stamp)"
        " AND digest != '') ORDER BY number",
        (key,),
    ).fetchall()
    for start in range(0, len(rows), _KITS_AT_A_TIME):
        batch = rows[start : start + _KITS_AT_A_TIME]
        kits = [_Kit(number, base_dir / os.fsdecode(folder), stamp) for number, folder, stamp in batch]
        _encode(database, encoder, kits)
        if len(rows) > _SHOW_FROM:
            done = start + len(batch)
            (reporter or SilentReporter()).progress("look at kits", done, len(rows), unit="kit")
    return len(rows)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) of at most 512 pixels a side. Raises FileError for what is none."""
    try:
        return _pixels(read_regular(path, limit=MAX_IMAGE_BYTES))
    except (OSError, ImageRefused) as error:
        raise FileError(
            f"{path} is no readable picture: {error}", remedy="give a PNG, JPEG or WebP"
        ) from None


def _encode(database: sqlite3.Connection, encoder: TextImageEncoder, kits: Sequence[_Kit]) -> None:
    """Encode what changed of some kits, all texts at once and all pictures at once, and keep it."""
    key = key_of(encoder)
    fresh: list[tuple[int, _Source]] = []
    gone: list[tuple[int, str, str]] = []
    for kit in kits:
        known = dict(
            database.execute(
                "SELECT source, digest FROM vectors WHERE number = ? AND encoder = ?", (kit.number, key)
            ).fetchall()
        )
        sources = {source.name: source for source in (*_texts(database, kit.number), *_pictures(kit.folder))}
        fresh += [(kit.number, item) for item in sources.values() if known.get(item.name) != item.digest]
        gone += [(kit.number, key, name) for name in known if name not in sources]
    vectors = _vectors(encoder, [item for _, item in fresh])
    rows = [
        (number, key, item.name, item.digest, vector.astype("<f4").tobytes())
        for (number, item), vector in zip(fresh, vectors, strict=True)
    ]
    with transaction(database):
        database.executemany("DELETE FROM vectors WHERE number = ? AND encoder = ? AND source = ?", gone)
        # the row without a source says up to which stamp the kit was looked at
        rows += [(kit.number, key, "", kit.stamp, b"") for kit in kits]
        database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)", rows)


def _texts(database: sqlite3.Connection, number: int) -> Iterator[_Source]:
    """What the kit is about, and how captions and prompts speak of it; two, as encoders cut long texts."""
    found = database.execute(
        "SELECT tags, description, captions, prompts FROM words WHERE rowid = ?", (number,)
    ).fetchone()
    tags, description, captions, prompts = (str(text or "") for text in found or ("", "", "", ""))
    for name, parts in (("about", (description, tags)), ("captions", (captions, prompts))):
        text = ", ".join(" ".join(part.split()) for part in parts if part.strip())
        if text:
            yield _Source(f"{TEXTS}:{name}", text[:2000])


def _pictures(folder: Path) -> Iterator[_Source]:
    """The first examples and the preview, each content once."""
    examples = folder / EXAMPLES_FOLDER
    try:
        names = sorted(entry.name for entry in os.scandir(examples) if entry.is_file(follow_symlinks=False))
    except OSError:
        names = []
    paths = [examples / name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    seen: set[str] = set()
    for path in [*paths, folder / PREVIEW_FILE]:
        try:
            data = read_regular(path, limit=MAX_IMAGE_BYTES)
        except OSError:
            continue
        digest = hashlib.sha256(data).hexdigest()
        if digest not in seen and len(seen) < MAX_PICTURES:
            seen.add(digest)
            yield _Source(f"{PICTURES}:{len(seen)}", data)


def _vectors(encoder: TextImageEncoder, sources: Sequence[_Source]) -> list[Vectors]:
    texts = [item.content for item in sources if isinstance(item.content, str)]
    pixels: list[NDArray[np.uint8]] = []
    for item in sources:
        if isinstance(item.content, bytes):
            try:
                pixels.append(_pixels(item.content))
            except ImageRefused:
                # the kit changed since it was found valid; the next update tells
                pixels.append(np.zeros((1, 1, 3), np.uint8))
    told = iter(encoder.texts(texts) if texts else ())
    seen = iter(encoder.embed(pixels) if pixels else ())
    return [next(told) if isinstance(item.content, str) else next(seen) for item in sources]


def _pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(rgb_picture(data, side=_PICTURE_SIDE), np.uint8)
