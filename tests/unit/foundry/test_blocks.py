"""Every layer of every base is in a block, and the most exact name decides its factor."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundry_maker import STYLE
from talent_factory.core.errors import UsageError
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.blocks import PRESETS, block_namer, check_blocks, factor_of, read_blocks
from talent_factory.foundry.discover import Ingredient, Kit, read_ingredient
from talent_factory.foundry.schedule import text_weights, weights_at
from talent_factory.kits.keys import expected_modules


@pytest.mark.parametrize("base", ["mini", "sd15", "sdxl"])
def test_every_layer_is_in_a_block(base: str) -> None:
    block_of = block_namer(base)
    blocks = {name: block_of(name) for name in expected_modules(base)}
    assert all(block.split(".")[0] in ("down", "mid", "up", "te", "te1", "te2") for block in blocks.values())
    assert check_blocks(tuple((block, 0.5) for block in sorted(set(blocks.values()))))


@pytest.mark.parametrize(
    ("base", "layer", "block"),
    [
        ("sd15", "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_attn1_to_q", "up.1.attentions.2"),
        ("sd15", "lora_unet_mid_block_resnets_1_conv1", "mid.resnets.1"),
        ("sd15", "lora_te_text_model_encoder_layers_3_mlp_fc1", "te"),
        ("sdxl", "lora_te2_text_model_encoder_layers_3_mlp_fc1", "te2"),
        ("sdxl", "lora_unet_output_blocks_0_1_transformer_blocks_0_attn1_to_q", "up.0.attentions.0"),
        ("sdxl", "lora_unet_output_blocks_1_1_proj_in", "up.0.attentions.1"),
        ("sdxl", "lora_unet_output_blocks_2_2_conv", "up.0.upsamplers.0"),
        ("sdxl", "lora_unet_input_blocks_3_0_op", "down.0.downsamplers.0"),
        ("sdxl", "lora_unet_middle_block_1_proj_out", "mid.attentions.0"),
    ],
)
def test_layers_are_found_in_their_block(base: str, layer: str, block: str) -> None:
    assert layer in expected_modules(base)
    assert block_namer(base)(layer) == block


def test_b_lora_keeps_one_transformer_each() -> None:
    block_of = block_namer("sdxl")
    for preset, place in (("content", "output_blocks_0_1"), ("style", "output_blocks_1_1")):
        blocks = read_blocks(preset, base="sdxl")
        kept = {name for name in expected_modules("sdxl") if factor_of(block_of(name), blocks)}
        assert {name for name in kept if "lora_te" not in name} == {
            name for name in expected_modules("sdxl") if place in name
        }
        assert any("lora_te" in name for name in kept) == (preset == "content")


@pytest.mark.parametrize(
    ("block", "factor"),
    [("up.1.attentions.0", 0.0), ("up.1.resnets.0", 0.3), ("up.10.resnets.0", 0.5), ("mid", 1.5), ("te2", 2)],
)
def test_the_most_exact_name_decides(block: str, factor: float) -> None:
    blocks = (("all", 1.5), ("up", 0.5), ("up.1", 0.3), ("up.1.attentions", 0.0), ("te", 2.0))
    assert factor_of(block, blocks) == factor
    assert factor_of(block, ()) == 1.0


@pytest.mark.parametrize("text", ["up=x", "", "side=1", "up.x=1", "down=3", "up=1,up=0", "mid.1=1", "up=nan"])
def test_a_wrong_block_is_told_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_blocks(text, base="sd15")
    assert caught.value.remedy


def test_a_preset_is_for_its_own_base() -> None:
    with pytest.raises(UsageError, match="SDXL"):
        read_blocks("style", base="sd15")
    assert set(PRESETS) == {"content", "style"}


def test_an_ingredient_is_written_in_one_word(talents: Path, base_folder: Path) -> None:
    def read(text: str) -> Ingredient:
        return read_ingredient(STYLE + text, talents, base_folder=base_folder)

    whole = read(":0.7@0.3-1/down=0.5,up.1=0")
    assert (whole.weight, whole.begin, whole.end) == (0.7, 0.3, 1.0)
    assert whole.blocks == (("down", 0.5), ("up.1", 0.0))
    assert (read("@0-0.5").weight, read("@0-0.5").end) == (0.8, 0.5)
    for text in ("@0.5", "@0.5-0.5", "@-1", "@0.2-1.1", "@a-b", "/down", ":1/x=1"):
        with pytest.raises(UsageError):
            read(text)


def test_a_record_refuses_what_the_words_refuse(style: Kit) -> None:
    for wrong in ({"blocks": (("side", 1.0),)}, {"begin": 0.5, "end": 0.5}, {"begin": 1.0}):
        with pytest.raises(ValueError, match=r"block|begin"):
            Ingredient.model_validate({"kit": style, "weight": 1.0, **wrong})


def test_steps_belong_to_those_in_whose_share_their_middle_lies(identity: Kit, style: Kit) -> None:
    uses = (Ingredient(kit=identity, weight=0.9, end=0.6), Ingredient(kit=style, weight=0.7, begin=0.3))
    mix = Mix(ingredients=uses)
    shares = [weights_at(mix, index, 10) for index in range(10)]
    assert shares == [(0.9, 0.0)] * 3 + [(0.9, 0.7)] * 3 + [(0.0, 0.7)] * 4
    assert text_weights(mix) == (0.9, 0.7)


def test_three_kits_take_turns_and_share_the_text(identity: Kit, style: Kit) -> None:
    uses = (Ingredient(kit=identity, weight=0.9), *(Ingredient(kit=style, weight=w) for w in (0.6, 0.3)))
    mix = Mix(ingredients=uses, switch=True)
    shares = [weights_at(mix, index, 4) for index in range(4)]
    assert shares == [(0.9, 0, 0), (0, 0.6, 0), (0, 0, 0.3), (0.9, 0, 0)]
    assert text_weights(mix) == pytest.approx((0.3, 0.2, 0.1))
    with pytest.raises(ValueError, match="take turns"):
        Mix(ingredients=uses, switch=True, projection=0.5)
