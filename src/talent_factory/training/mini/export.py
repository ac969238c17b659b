"""Write the trained parts as a folder in diffusers form that any Stable Diffusion 1.5 loader reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTokenizer

from talent_factory.core.files import atomic_folder
from talent_factory.training.families.model_index import write_model_index
from talent_factory.training.mini.denoiser import TRAIN_STEPS, Denoiser


def export_base(
    autoencoder: AutoencoderKL, denoiser: Denoiser, tokenizer: CLIPTokenizer, folder: Path
) -> None:
    """Write unet, vae, text_encoder (fp16 safetensors), tokenizer and scheduler into `folder` atomically."""
    with atomic_folder(folder) as temporary:
        unet, text_encoder = denoiser.unet, denoiser.text_encoder
        weights = "diffusion_pytorch_model.safetensors"
        _save(unet, unet.save_config, temporary / "unet", weights)
        _save(autoencoder, autoencoder.save_config, temporary / "vae", weights)
        _save(
            text_encoder, text_encoder.config.save_pretrained, temporary / "text_encoder", "model.safetensors"
        )
        tokenizer.save_pretrained(temporary / "tokenizer")
        _scheduler().save_pretrained(temporary / "scheduler")
        write_model_index(temporary)


def _save(part: nn.Module, save_config: Callable[[Path], object], folder: Path, name: str) -> None:
    """Config and half-precision weights; the layout of memory leaves no trace in the file."""
    folder.mkdir(parents=True)
    tensors = {
        key: value.to(torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for key, value in part.state_dict().items()
    }
    save_file(tensors, folder / name, metadata={"format": "pt"})
    save_config(folder)


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )
