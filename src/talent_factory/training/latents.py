"""Encode the images of a dataset once, and remember the result by what it was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_path, clear_leftovers
from talent_factory.training.families.port import Base

# Raised whenever the code below would make other numbers from the same image.
_VERSION = "latents-1"


@dataclass(frozen=True)
class Source:
    """One image to encode: where it is and the digest of its bytes."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Posterior:
    """The VAE's answer to one image: mean and standard deviation, each (4, h, w) float32, on the CPU."""

    mean: Tensor
    std: Tensor


class LatentSet:
    """The posteriors of all images, plain and perhaps mirrored."""

    def __init__(self, plain: Sequence[Posterior], mirrored: Sequence[Posterior]) -> None:
        self._plain = plain
        self._mirrored = mirrored
        self.sizes: tuple[tuple[int, int], ...] = tuple((p.mean.shape[1], p.mean.shape[2]) for p in plain)

    def sides(self) -> tuple[Sequence[Posterior], ...]:
        """The plain posteriors and, where images are mirrored, the mirrored ones."""
        return (self._plain, self._mirrored) if self._mirrored else (self._plain,)


def encode_images(
    base: Base, sources: Sequence[Source], *, mirrored: bool, cache: Path, reporter: Reporter
) -> LatentSet:
    """Encode each image (and its mirror image when asked), reading from `cache` what is known there.

    The key is made of the image's bytes, the VAE's bytes and the mirroring: a changed file or base can never
    meet an old latent. Images are encoded one by one, so a result does not depend on its neighbours.
    """
    clear_leftovers(cache)
    plain: list[Posterior] = []
    flipped: list[Posterior] = []
    for done, source in enumerate(sources, start=1):
        fresh = not _path(base, source, flip=False, cache=cache).exists()
        plain.append(_cached(base, source, flip=False, cache=cache))
        if mirrored:
            flipped.append(_cached(base, source, flip=True, cache=cache))
        # what lies in the cache is read in no time: one line for all of it
        if fresh or done == len(sources):
            reporter.progress("encode", done, len(sources), unit="image")
    return LatentSet(plain, flipped)


def cache_key(image_sha256: str, vae_revision: str, *, flip: bool) -> str:
    """The name of a posterior in the cache; the image's size is part of its bytes."""
    text = "\0".join((_VERSION, image_sha256, vae_revision, "mirrored" if flip else "plain"))
    return hashlib.sha256(text.encode()).hexdigest()


def _path(base: Base, source: Source, *, flip: bool, cache: Path) -> Path:
    return cache / f"{cache_key(source.sha256, base.vae_revision, flip=flip)}.safetensors"


def _cached(base: Base, source: Source, *, flip: bool, cache: Path) -> Posterior:
    path = _path(base, source, flip=flip, cache=cache)
    known = _read(path)
    if known is not None:
        return known
    image_BCHW = read_image(source.path)
    mean, std = base.encode_images(image_BCHW.flip(3) if flip else image_BCHW)
    posterior = Posterior(mean[0].float().cpu().contiguous(), std[0].float().cpu().contiguous())
    with atomic_path(path) as temporary:
        tensors = {"mean": posterior.mean, "std": posterior.std}
        save_file(tensors, temporary, metadata={"digest": _digest(posterior)})
    return posterior


def read_image(path: Path) -> Tensor:
    """An image file as (1, 3, H, W) float32 in -1..1."""
    with Image.open(path) as image:
        pixels_HWC = np.asarray(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels_HWC / 127.5 - 1.0).permute(2, 0, 1)[None].contiguous()


def _read(path: Path) -> Posterior | None:
    """A cache entry, or None when it is missing or damaged: it is then simply made again."""
    try:
        with safe_open(path, framework="pt") as stored:
            posterior = Posterior(stored.get_tensor("mean"), stored.get_tensor("std"))
            digest = (stored.metadata() or {}).get("digest")
    except (OSError, SafetensorError):
        return None
    return posterior if digest == _digest(posterior) else None


def _digest(posterior: Posterior) -> str:
    content = posterior.mean.numpy().tobytes() + posterior.std.numpy().tobytes()
    return hashlib.sha256(content).hexdigest()
