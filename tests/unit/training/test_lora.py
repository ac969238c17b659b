"""LoRA: kohya's names and shapes, exact merges, and a file that diffusers itself loads to the same effect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from talent_factory.core.errors import KitError
from talent_factory.kits.keys import expected_modules
from talent_factory.training.families import Base
from talent_factory.training.lora import (
    TEXT_PREFIX,
    UNET_PREFIX,
    LoraNetwork,
    attach,
    low_rank_delta,
    merge_into,
    target_layers,
)


@pytest.fixture(scope="module")
def sd15_unet() -> UNet2DConditionModel:
    """The block structure of Stable Diffusion 1.5, thin enough for a test."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16, 32, 32),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def _names(network: LoraNetwork) -> set[str]:
    return {key.partition(".")[0] for key in network.state()}


def test_unet_names_are_those_of_stable_diffusion(sd15_unet: UNet2DConditionModel) -> None:
    network = attach(sd15_unet, rank=2)
    network.detach()
    known = {name for name in expected_modules("sd15") if name.startswith(UNET_PREFIX)}
    assert len(network.layers) == 192
    assert _names(network) <= known
    assert {name for name, _ in target_layers(sd15_unet, targets="transformer+conv")} == known


def test_attention_alone_is_128_layers(sd15_unet: UNet2DConditionModel) -> None:
    network = attach(sd15_unet, rank=2, targets="attention")
    network.detach()
    assert len(network.layers) == 128


def test_convolutions_come_on_top(sd15_unet: UNet2DConditionModel) -> None:
    names = {name for name, _ in target_layers(sd15_unet, targets="transformer+conv")}
    more = names - {name for name, _ in target_layers(sd15_unet, targets="transformer")}
    assert "lora_unet_down_blocks_0_resnets_0_conv1" in more
    assert "lora_unet_down_blocks_1_resnets_0_conv_shortcut" in more
    assert "lora_unet_down_blocks_0_downsamplers_0_conv" in more
    assert "lora_unet_mid_block_resnets_1_time_emb_proj" in more


def test_text_names_keep_text_model() -> None:
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=12, num_attention_heads=2
        )
    )
    network = attach(encoder, prefix=TEXT_PREFIX, rank=2)
    network.detach()
    known = {name for name in expected_modules("sd15") if name.startswith(TEXT_PREFIX)}
    assert len(known) == 72
    assert _names(network) == known


def test_projections_of_sd15_are_four_dimensional(base: Base) -> None:
    state = attach(base.unet, rank=2).state()
    name = "lora_unet_down_blocks_0_attentions_0_proj_in"
    assert state[f"{name}.lora_down.weight"].shape == (2, 32, 1, 1)
    assert state[f"{name}.lora_up.weight"].shape == (32, 2, 1, 1)
    assert state[f"{name}.alpha"].shape == ()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_nothing_to_adapt_is_said() -> None:
    with pytest.raises(ValueError, match="no layer"):
        attach(nn.Linear(2, 2), rank=1)


