"""Name a base model by its contents, so that a moved or renamed folder stays the same base."""

from __future__ import annotations

import hashlib
from pathlib import Path

from talent_factory.core.errors import BaseError
from talent_factory.core.files import sha256_file

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
# Only in some: SDXL has them.
_FURTHER = ("text_encoder_2", "tokenizer_2")
# What changes a result: weights, shapes, vocabulary and noise schedule. A model card does not.
_SUFFIXES = {".safetensors", ".json", ".txt"}


def base_revision(folder: Path) -> str:
    """The sha256 over names and contents of all parts of a base in diffusers form.

    Needs no torch. Raises BaseError when a part is missing.
    """
    further = [part for part in _FURTHER if (folder / part).is_dir()]
    return _digest([(part, part_revision(folder, part)) for part in (*PARTS, *further)])


def part_revision(folder: Path, part: str) -> str:
    """The sha256 over one part such as `vae`. Raises BaseError when it is missing or empty."""
    files = sorted(path for path in (folder / part).glob("*") if path.suffix in _SUFFIXES and path.is_file())
    if not files:
        raise BaseError(
            f"{folder} is no base model: it has no {part}",
            remedy="name the folder of a Stable Diffusion 1.5 model in diffusers form, or write mini",
        )
    return _digest([(path.name, sha256_file(path)) for path in files])


def _digest(pairs: list[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in pairs).encode()).hexdigest()
