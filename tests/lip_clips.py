"""Small datasets of clips for tests: noise with a face's layout, the same bytes for the same seed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from talent_factory.lipsync.data.metadata import write_metadata
from talent_factory.lipsync.data.scan import scan
from talent_factory.lipsync.records import Metadata

LENGTHS = (14, 9)
SIZE = 32


def png(seed: int, size: int = SIZE) -> bytes:
    """A smooth random picture, (size, size) RGB."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def npy(seed: int, shape: tuple[int, ...] = (10, 384)) -> bytes:
    """Features of one frame, multiples of 1/512 between 0 and 3 or plain floats for odd seeds."""
    values = np.random.default_rng(seed).random(shape, np.float32) * 3
    if seed % 2 == 0:
        values = np.round(values * 512) / 512
    buffer = io.BytesIO()
    np.save(buffer, values.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def make_clips(
    root: Path, lengths: tuple[int, ...] = LENGTHS, *, size: int = SIZE, extractor: str | None = "mel-1"
) -> Metadata:
    """Write a dataset with metadata.npz; clip 2 of audio is spelt HDTF_0002, as some datasets have it."""
    shapes = ((10, 384), (2, 5, 384), (1, 10, 384))
    for number, length in enumerate(lengths, start=1):
        frames, sounds = root / "aligned-frames" / f"HDTF-{number:04d}", root / "audio" / f"HDTF-{number:04d}"
        if number == 2:
            sounds = root / "audio" / f"HDTF_{number:04d}"
        frames.mkdir(parents=True)
        sounds.mkdir(parents=True)
        for index in range(length):
            (frames / f"{index:06d}.png").write_bytes(png(1000 * number + index, size))
            (sounds / f"{index:06d}.npy").write_bytes(npy(2 * (1000 * number + index), shapes[index % 3]))
    metadata = scan(root, extractor=extractor)
    write_metadata(root / "metadata.npz", metadata)
    return metadata
