"""Bases to train on, one file a family; the choice is made here, once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from talent_factory.core.errors import BaseError
from talent_factory.training.families.port import Base

__all__ = ["Base", "Precision", "load_base"]

Precision = Literal["float32", "bfloat16", "float16"]


def load_base(name_or_path: str | Path, *, device: str = "cpu", dtype: Precision = "float32") -> Base:
    """The base called "mini", or the one in a local folder in diffusers form.

    `dtype` is the UNet's; VAE and text encoders stay float32. Nothing is downloaded. Raises BaseError.
    """
    precision: torch.dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
        dtype
    ]
    if str(name_or_path) == "mini":
        from talent_factory.training.families import mini

        return mini.load(device=device, dtype=precision)
    folder = Path(name_or_path).expanduser()
    if not (folder / "unet").is_dir():
        raise BaseError(
            f"no base model at {str(name_or_path)[:200]!r}",
            remedy="write base_model: mini, or the path of a Stable Diffusion 1.5 folder in diffusers form",
        )
    from talent_factory.training.families import sd15, sdxl
    from talent_factory.training.families.source import FolderSource

    source = FolderSource(folder)
    load = {"sd15": sd15.load, "sdxl": sdxl.load}[source.family]
    return load(source, name=str(name_or_path), device=device, dtype=precision)
