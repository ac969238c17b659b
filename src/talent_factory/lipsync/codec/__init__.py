"""Codecs between pictures and latents, chosen here by name, once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from talent_factory.lipsync.ports import Codec

if TYPE_CHECKING:
    import torch

__all__ = ["DEFAULT_SD_VAE", "open_codec"]

DEFAULT_SD_VAE = "stabilityai/sd-vae-ft-mse"
_SHORT = {"taesd": "madebyollin/taesd", "sd-vae": DEFAULT_SD_VAE}
_BLOCKS = {"dct4": 4, "dct8": 8}


def open_codec(
    name: str | Path, *, device: str = "cpu", dtype: torch.dtype | None = None, download: bool = False
) -> Codec:
    """The codec called "dct8", "dct4", "mini", "taesd" or "sd-vae", or the one in a folder or on the hub.

    "dct4" and "dct8" need no weights and lose nothing; "mini" is the autoencoder of the embedded base. A
    folder, or the name of a hub repository such as "madebyollin/taesd", holds an AutoencoderTiny or an
    AutoencoderKL in diffusers form. Hub names are looked for in the local cache; only `download` asks the
    network. `dtype` (float32 when None) is that of weights and arithmetic; pictures and latents go in and
    come out in it, too. Raises BaseError when the weights are missing or broken.
    """
    import torch

    kind = torch.float32 if dtype is None else dtype
    text = str(name)
    if text in _BLOCKS:
        from talent_factory.lipsync.codec.blocks import BlockCodec

        return BlockCodec(_BLOCKS[text], device=device, dtype=kind)
    from talent_factory.lipsync.codec.autoencoder import find_folder, open_autoencoder

    if text == "mini":
        from talent_factory.training.families.mini import FOLDER

        return open_autoencoder(FOLDER / "vae", "mini", device=device, dtype=kind)
    folder = find_folder(_SHORT.get(text, text), download=download)
    return open_autoencoder(folder, None, device=device, dtype=kind)
