"""Bases with random weights, tiny or in full size: every part and no knowledge, for tests and benchmarks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from talent_factory.core.files import atomic_folder, write_json
from talent_factory.core.seeds import derive_seed
from talent_factory.training.families.checkpoint_file import write_checkpoint
from talent_factory.training.families.model_index import write_model_index
from talent_factory.training.families.parts import empty_model, quiet_transformers
from talent_factory.training.families.shapes import PARTS, SCHEDULER, TINY_SDXL, Config, Family
from talent_factory.training.families.vocabulary import clip_tokenizer

Kind = Literal["tiny", "tiny-sdxl", "sd15", "sdxl"]
Stored = Literal["fp32", "fp16", "bf16"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_SHAPES: Mapping[Kind, tuple[Family, Mapping[str, Config]]] = {
    "sd15": ("sd15", PARTS["sd15"]),
    "sdxl": ("sdxl", PARTS["sdxl"]),
    "tiny-sdxl": ("sdxl", TINY_SDXL),
}


def make_random_base(
    folder: Path,
    kind: Kind = "tiny",
    *,
    seed: int = 0,
    side: int = 32,
    precision: Stored = "fp32",
    form: Literal["folder", "checkpoint"] = "folder",
) -> Path:
    """Write a base whose weights are a pure function of `seed`; returns `folder`.

    It has diffusers form, or is one checkpoint file, which `folder` then names (not for `tiny`).

    `tiny` is about a megabyte: `side` pixels, UNet (32, 64), text 32 wide. `tiny-sdxl` has the structure of
    SDXL in small, for 64 pixels. `sd15` and `sdxl` have the true architectures: 2.1 and 6.9 GB in half
    precision. `side` counts for `tiny` alone, which is always fp32.
    """
    if kind == "tiny":
        _make_tiny(folder, seed=seed, side=side)
        return folder
    family, parts = _SHAPES[kind]
    if form == "checkpoint":
        dtype = _DTYPES[precision]
        tensors = {
            part: random_tensors(part, config, seed=seed, dtype=dtype) for part, config in parts.items()
        }
        return write_checkpoint(folder, tensors, family=family, configs=parts)
    with atomic_folder(folder) as temporary:
        for part, config in parts.items():
            _write_part(temporary / part, part, config, seed=seed, dtype=_DTYPES[precision])
        clip_tokenizer().save_pretrained(temporary / "tokenizer")
        if family == "sdxl":
            clip_tokenizer(pad_token="!").save_pretrained(temporary / "tokenizer_2")
        _write_scheduler(temporary, family)
    return folder


def random_tensors(part: str, config: Config, *, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights of one part that neither vanish nor explode, each a function of `seed`, part and name alone.

    Norms are the identity, biases 0; a matrix is uniform within 1 / sqrt(inputs), as torch begins layers.
    """
    with torch.device("meta"):
        model = empty_model(part, config)
    tensors: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            tensors[full] = _random(module, name, parameter, derive_seed(seed, part, full)).to(dtype)
    return tensors


def _random(module: nn.Module, name: str, parameter: Tensor, seed: int) -> Tensor:
    if isinstance(module, nn.GroupNorm | nn.LayerNorm):
        return torch.ones(parameter.shape) if name == "weight" else torch.zeros(parameter.shape)
    if parameter.dim() < 2:
        return torch.zeros(parameter.shape)
    values = torch.empty(parameter.shape)
    generator = torch.Generator().manual_seed(seed)
    bound = 0.03 if isinstance(module, nn.Embedding) else 1.0 / math.sqrt(parameter[0].numel())
    return values.uniform_(-bound, bound, generator=generator)


def _write_part(folder: Path, part: str, config: Config, *, seed: int, dtype: torch.dtype) -> None:
    text = part.startswith("text_encoder")
    folder.mkdir(parents=True)
    tensors = random_tensors(part, config, seed=seed, dtype=dtype)
    if text:
        # this level is part of every published file, whatever the installed transformers calls it
        tensors = {
            name if name.startswith("text_") else f"text_model.{name}": tensor
            for name, tensor in tensors.items()
        }
    names = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
    kind = names.get(part, "CLIPTextModelWithProjection")
    words: dict[str, Any] = (
        {"architectures": [kind], "model_type": "clip_text_model"} if text else {"_class_name": kind}
    )
    write_json(folder / "config.json", {**config, **words})
    file = "model.safetensors" if text else "diffusion_pytorch_model.safetensors"
    save_file(tensors, folder / file, metadata={"format": "pt"})


def _make_tiny(folder: Path, *, seed: int, side: int) -> None:
    """The parts of SD 1.5 with two levels, drawn as torch draws them; the global generator is left alone."""
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
        tokenizer = _tiny_tokenizer(folder)
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
    _write_scheduler(folder, "sd15")


def _tiny_tokenizer(folder: Path):  # type: ignore[no-untyped-def]
    """Letters and digits, whole or at the end of a word, without merges: enough to tell prompts apart."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789_,.-'"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=16
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    return tokenizer


def _write_scheduler(folder: Path, family: Family) -> None:
    kind = {"sd15": "DDIMScheduler", "sdxl": "EulerDiscreteScheduler"}[family]
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": kind, **SCHEDULER})
    write_model_index(folder, family)
