"""Name a base model by its contents, so that a moved or renamed one stays the same base."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from talent_factory.core.errors import BaseError
from talent_factory.core.files import sha256_file

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
# Only in some: SDXL has them.
SECOND_PARTS = ("text_encoder_2", "tokenizer_2")
# What changes a result: weights, shapes, vocabulary and noise schedule. A model card does not.
_SUFFIXES = {".safetensors", ".json", ".txt"}


def base_revision(path: Path) -> str:
    """The sha256 of a checkpoint file, or over names and contents of all parts of a folder in diffusers form.

    Needs no torch. Raises BaseError when a part is missing.
    """
    if path.is_file():
        return _file_digest(path)
    further = [part for part in SECOND_PARTS if (path / part).is_dir()]
    parts = (*PARTS, *further)
    with ThreadPoolExecutor(max_workers=4) as pool:
        return _digest(list(zip(parts, pool.map(lambda part: part_revision(path, part), parts), strict=True)))


def part_revision(folder: Path, part: str) -> str:
    """The sha256 over one part such as `vae`. Raises BaseError when it is missing or empty."""
    files = sorted(path for path in (folder / part).glob("*") if path.suffix in _SUFFIXES and path.is_file())
    if not files:
        raise BaseError(
            f"{folder} is no base model: it has no {part}",
            remedy="name a folder in diffusers form or a .safetensors checkpoint, or write mini",
        )
    return _digest([(path.name, _file_digest(path)) for path in files])


def short_hash(path: Path) -> str:
    """The eight digits by which older tools know a checkpoint file: of the 64 KiB after its first MiB."""
    with path.open("rb") as file:
        file.seek(1 << 20)
        return hashlib.sha256(file.read(1 << 16)).hexdigest()[:8]


def _file_digest(path: Path) -> str:
    """The sha256 of a file, remembered in this process for as long as it is left alone."""
    status = path.stat()
    return _remembered(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _remembered(path: Path, inode: int, size: int, changed: int) -> str:
    del inode, size, changed  # they are the key: another file or another content has others
    return sha256_file(path)


def _digest(pairs: list[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in pairs).encode()).hexdigest()
