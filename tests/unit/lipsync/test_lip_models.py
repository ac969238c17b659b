from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from talent_factory.core.errors import ConfigError, FileError
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.models.fast import fastest_dtype, painting
from talent_factory.lipsync.models.temporal import TemporalUNet
from talent_factory.lipsync.models.unet import (
    PRESETS,
    Canvas,
    begin_at_reference,
    build_unet,
    canvas_of,
    make_latents,
    predict,
    read_unet_config,
)


@dataclass(frozen=True)
class Sides:
    """A codec as far as a UNet asks."""

    channels: int = 4
    factor: int = 8
    id: str = "four"

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, latents: Tensor) -> Tensor:
        return latents


SMALL = {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}


def _small(seed: int = 0, *, feed_mask: bool = False) -> torch.nn.Module:
    torch.manual_seed(seed)
    made: torch.nn.Module = build_unet(
        {**read_unet_config("tiny"), **SMALL}, Sides(), feed_mask=feed_mask
    ).eval()
    return made


def _inputs(count: int = 4, *, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(2, count, 4, 8, 8, generator=generator)
    return latents[0], latents[1], torch.randn(count, 50, 384, generator=generator)


@pytest.mark.parametrize(
    ("preset", "millions"), [("full", 849.95), ("half", 215.00), ("quarter", 78.61), ("tiny", 9.41)]
)
def test_presets_load_in_diffusers_and_have_their_size(preset: str, millions: float) -> None:
    with torch.device("meta"):
        unet = build_unet(read_unet_config(preset), Sides())
    assert sum(weight.numel() for weight in unet.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert (unet.config.in_channels, unet.config.out_channels) == (8, 4)
    assert unet.config.cross_attention_dim == 384


def test_the_full_preset_is_the_configuration_users_have() -> None:
    config = read_unet_config("full")
    wanted = {
        "sample_size": 64, "in_channels": 8, "out_channels": 4, "layers_per_block": 2,
        "block_out_channels": [320, 640, 1280, 1280], "attention_head_dim": 8, "cross_attention_dim": 384,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "norm_num_groups": 32, "norm_eps": 1e-5, "act_fn": "silu", "flip_sin_to_cos": True, "freq_shift": 0,
    }  # fmt: skip
    assert {key: config[key] for key in wanted} == wanted
    with torch.device("meta"):
        unet = build_unet(config, Sides())
    # `attention_head_dim` is the number of heads, as it always was for this class
    assert unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.heads == 8


@pytest.mark.parametrize(("codec", "channels"), [("dct4", 48), ("dct8", 192), ("mini", 4)])
def test_the_codec_sets_the_channels(codec: str, channels: int) -> None:
    opened = open_codec(codec)
    with torch.device("meta"):
        unet = build_unet(read_unet_config("tiny"), opened, feed_mask=True)
    assert (unet.config.in_channels, unet.config.out_channels) == (2 * channels + 1, channels)


def test_a_config_file_and_the_folder_of_a_model_are_read(tmp_path: Path) -> None:
    path = tmp_path / "unet.json"
    path.write_text(json.dumps({**read_unet_config("tiny"), **SMALL}), "utf-8")
    assert read_unet_config(path)["block_out_channels"] == [32, 32, 32, 32]
    _small().save_pretrained(tmp_path / "unet")  # type: ignore[operator]
    assert read_unet_config(tmp_path / "unet")["block_out_channels"] == [32, 32, 32, 32]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cross_attention_dim": 768}, "cross_attention_dim 768"),
        ({"_class_name": "AutoencoderKL"}, "no UNet2DConditionModel"),
    ],
)
def test_configs_of_other_networks_are_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    path = tmp_path / "unet.json"
    path.write_text(json.dumps({**read_unet_config("tiny"), **change}), "utf-8")
    with pytest.raises(ConfigError, match=says):
        read_unet_config(path)


def test_bad_configs_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="huge") as caught:
        read_unet_config("huge")
    assert all(preset in caught.value.remedy for preset in PRESETS)
    with pytest.raises(ConfigError, match="cannot be built"):
        build_unet({**read_unet_config("tiny"), "block_out_channels": [32, 64]}, Sides())


def test_masked_comes_first_and_all_inputs_count() -> None:
    unet = _small()
    masked, reference, tokens = _inputs()
    batch = Batch(images=None, target=masked, masked=masked, reference=reference, tokens=tokens)
    with torch.no_grad():
        made = predict(unet, batch)
        assert made.shape == masked.shape
        wanted = unet(torch.cat([masked, reference], 1), torch.tensor([0]), tokens).sample
        assert torch.allclose(made, wanted, atol=1e-6)
        others = (
            make_latents(unet, reference, masked, tokens),
            make_latents(unet, masked, reference, -tokens),
        )
    assert all(float((other - made).abs().max()) > 1e-3 for other in others)


