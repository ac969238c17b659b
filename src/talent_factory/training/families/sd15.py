"""Any model with the parts of Stable Diffusion 1.5: one UNet, one VAE, one text encoder of CLIP."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from talent_factory.training.families.parts import assemble, broken
from talent_factory.training.families.port import Base, LastStates, Reader
from talent_factory.training.families.shapes import Config
from talent_factory.training.families.source import Source

# What people ask an image model for, without any name in it: base preservation holds these in place.
CLASS_PROMPTS = tuple(
    f"{medium} of a {kind}{mood}, {place}"
    for medium in ("photo", "portrait", "drawing", "watercolor painting", "comic panel")
    for kind in ("man", "woman", "person", "robot")
    for mood in (", smiling", ", serious")
    for place in ("city street", "forest", "white background")
)


def load(
    source: Source,
    *,
    name: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    class_prompts: tuple[str, ...] = CLASS_PROMPTS,
) -> Base:
    """UNet in `dtype`, VAE and text encoder in float32, frozen and in eval mode.

    Raises BaseError when a part is missing or unreadable.
    """
    return load_parts(
        source, name=name, device=device, dtype=dtype, class_prompts=class_prompts, encoders=_ENCODERS
    )


_ENCODERS = (("lora_te", "text_encoder"),)


def load_parts(
    source: Source,
    *,
    name: str,
    device: str,
    dtype: torch.dtype,
    class_prompts: tuple[str, ...],
    encoders: tuple[tuple[str, str], ...],
    reader: Reader | None = None,
) -> Base:
    """What both families have in common; `encoders` are prefix and part of each text encoder."""
    revision = source.revision()
    alphas, prediction = source.noise()
    tokenizer = source.tokenizer()
    unet_config = source.config("unet")

    def make_unet() -> nn.Module:
        config, tensors = source.part("unet")
        unet = assemble("unet", config, tensors, dtype=dtype, where=source.path)
        # channels_last: convolutions are the larger part of a UNet, and oneDNN and cuDNN prefer it.
        return unet.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    vae_config, tensors = source.part("vae")
    vae = assemble("vae", vae_config, tensors, dtype=torch.float32, where=source.path)
    texts = []
    for prefix, part in encoders:
        config, tensors = source.part(part)
        text = assemble(part, config, tensors, dtype=torch.float32, where=source.path)
        texts.append((prefix, text.to(device=device)))
    vae.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    known: Any = vae.config
    factor = 2 ** (len(known.block_out_channels) - 1)
    return Base(
        name=name,
        revision=revision,
        vae_revision=source.vae_revision(),
        resolution=_side(source, unet_config) * factor,
        make_unet=make_unet,
        device=torch.device(device),
        dtype=dtype,
        vae=vae,
        text_encoders=tuple(texts),
        tokenizer=tokenizer,
        alphas_cumprod=alphas,
        latent_scale=float(known.scaling_factor),
        class_prompts=class_prompts,
        prediction=prediction,
        family=source.family,
        reader=reader or LastStates(),
        _pixels_per_latent=factor,
    )


def _side(source: Source, unet_config: Config) -> int:
    """A latent's side in the base's own training; raises BaseError where its configuration lacks that."""
    try:
        return int(unet_config["sample_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise broken(
            source.path, f"the configuration of unet is not usable: sample_size: {error!r}"
        ) from error