def _shaken(network: LoraNetwork, seed: int = 3) -> dict[str, Tensor]:
    """Give the network weights as if it had been trained, and return its state."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        key: torch.randn(value.shape, generator=generator) * 0.2 if value.dim() else value
        for key, value in network.state().items()
    }
    network.load_state(state)
    return state


@torch.no_grad()
def _noise(base: Base) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 4, 4, generator=generator)
    return base.predict(latents, torch.tensor([10, 500]), base.encode_prompts(["a robot", "selftest"]))


def test_fresh_network_is_the_base_bit_for_bit(base: Base) -> None:
    before = _noise(base)
    attach(base.unet, rank=4)
    assert torch.equal(before, _noise(base))


def test_initial_value_depends_on_name_and_seed_only(base: Base) -> None:
    network = attach(base.unet, rank=2, seed=7)
    less = attach(base.unet, rank=2, seed=7, targets="attention")
    other = attach(base.unet, rank=2, seed=8)
    key = next(iter(less.state()))
    assert torch.equal(network.state()[key], less.state()[key])
    assert not torch.equal(network.state()[key], other.state()[key])
    down = network.state()[key]
    assert down.abs().max() <= 1 / down.shape[1] ** 0.5


def test_only_the_adapter_asks_for_gradients(base: Base) -> None:
    network = attach(base.unet, rank=2)
    latents = torch.zeros(1, 4, 4, 4)
    base.predict(latents, torch.tensor([3]), base.encode_prompts([""])).sum().backward()
    assert latents.grad is None
    assert all(parameter.grad is None for parameter in base.unet.parameters())
    ups = [value for name, value in network.named_parameters() if name.endswith(".up")]
    assert all(value.grad is not None for value in ups)
    assert any(value.grad.abs().sum() > 0 for value in ups if value.grad is not None)


@pytest.mark.parametrize("targets", ["transformer", "transformer+conv"])
def test_merged_is_attached(base: Base, targets: str) -> None:
    plain = _noise(base)
    network = attach(base.unet, rank=3, alpha=1.5, targets=targets)  # type: ignore[arg-type]
    state = _shaken(network)
    attached = _noise(base)
    with network.disabled():
        assert torch.equal(plain, _noise(base))
    network.detach()
    assert torch.equal(plain, _noise(base))
    assert (attached - plain).abs().max() > 1e-2
    with merge_into(base.unet, state) as merged:
        assert len(merged) == len(network.layers)
        torch.testing.assert_close(_noise(base), attached, rtol=1e-4, atol=1e-4)
    assert torch.equal(plain, _noise(base))


def test_merges_add_up_and_come_off_in_reverse(base: Base) -> None:
    plain = _noise(base)
    network = attach(base.unet, rank=2)
    state = _shaken(network)
    network.detach()
    first = merge_into(base.unet, state, 0.25)
    second = merge_into(base.unet, state, 0.75)
    halves = _noise(base)
    second.undo()
    first.undo()
    assert torch.equal(plain, _noise(base))
    with merge_into(base.unet, state, 1.0):
        torch.testing.assert_close(_noise(base), halves, rtol=1e-4, atol=1e-4)


def test_a_foreign_layer_changes_nothing(base: Base) -> None:
    plain = _noise(base)
    network = attach(base.unet, rank=2)
    state = _shaken(network)
    network.detach()
    state["lora_unet_zz_nowhere.lora_down.weight"] = torch.ones(2, 4)
    state["lora_unet_zz_nowhere.lora_up.weight"] = torch.ones(4, 2)
    with pytest.raises(KitError, match="zz_nowhere"):
        merge_into(base.unet, state)
    assert torch.equal(plain, _noise(base))


def test_load_state_refuses_another_rank(base: Base) -> None:
    state = attach(base.unet, rank=2).state()
    with pytest.raises(KitError, match="lora_down"):
        attach(base.unet, rank=4).load_state(state)


@given(
    rank=st.integers(1, 4),
    out=st.integers(1, 5),
    inside=st.integers(1, 5),
    kernel=st.sampled_from([0, 1, 3]),
    alpha=st.one_of(st.none(), st.floats(0.25, 8)),
)
def test_delta_is_the_definition(rank: int, out: int, inside: int, kernel: int, alpha: float | None) -> None:
    generator = torch.Generator().manual_seed(rank)
    tail, head = ((kernel, kernel), (1, 1)) if kernel else ((), ())
    down = torch.randn((rank, inside, *tail), generator=generator)
    up = torch.randn((out, rank, *head), generator=generator)
    tensors = {"m.lora_down.weight": down, "m.lora_up.weight": up}
    if alpha is not None:
        tensors["m.alpha"] = torch.tensor(alpha)
    expected = torch.einsum("or,ri...->oi...", up.flatten(1), down) * ((alpha or rank) / rank)
    torch.testing.assert_close(low_rank_delta(tensors, "m"), expected)


@pytest.fixture
def lora_file(base: Base, tmp_path: Path) -> Iterator[tuple[Path, Tensor, Tensor]]:
    """A file of both networks with alpha different from rank, the noise they predict, and the text states."""
    unet = attach(base.unet, rank=4, alpha=2.0)
    text = attach(base.text_encoders[0][1], prefix=TEXT_PREFIX, rank=4, alpha=2.0)
    state = {**_shaken(unet), **_shaken(text)}
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    yield path, _noise(base), base.encode_prompts(["a robot"]).context_BTC.detach()
    unet.detach()
    text.detach()


def test_diffusers_loads_the_file_to_the_same_effect(
    lora_file: tuple[Path, Tensor, Tensor], base_folder: Path
) -> None:
    pytest.importorskip("peft", reason="diffusers loads LoRA files through peft")
    from diffusers import StableDiffusionPipeline

    path, ours, our_text = lora_file
    pipeline = StableDiffusionPipeline.from_pretrained(base_folder, local_files_only=True)
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    ids = [
        pipeline.tokenizer(
            prompt, padding="max_length", max_length=16, truncation=True, return_tensors="pt"
        ).input_ids
        for prompt in ("a robot", "selftest")
    ]
    with torch.no_grad():
        context = torch.cat([pipeline.text_encoder(own).last_hidden_state for own in ids])
        latents = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
        theirs = pipeline.unet(latents, torch.tensor([10, 500]), context).sample
    torch.testing.assert_close(context[:1], our_text, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)
