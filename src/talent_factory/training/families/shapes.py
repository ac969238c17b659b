"""The configurations of Stable Diffusion 1.5 and SDXL: what their folders in diffusers form state.

Source: unet, vae and text_encoder config.json of stable-diffusion-v1-5/stable-diffusion-v1-5 and
stabilityai/stable-diffusion-xl-base-1.0. A single-file checkpoint carries none, so they are kept here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talent_factory.training.checkpoint_header import Family as Family

Config = Mapping[str, Any]

UNET_SD15: Config = {
    "sample_size": 64,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
UNET_SDXL: Config = {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_VAE: Config = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
VAE_SD15: Config = {**_VAE, "sample_size": 512, "scaling_factor": 0.18215}
VAE_SDXL: Config = {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True}
_CLIP: Config = {
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
CLIP_L: Config = {
    **_CLIP,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
CLIP_G: Config = {
    **_CLIP,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}

# The noise of both families: `scaled_linear`, 1000 steps.
SCHEDULER: Config = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

PARTS: Mapping[Family, Mapping[str, Config]] = {
    "sd15": {"unet": UNET_SD15, "vae": VAE_SD15, "text_encoder": CLIP_L},
    "sdxl": {"unet": UNET_SDXL, "vae": VAE_SDXL, "text_encoder": CLIP_L, "text_encoder_2": CLIP_G},
}

TINY_SDXL: Mapping[str, Config] = {
    "unet": {
        **UNET_SDXL,
        "sample_size": 8,
        "block_out_channels": [32, 32, 64],
        "transformer_layers_per_block": [1, 1, 2],
        "cross_attention_dim": 80,
        "attention_head_dim": [2, 2, 4],
        "norm_num_groups": 8,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 96,
    },
    "vae": {
        **VAE_SDXL,
        "sample_size": 64,
        "block_out_channels": [8, 8, 8, 8],
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    "text_encoder": {
        **CLIP_L,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "projection_dim": 32,
    },
    "text_encoder_2": {
        **CLIP_G,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "projection_dim": 48,
    },
}
"""SDXL in small, for tests: the same kinds of blocks, conditions and projections, 64 pixels."""
