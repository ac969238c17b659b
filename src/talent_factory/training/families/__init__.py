"""Bases to train on, one file a family; the choice is made here, once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from talent_factory.training.families.port import Base
from talent_factory.training.resolve import FoundBase, resolve_base

if TYPE_CHECKING:
    from talent_factory.training.families.source import Source

__all__ = ["Base", "Precision", "load_base"]

Precision = Literal["float32", "bfloat16", "float16", "fp8"]

_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    # stored in eight bits, computed in sixteen
    "fp8": torch.bfloat16,
}


def load_base(
    name_or_path: str | Path,
    *,
    device: str = "cpu",
    dtype: Precision = "float32",
    fetch: bool = False,
    unet_later: bool = False,
) -> Base:
    """The base called "mini", or the SD 1.5 or SDXL in a folder, a checkpoint file or the hub's local cache.

    `dtype` is the UNet's; VAE and text encoders stay float32. "fp8" keeps its matrices in eight bits and
    computes in bf16. Nothing is downloaded unless `fetch` allows it. With `unet_later` the UNet is read when
    it is first used. Raises BaseError.
    """
    found = resolve_base(str(name_or_path), fetch=fetch)
    base = _load(found, device=device, dtype=_DTYPES[dtype])
    if dtype == "fp8":
        from talent_factory.training.families.fp8 import store_in_fp8

        wide = base.make_unet
        base.make_unet = lambda: store_in_fp8(wide())
    if not unet_later:
        _ = base.unet
    return base


def _load(found: FoundBase, *, device: str, dtype: torch.dtype) -> Base:
    if found.form == "mini":
        from talent_factory.training.families import mini

        return mini.load(device=device, dtype=dtype)
    from talent_factory.training.families import sd15, sdxl

    load = {"sd15": sd15.load, "sdxl": sdxl.load}[found.family]
    return load(open_source(found), name=found.name, device=device, dtype=dtype)


def open_source(found: FoundBase) -> Source:
    """The parts of a base that was found, not yet read."""
    from talent_factory.training.families.checkpoint_file import CheckpointSource
    from talent_factory.training.families.source import FolderSource

    return CheckpointSource(found.path) if found.form == "checkpoint" else FolderSource(found.path)
