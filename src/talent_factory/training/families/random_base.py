"""A tiny base with random weights: every part of SD 1.5 and no knowledge, for tests and self-tests."""

from __future__ import annotations

from pathlib import Path

import torch

from talent_factory.core.files import write_json
from talent_factory.training.families.v1 import quiet_transformers
from talent_factory.training.families.v1_index import write_model_index


def make_random_base(folder: Path, *, seed: int = 0, side: int = 32) -> Path:
    """Write a base of about a megabyte in diffusers form: `side` pixels, UNet (32, 64), text 32 wide.

    The weights are a pure function of `seed`; the global generator is left as it was. Returns `folder`.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=side // 8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=2,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            mid_block_add_attention=False,
        )
        tokenizer = _tokenizer(folder)
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=16,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    with quiet_transformers():
        text.save_pretrained(folder / "text_encoder")
    _write_scheduler(folder)
    return folder


def _tokenizer(folder: Path):  # type: ignore[no-untyped-def]
    """Letters and digits, whole or at the end of a word, without merges: enough to tell prompts apart."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789_,.-'"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=16
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    return tokenizer


def _write_scheduler(folder: Path) -> None:
    write_json(
        folder / "scheduler" / "scheduler_config.json",
        {
            "_class_name": "DDIMScheduler",
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "prediction_type": "epsilon",
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
        },
    )
    write_model_index(folder)