def test_a_residual_begins_at_the_reference_and_leaves_the_rest() -> None:
    unet = _small()
    masked, reference, tokens = _inputs()
    mask = FaceMask(kind="rectangle", side=0.2)
    canvas = canvas_of(mask, size=64, factor=8, fed=False, residual=True)
    assert canvas.covered is not None
    # 64 pixels: columns 13 to 50 are covered, which eight latents of eight pixels see from the second on
    assert canvas.covered[0, 0].tolist() == [[0.0] * 8] * 4 + [[0.0, *[1.0] * 6, 0.0]] * 4
    with torch.no_grad():
        plain = make_latents(unet, masked, reference, tokens)
        added = make_latents(unet, masked, reference, tokens, canvas=canvas)
        begin_at_reference(unet)
        begun = make_latents(unet, masked, reference, tokens, canvas=canvas)
    inside = canvas.covered.bool().expand_as(masked)
    assert torch.equal(added[~inside], masked[~inside])
    assert torch.allclose(added[inside], (reference + plain)[inside])
    assert torch.equal(begun, torch.where(inside, reference, masked))


def test_a_fed_mask_is_the_last_channel() -> None:
    unet = _small(feed_mask=True)
    masked, reference, tokens = _inputs()
    kept = torch.ones(1, 1, 8, 8)
    with torch.no_grad():
        one = make_latents(unet, masked, reference, tokens, canvas=Canvas(kept=kept))
        other = make_latents(unet, masked, reference, tokens, canvas=Canvas(kept=1 - kept))
    assert float((one - other).abs().max()) > 1e-4


def test_time_adds_nothing_before_it_is_trained() -> None:
    unet = _small()
    masked, reference, tokens = _inputs()
    with torch.no_grad():
        before = make_latents(unet, masked, reference, tokens)
        timed = TemporalUNet(unet)
        assert len(timed.layers) == 10
        assert torch.equal(make_latents(timed, masked, reference, tokens, length=2), before)


def test_trained_time_mixes_frames_of_a_sample_and_of_no_other() -> None:
    timed = _trained_time()
    masked, reference, tokens = _inputs()
    with torch.no_grad():
        before = make_latents(timed, masked, reference, tokens, length=2)
        tokens[3] += 1
        after = make_latents(timed, masked, reference, tokens, length=2)
        alone = make_latents(timed, masked, reference, tokens, length=1)
        plain = make_latents(timed.unet, masked, reference, tokens)
    changed = (after - before).abs().amax(dim=(1, 2, 3))
    assert changed[:2].tolist() == [0, 0]
    assert bool((changed[2:] > 1e-4).all())
    assert torch.equal(alone, plain)  # a frame alone has nobody to look at
    with pytest.raises(ValueError, match="no whole samples"):
        make_latents(timed, masked, reference, tokens, length=3)


def test_time_and_network_are_saved_apart_and_copied_together() -> None:
    timed = _trained_time()
    fresh = TemporalUNet(_small())
    fresh.load_temporal(timed.temporal_state())
    masked, reference, tokens = _inputs()
    with torch.no_grad():
        wanted = make_latents(timed, masked, reference, tokens, length=2)
        assert torch.equal(make_latents(fresh, masked, reference, tokens, length=2), wanted)
        copied = copy.deepcopy(timed)
        for layer in timed.layers:
            layer.out.weight.zero_()  # type: ignore[union-attr,operator]
        assert torch.equal(make_latents(copied, masked, reference, tokens, length=2), wanted)
    assert not any("temporal" in name or "layers." in name for name in timed.unet.state_dict())
    state = timed.temporal_state()
    del state["0.out.bias"]
    with pytest.raises(FileError, match="do not fit"):
        fresh.load_temporal(state)


def test_the_second_stage_trains_time_and_the_attention_to_sound() -> None:
    timed = TemporalUNet(_small())
    chosen = {id(parameter) for parameter in timed.second_stage()}
    names = [name for name, parameter in timed.named_parameters() if id(parameter) in chosen]
    assert names
    assert all(name.startswith("layers.") or ".attn2." in name for name in names)
    timed.unet.enable_gradient_checkpointing()  # type: ignore[operator]
    timed.train()
    masked, reference, tokens = _inputs()
    make_latents(timed, masked, reference, tokens, length=2).square().mean().backward()
    assert float(timed.layers[0].out.weight.grad.abs().max()) > 0  # type: ignore[union-attr,operator]


def _trained_time() -> TemporalUNet:
    timed = TemporalUNet(_small())
    torch.manual_seed(3)
    for layer in timed.layers:
        torch.nn.init.normal_(layer.out.weight, std=0.2)  # type: ignore[arg-type]
    return timed.eval()


def test_painting_paints_the_same_pictures() -> None:
    unet = _small()
    masked, reference, tokens = _inputs()
    with torch.no_grad():
        wanted = make_latents(unet, masked, reference, tokens)
    with painting(unet), torch.inference_mode():
        for _ in range(2):
            assert torch.allclose(make_latents(unet, masked, reference, tokens), wanted, atol=1e-4)
        less = make_latents(unet, masked[:2], reference[:2], tokens[:2])
    assert torch.allclose(less, wanted[:2], atol=1e-4)
    assert not any("forward" in module.__dict__ for module in unet.modules())


def test_sixteen_bits_only_where_they_are_quick() -> None:
    assert fastest_dtype("cuda") == torch.float16
    assert fastest_dtype("cpu") in (torch.float32, torch.bfloat16)
    assert fastest_dtype("mps") == torch.float32
