"""SDXL in small: read, conditioned, named and computed as diffusers' own pipeline does it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from talent_factory.core.errors import ConfigError
from talent_factory.kits.keys import expected_modules
from talent_factory.training.config import TrainConfig
from talent_factory.training.families import Base, load_base
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.loop import train
from talent_factory.training.lora import attach
from talent_factory.training.lora.names import target_layers
from talent_factory.training.resolve import resolve_base
from talent_factory.training.runs import TrainResult
from talent_factory.training.tiny_data import make_tiny_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random SDXL in diffusers form; read only."""
    return make_random_base(tmp_path_factory.mktemp("sdxl") / "base", "tiny-sdxl", seed=3)


@pytest.fixture(scope="module")
def sdxl(folder: Path) -> Base:
    """The tiny random SDXL; tests leave it as it is."""
    return load_base(folder)


def test_two_encoders_and_a_pooled_vector(sdxl: Base) -> None:
    text = sdxl.encode_prompts(["a", "a robot, ink drawing"])
    assert text.context_BTC.shape == (2, 77, 80)
    assert text.pooled_BD is not None
    assert text.pooled_BD.shape == (2, 48)
    assert [prefix for prefix, _ in sdxl.modules()] == ["lora_unet", "lora_te1", "lora_te2"]
    assert (sdxl.family, sdxl.resolution, sdxl.latent_side(64)) == ("sdxl", 64, 8)


@torch.no_grad()
def test_prompts_and_estimates_are_those_of_diffusers(folder: Path, sdxl: Base) -> None:
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    prompts = ["a robot in the rain, ink", ""]
    context, _, pooled, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)
    text = sdxl.encode_prompts(prompts)
    torch.testing.assert_close(text.context_BTC, context, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(text.pooled_BD, pooled, rtol=1e-5, atol=1e-5)

    latents = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(1))
    times = torch.tensor([10, 700])
    sizes = torch.tensor([[64, 48, 0, 0, 64, 48]]).expand(2, -1)
    theirs = pipeline.unet(
        latents, times, context, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}
    ).sample
    torch.testing.assert_close(sdxl.predict(latents, times, text), theirs, rtol=1e-4, atol=1e-5)
    # a picture of another shape is another condition
    other = sdxl.predict(latents.transpose(2, 3), times, text)
    assert other.shape == (2, 4, 6, 8)


def test_a_lora_carries_the_names_that_readers_expect(sdxl: Base) -> None:
    known = set(expected_modules("sdxl"))
    found: set[str] = set()
    for prefix, module in sdxl.modules():
        found |= {name for name, _ in target_layers(module, prefix=prefix, name=sdxl.lora_name)}
    # fewer transformers a block than the real one, the same names otherwise
    assert found <= known
    assert "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q" in found
    assert "lora_unet_output_blocks_2_2_conv" in found
    assert "lora_te2_text_model_encoder_layers_2_mlp_fc1" in found


def test_gradients_reach_the_network(folder: Path) -> None:
    base = load_base(folder)
    network = attach(base.unet, rank=2, name=base.lora_name, seed=1)
    with torch.no_grad():
        text = base.encode_prompts(["a"])
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    base.predict(latents, torch.tensor([500]), text).square().mean().backward()
    assert all(layer.up.grad is not None and layer.up.grad.any() for _, layer in network.named_layers())


def test_bf16_stays_near(folder: Path, sdxl: Base) -> None:
    half = load_base(folder, dtype="bfloat16")
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = sdxl.encode_prompts(["a"])
    with torch.no_grad():
        found, exact = (each.predict(latents, torch.tensor([100]), text) for each in (half, sdxl))
    torch.testing.assert_close(found, exact, rtol=0.1, atol=0.05)


def _train(base_model: Path, root: Path, **changes: object) -> TrainResult:
    values = {
        "id": "avatar.identity.selftest",
        "kind": "lora",
        "sdx_version": "xl",
        "base_model": str(base_model),
        "train_data_dir": "unused",
        "resolution": 64,
        "lora_rank": 2,
        "max_train_steps": 3,
        "learning_rate": 1e-3,
        "batch_size": 2,
        "token": "selftest",
        "sample_every": 0,
        "device": "cpu",
        "train_text_encoder": True,
        "prior_weight": 0.3,
        **changes,
    }
    # at 32 pixels the lowest level has one cell, and attention to oneself alone has no gradient
    dataset = make_tiny_dataset(root / "dataset", side=64)
    return train(TrainConfig.model_validate(values), dataset=dataset, run=root / "run")


def test_a_training_from_one_file_writes_what_sdxl_reads(tmp_path: Path) -> None:
    file = make_random_base(tmp_path / "base.safetensors", "tiny-sdxl", seed=3, form="checkpoint")
    result = _train(file, tmp_path)
    assert result.base_revision == resolve_base(str(file)).revision()
    tensors = load_file(result.lora)
    modules = {name.split(".")[0] for name in tensors}
    assert modules <= set(expected_modules("sdxl"))
    assert {name.split("_")[1] for name in modules} == {"unet", "te1", "te2"}
    moved = {name.split(".")[0] for name, t in tensors.items() if "lora_up" in name and t.any()}
    # the last layer of the first encoder is never read; that of the second gives the pooled vector
    idle = modules - moved
    assert all(name.startswith("lora_te1_text_model_encoder_layers_2_") for name in idle)


def test_the_wrong_generation_is_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sdx_version"):
        _train(folder, tmp_path, sdx_version="1.5")
    assert not (tmp_path / "run" / "run.json").exists()
