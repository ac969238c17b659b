"""Corpora of drawings: arrays of pictures with their characters, a pure function of (seed, name, index)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.files import atomic_path
from talent_factory.core.seeds import derive_seed
from talent_factory.world import Character, draw_character, sample_character

Progress = Callable[[int, int], None]


def character_at(seed: int, name: str, index: int, *, unseen: bool) -> tuple[Character, np.random.Generator]:
    """The character number `index` of the corpus `name`, and the generator that its drawing goes on with."""
    rng = np.random.default_rng(derive_seed("corpus", seed, name, index))
    return sample_character(rng, unseen=unseen), rng


def characters(seed: int, name: str, count: int, *, unseen: bool = False) -> list[Character]:
    """The first `count` characters of a corpus, without drawing them."""
    return [character_at(seed, name, index, unseen=unseen)[0] for index in range(count)]


def drawings(
    folder: Path,
    *,
    seed: int,
    name: str,
    count: int,
    size: int,
    unseen: bool = False,
    progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """The drawings of a corpus as a memory-mapped array (count, size, size, 3), RGB; drawn once a folder."""
    path = folder / f"{name}-{seed}-{size}-{count}.npy"
    if not path.exists():
        pictures = np.empty((count, size, size, 3), np.uint8)
        for index in range(count):
            who, rng = character_at(seed, name, index, unseen=unseen)
            pictures[index] = draw_character(who, rng, size=size)
            if progress is not None and index % 100 == 0:
                progress(index, count)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, pictures)
    loaded: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return loaded
