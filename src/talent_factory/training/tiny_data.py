"""A dataset of a few seeded noise pictures: enough to train on, quick to make, for self-tests and tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from talent_factory.core.files import sha256_bytes, sha256_file
from talent_factory.core.records import write_record
from talent_factory.dataset.manifest import DATASET_FILE, IMAGES, DatasetManifest, Item


def make_tiny_dataset(folder: Path, *, images: int = 5, side: int = 32, token: str = "selftest") -> Path:
    """Write `images` pictures of `side` pixels with captions and their manifest; returns `folder`."""
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    items = []
    for index in range(images):
        path = folder / IMAGES / f"{index:02d}.png"
        coarse_HWC = np.random.default_rng(index).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse_HWC).resize((side, side)).save(path)
        items.append(
            Item(
                file=f"{IMAGES}/{path.name}",
                sha256=sha256_file(path),
                caption=f"portrait of {token} robot, {index}",
                width=side,
                height=side,
                source="seeded noise",
            )
        )
    manifest = DatasetManifest(
        kind="identity",
        token=token,
        class_noun="robot",
        resolution=side,
        mode="crop",
        source_key=sha256_bytes(f"tiny {images} {side} {token}".encode()),
        items=tuple(items),
    )
    write_record(folder / DATASET_FILE, manifest)
    return folder
