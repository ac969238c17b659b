"""A dataset of a few seeded noise pictures: enough to train on, quick to make, for self-tests and tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from talent_factory.core.files import sha256_bytes, sha256_file
from talent_factory.core.records import write_record
from talent_factory.dataset.manifest import DATASET_FILE, IMAGES, DatasetManifest, Item

Shape = tuple[int, int]


def make_tiny_dataset(
    folder: Path,
    *,
    images: int = 5,
    side: int = 32,
    token: str = "selftest",
    shapes: Sequence[Shape] = (),
    tags: Sequence[str] = (),
) -> Path:
    """Write `images` pictures of `side` pixels with captions and their manifest; returns `folder`.

    `shapes` are (width, height) that the pictures take in turn, as in aspect buckets; `tags` end each
    caption.
    """
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    items = []
    for index in range(images):
        path = folder / IMAGES / f"{index:02d}.png"
        coarse_HWC = np.random.default_rng(index).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        width, height = shapes[index % len(shapes)] if shapes else (side, side)
        Image.fromarray(coarse_HWC).resize((width, height)).save(path)
        items.append(
            Item(
                file=f"{IMAGES}/{path.name}",
                sha256=sha256_file(path),
                caption=", ".join([f"portrait of {token} robot", str(index), *tags]),
                width=width,
                height=height,
                source="seeded noise",
            )
        )
    manifest = DatasetManifest(
        kind="identity",
        token=token,
        class_noun="robot",
        resolution=side,
        mode="bucket" if shapes else "crop",
        source_key=sha256_bytes(f"tiny {images} {shapes or side} {token} {tags}".encode()),
        items=tuple(items),
    )
    write_record(folder / DATASET_FILE, manifest)
    return folder
