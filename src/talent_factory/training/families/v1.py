"""Load any model with the parts of Stable Diffusion 1.5 from a folder in diffusers form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from talent_factory.core.errors import BaseError
from talent_factory.core.files import read_json
from talent_factory.training.families.port import Base
from talent_factory.training.revision import base_revision, part_revision
from talent_factory.training.schedule import v1_alphas_cumprod

# What people ask an image model for, without any name in it: base preservation holds these in place.
CLASS_PROMPTS = tuple(
    f"{medium} of a {kind}{mood}, {place}"
    for medium in ("photo", "portrait", "drawing", "watercolor painting", "comic panel")
    for kind in ("man", "woman", "person", "robot")
    for mood in (", smiling", ", serious")
    for place in ("city street", "forest", "white background")
)


def load_folder(
    folder: Path,
    *,
    name: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    class_prompts: tuple[str, ...] = CLASS_PROMPTS,
) -> Base:
    """Load UNet (in `dtype`), VAE and text encoder (in float32) from safetensors, frozen and in eval mode.

    Raises BaseError when a part is missing, unreadable or the model predicts something other than noise.
    """
    revision = base_revision(folder)
    alphas = _alphas_cumprod(folder)
    with quiet_transformers():
        unet, vae, text_encoder, tokenizer = _parts(folder, dtype)
    for part in (unet, vae, text_encoder):
        part.requires_grad_(False).eval()
    # channels_last: convolutions are the larger part of a UNet, and oneDNN and cuDNN prefer it.
    unet.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    vae.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    text_encoder.to(device=device)
    vae_config: Any = vae.config
    unet_config: Any = unet.config
    factor = 2 ** (len(vae_config.block_out_channels) - 1)
    return Base(
        name=name,
        revision=revision,
        vae_revision=part_revision(folder, "vae"),
        resolution=int(unet_config.sample_size) * factor,
        unet=unet,
        vae=vae,
        text_encoders=(("lora_te", text_encoder),),
        tokenizer=tokenizer,
        alphas_cumprod=alphas,
        latent_scale=float(vae_config.scaling_factor),
        class_prompts=class_prompts,
        _pixels_per_latent=factor,
    )


def _parts(folder: Path, dtype: torch.dtype) -> tuple[nn.Module, nn.Module, nn.Module, Any]:
    # Imported here: diffusers and transformers take seconds, and a wrong folder should fail at once.
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    text_options = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    wanted: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("unet", UNet2DConditionModel, {"torch_dtype": dtype, **_options(folder / "unet")}),
        ("vae", AutoencoderKL, {"torch_dtype": torch.float32, **_options(folder / "vae")}),
        ("text_encoder", CLIPTextModel, text_options),
    )
    parts: list[nn.Module] = []
    try:
        for name, kind, options in wanted:
            part, report = kind.from_pretrained(folder / name, output_loading_info=True, **options)
            if report["missing_keys"]:
                # The libraries would fill the gap with random numbers and a warning.
                raise ValueError(f"{name} lacks the weights of {sorted(report['missing_keys'])[0]}")
            parts.append(part)
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BaseError(
            f"the base model in {folder} cannot be loaded: {line}", remedy="talent doctor"
        ) from error
    return parts[0], parts[1], parts[2], tokenizer


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars of transformers: a load takes a moment, and the reporter owns the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _options(part: Path) -> dict[str, Any]:
    """How diffusers shall read one part: from safetensors only, the half-size file if it is alone."""
    plain = part / "diffusion_pytorch_model.safetensors"
    half = part / "diffusion_pytorch_model.fp16.safetensors"
    return {
        "use_safetensors": True,
        "local_files_only": True,
        "low_cpu_mem_usage": False,
        "variant": "fp16" if half.is_file() and not plain.is_file() else None,
    }


def _alphas_cumprod(folder: Path) -> torch.Tensor:
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    if (
        config.get("beta_schedule") != "scaled_linear"
        or config.get("prediction_type", "epsilon") != "epsilon"
    ):
        raise BaseError(
            f"{folder} is no v1 model: its scheduler is {config.get('beta_schedule')} with "
            f"{config.get('prediction_type')} prediction",
            remedy="use a Stable Diffusion 1.5 model that predicts epsilon",
        )
    return v1_alphas_cumprod(
        steps=int(config.get("num_train_timesteps", 1000)),
        beta_start=float(config["beta_start"]),
        beta_end=float(config["beta_end"]),
    )
