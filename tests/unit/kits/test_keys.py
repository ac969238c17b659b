"""The module names of each base, by rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talent_factory.core.errors import KitError
from talent_factory.kits.keys import (
    MINI_FOLDER,
    ModuleShape,
    base_of,
    cross_attention_width,
    expected_modules,
    folder_modules,
)


def test_sd15_has_the_modules_that_kohya_trains() -> None:
    modules = expected_modules("sd15")
    assert sum(name.startswith("lora_unet_") and "_attentions_" in name for name in modules) == 192
    assert sum(name.startswith("lora_te_text_model_encoder_layers_") for name in modules) == 72
    # and those of LoCon: 22 residual blocks of three, 14 with a shortcut, 3 samplers each way
    assert len(modules) == 192 + 72 + 22 * 3 + 14 + 3 + 3
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
    assert modules[f"{block}_attn2_to_k"] == ModuleShape(768, 320, 0)
    assert modules[f"{block}_ff_net_0_proj"] == ModuleShape(320, 2560, 0)
    assert modules["lora_unet_mid_block_attentions_0_proj_in"] == ModuleShape(1280, 1280, 1)
    assert modules["lora_te_text_model_encoder_layers_11_mlp_fc2"] == ModuleShape(3072, 768, 0)
    assert "lora_unet_up_blocks_0_attentions_0_proj_in" not in modules
    assert cross_attention_width(modules) == 768


def test_sdxl_has_the_modules_that_kohya_trains() -> None:
    modules = expected_modules("sdxl")
    transformers = [name for name in modules if "_blocks_" in name and ("attn" in name or "_ff_" in name)]
    assert len(transformers) == 700
    assert sum(name.endswith(("_proj_in", "_proj_out")) for name in modules) == 22
    assert sum(name.startswith("lora_te1_") for name in modules) == 72
    assert sum(name.startswith("lora_te2_") for name in modules) == 192
    places = {
        name.split("_transformer_blocks")[0] for name in modules if "_transformer_blocks_0_attn1_to_q" in name
    }
    assert places == {
        "lora_unet_middle_block_1",
        *(f"lora_unet_input_blocks_{block}_1" for block in (4, 5, 7, 8)),
        *(f"lora_unet_output_blocks_{block}_1" for block in range(6)),
    }
    assert modules["lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_v"] == ModuleShape(2048, 1280, 0)
    assert modules["lora_unet_output_blocks_5_1_proj_out"] == ModuleShape(640, 640, 0)
    assert cross_attention_width(modules) == 2048


def test_shapes_of_linear_and_convolution_modules() -> None:
    assert ModuleShape(768, 320, 0).down(4) == (4, 768)
    assert ModuleShape(768, 320, 0).up(4) == (320, 4)
    assert ModuleShape(320, 320, 1).down(4) == (4, 320, 1, 1)
    assert ModuleShape(320, 320, 1).up(4) == (320, 4, 1, 1)


def test_a_folder_in_diffusers_form_tells_its_modules(base: Path) -> None:
    modules = expected_modules(base)
    # one transformer going down, one in the middle, two going up, twelve modules each; a text layer has six
    assert sum("_attentions_" in name or "lora_te" in name for name in modules) == 4 * 12 + 6
    assert modules["lora_unet_up_blocks_1_attentions_1_proj_in"] == ModuleShape(32, 32, 1)
    assert modules["lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"] == ModuleShape(
        48, 64, 0
    )


@pytest.mark.parametrize("spoil", ["missing", "text", "list", "block", "half"])
def test_a_broken_base_is_an_error_with_a_remedy(spoil: str, base: Path, tmp_path: Path) -> None:
    config = json.loads((base / "unet" / "config.json").read_text())
    written = {
        "missing": None,
        "text": "hello",
        "list": "[]",
        "block": json.dumps({**config, "down_block_types": ["AttnDownBlock2D", "DownBlock2D"]}),
        "half": json.dumps({"block_out_channels": [32]}),
    }[spoil]
    (tmp_path / "unet").mkdir()
    if written is not None:
        (tmp_path / "unet" / "config.json").write_text(written)
    with pytest.raises(KitError, match="cannot be read") as caught:
        folder_modules(tmp_path)
    assert caught.value.remedy


def test_bases_by_name() -> None:
    assert base_of("mini", "1.5") == "mini"
    assert base_of("stable-diffusion-v1-5/stable-diffusion-v1-5", "1.5") == "sd15"
    assert base_of("stabilityai/stable-diffusion-xl-base-1.0", "xl") == "sdxl"
    with pytest.raises(KitError):
        expected_modules("../../etc")


@pytest.mark.skipif(
    not (MINI_FOLDER / "unet").is_dir(), reason="the embedded base is not built in this checkout"
)
def test_the_embedded_base_has_cross_attention() -> None:
    assert cross_attention_width(expected_modules("mini")) > 0


@pytest.mark.slow
def test_names_and_shapes_are_those_of_the_true_models() -> None:
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from talent_factory.kits import keys

    with torch.device("meta"):
        unet = UNet2DConditionModel(**dict(keys._SD15_UNET))
        text = CLIPTextModel(CLIPTextConfig(**dict(keys._CLIP_L)))
    found = {}
    for prefix, model in (("lora_unet", unet), ("lora_te", text)):
        for path, module in model.named_modules():
            name = f"{prefix}_{path}".replace(".", "_").replace(
                "lora_te_encoder", "lora_te_text_model_encoder"
            )
            if name in expected_modules("sd15"):
                weight = module.weight.shape
                found[name] = ModuleShape(weight[1], weight[0], weight[2] if len(weight) == 4 else 0)
    assert found == dict(expected_modules("sd15"))


@pytest.mark.slow
def test_sdxl_names_mean_the_modules_that_diffusers_has() -> None:
    from types import SimpleNamespace

    from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers

    from talent_factory.kits import keys

    ours = {f"{name}.alpha": name for name in expected_modules("sdxl") if name.startswith("lora_unet_")}
    mapped = _maybe_map_sgm_blocks_to_diffusers(dict(ours), SimpleNamespace(layers_per_block=2))
    names = {name.removesuffix(".alpha") for name in mapped}
    layers = {
        "conv1": "in_layers.2",
        "conv2": "out_layers.3",
        "time_emb_proj": "emb_layers.1",
        "conv_shortcut": "skip_connection",
    }
    parts = [("samplers_0_op", "samplers_0_conv")] + [
        (new.replace(".", "_"), old) for old, new in layers.items()
    ]
    for old, new in (("input_", "down_"), ("middle_", "mid_"), ("output_", "up_"), *parts):
        names = {name.replace(old, new) for name in names}
    assert names == keys.unet_modules(keys._SDXL_UNET).keys()


@pytest.mark.slow
def test_what_training_adapts_is_what_the_validator_knows(base: Path) -> None:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from kit_maker import TEXT_CONFIG, UNET_CONFIG
    from talent_factory.training.lora import attach

    unet = UNet2DConditionModel(**UNET_CONFIG, norm_num_groups=8, attention_head_dim=4)
    text = CLIPTextModel(CLIPTextConfig(**TEXT_CONFIG, num_attention_heads=4, vocab_size=9))
    known = folder_modules(base)
    found = set()
    for model, prefix in ((unet, "lora_unet"), (text, "lora_te")):
        for name, tensor in attach(model, prefix=prefix, rank=3, targets="transformer+conv").state().items():
            module, _, part = name.partition(".")
            found.add(module)
            if part != "alpha":
                shape = known[module].down(3) if "down" in part else known[module].up(3)
                assert tuple(tensor.shape) == shape
    assert found == set(known)
