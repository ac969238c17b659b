"""Codecs with weights: the autoencoders of Stable Diffusion's family, without noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from talent_factory.core.errors import BaseError, FileError, TalentError
from talent_factory.core.files import read_json, sha256_file
from talent_factory.lipsync.ports import Codec

_WEIGHTS = "diffusion_pytorch_model.safetensors"


class AutoencoderCodec:
    """An AutoencoderKL (its mean, not a sample) or an AutoencoderTiny of diffusers, frozen.

    `module` is the model. Latents are scaled as the UNets of the family know them: by `scaling_factor`, which
    is 1 for TAESD, because that was trained on scaled latents; so latents of TAESD and of the autoencoders of
    SD 1.5 are of one kind, and either's decoder serves both.
    """

    def __init__(self, module: Any, name: str) -> None:
        self.module = module
        self.id = name
        self.channels = int(module.config.latent_channels)
        widths = module.config.get("block_out_channels") or module.config.get("encoder_block_out_channels")
        self.factor = 2 ** (len(widths) - 1)
        self._tiny = hasattr(module.config, "encoder_block_out_channels")
        self._scale = float(module.config.scaling_factor)
        for part in module.modules() if self._tiny else ():
            # nobody else needs what they write over: less memory to hold and to go through
            if isinstance(part, nn.ReLU):
                part.inplace = True

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, channels, H/factor, W/factor)."""
        found = self.module.encode(images)
        latents: Tensor = found.latents if self._tiny else found.latent_dist.mode()
        return latents * self._scale

    def decode(self, latents: Tensor) -> Tensor:
        """The way back; gradients flow to the latents."""
        images: Tensor = self.module.decode(latents / self._scale).sample
        return images


def find_folder(name: str, *, download: bool) -> Path:
    """The folder of an autoencoder: `name` itself, its part `vae`, or the hub's cache. Raises BaseError."""
    for folder in (Path(name), Path(name) / "vae"):
        if (folder / "config.json").is_file():
            return folder
    if Path(name).exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise BaseError(
            f"{name} holds no autoencoder (config.json, {_WEIGHTS})",
            remedy="name a folder in diffusers form, or one of dct8, dct4, mini, taesd, sd-vae",
        )
    return _from_hub(name, download=download)


def _from_hub(name: str, *, download: bool) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name, allow_patterns=["config.json", _WEIGHTS], local_files_only=not download
        )
    except (OSError, ValueError) as error:
        how = "could not be downloaded" if download else "is not in the local cache of the hub"
        raise BaseError(
            f"the autoencoder {name} {how}",
            remedy=f"hf download {name} config.json {_WEIGHTS}, name a local folder, or use dct8 or mini",
        ) from error
    return Path(folder)


def open_autoencoder(folder: Path, label: str | None, *, device: str, dtype: torch.dtype) -> Codec:
    """The autoencoder in `folder`, frozen; only safetensors are read. Raises BaseError when it is broken.

    The id is the label ("taesd" or "sd-vae" by its kind when None) and the first 12 digits of the weights'
    sha256.
    """
    from diffusers import AutoencoderKL, AutoencoderTiny
    from safetensors import SafetensorError

    weights = folder / _WEIGHTS
    try:
        kind = read_json(folder / "config.json").get("_class_name")
        classes = {"AutoencoderTiny": ("taesd", AutoencoderTiny), "AutoencoderKL": ("sd-vae", AutoencoderKL)}
        if kind not in classes:
            raise BaseError(f"{folder} is of the kind {kind}", remedy="use AutoencoderTiny or AutoencoderKL")
        if not weights.is_file():
            raise FileError(f"{weights} is missing")
        usual, cls = classes[kind]
        module = cls.from_pretrained(
            folder, torch_dtype=dtype, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False
        )
    except TalentError as error:
        raise BaseError(error.message, remedy=error.remedy or "fetch the autoencoder anew") from error
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BaseError(f"{folder} is broken: {line}", remedy="fetch the autoencoder anew") from error
    module.requires_grad_(False).eval().to(device)
    return AutoencoderCodec(module, f"{label or usual}:{sha256_file(weights)[:12]}")
