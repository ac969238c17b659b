"""A mix is the exact weighted sum, by block and by step, whatever the order, and leaves no trace."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from foundry_maker import IDENTITY, STYLE, add_kit
from kit_maker import make_tensors, write_lora
from talent_factory.core.errors import KitError
from talent_factory.core.files import sha256_file
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.blocks import read_blocks
from talent_factory.foundry.discover import Ingredient, Kit, load_kit
from talent_factory.foundry.merging import Mixture, mixed
from talent_factory.foundry.mix import combine
from talent_factory.foundry.session import prepare
from talent_factory.foundry.ways import ways
from talent_factory.training.families import load_base
from talent_factory.training.families.port import Base
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.lora import low_rank_delta, merge_into, target_layers

ATTENTION = "lora_unet_mid_block_attentions_0_proj_in"
CONVOLUTION = "lora_unet_down_blocks_0_resnets_0_conv1"


def together(*ingredients: Ingredient, projection: float = 0.0, switch: bool = False) -> Mix:
    return Mix(ingredients=ingredients, projection=projection, switch=switch)


def bits(base: Base) -> list[Tensor]:
    return [p.detach().clone() for _, module in base.modules() for p in module.parameters()]


def same(before: list[Tensor], base: Base) -> bool:
    return all(torch.equal(old, new) for old, new in zip(before, bits(base), strict=True))


def weight_of(base: Base, name: str) -> Tensor:
    return dict(target_layers(base.unet, name=base.lora_name))[name].weight.detach().clone()


def altered(kit: Kit, folder: Path, tensors: dict[str, Tensor]) -> Ingredient:
    """The kit with other tensors, as one that passed its checks with them."""
    shutil.copytree(kit.path, folder)
    save_file(tensors, folder / "weights.safetensors")
    digest = sha256_file(folder / "weights.safetensors")
    return Ingredient(kit=kit.model_copy(update={"path": folder, "sha256": digest}), weight=1.0)


@pytest.fixture
def pair(identity: Kit, style: Kit) -> tuple[Ingredient, Ingredient]:
    return Ingredient(kit=identity, weight=0.9), Ingredient(kit=style, weight=0.333)


@pytest.mark.parametrize("name", [ATTENTION, CONVOLUTION])
def test_the_merge_is_the_weighted_sum(base: Base, pair: tuple[Ingredient, Ingredient], name: str) -> None:
    plain = weight_of(base, name)
    files = [load_file(use.kit.weights) for use in pair]
    change = sum(use.weight * low_rank_delta(file, name) for use, file in zip(pair, files, strict=True))
    with mixed(base, together(*pair)):
        torch.testing.assert_close(weight_of(base, name), plain + change.view(plain.shape), rtol=0, atol=1e-6)


def test_one_file_stands_for_a_mix(base: Base, pair: tuple[Ingredient, Ingredient]) -> None:
    mix = together(pair[0], pair[1].model_copy(update={"blocks": (("mid", 0.5),)}), projection=0.5)
    tensors = combine(mix)
    assert tensors[f"{ATTENTION}.lora_down.weight"].shape[0] == 5
    assert float(tensors[f"{ATTENTION}.alpha"]) == 5.0
    with mixed(base, mix):
        merged = [weight_of(base, name) for name in (ATTENTION, CONVOLUTION)]
    with merge_into(base.unet, tensors, name=base.lora_name):
        for name, weight in zip((ATTENTION, CONVOLUTION), merged, strict=True):
            torch.testing.assert_close(weight_of(base, name), weight, rtol=0, atol=1e-6)


def test_a_missing_alpha_means_alpha_equals_rank(identity: Kit, tmp_path: Path) -> None:
    tensors = {name: t for name, t in load_file(identity.weights).items() if not name.endswith("alpha")}
    without = together(altered(identity, tmp_path / "kit", tensors))
    found, usual = combine(without), combine(together(Ingredient(kit=identity, weight=1.0)))
    # rank and alpha of that kit are both 2
    assert all(torch.equal(found[name], usual[name]) for name in usual)


@pytest.mark.parametrize(("part", "message"), [("lora_up", "incomplete"), ("lora_down", "incomplete")])
def test_incomplete_layers_are_refused(identity: Kit, tmp_path: Path, part: str, message: str) -> None:
    tensors = {name: t for name, t in load_file(identity.weights).items() if part not in name}
    with pytest.raises(KitError, match=message):
        combine(together(altered(identity, tmp_path / "kit", tensors)))


def test_the_base_comes_back_bit_for_bit(base: Base, pair: tuple[Ingredient, Ingredient]) -> None:
    before = bits(base)
    with mixed(base, together(*pair)):
        assert not same(before, base)
    assert same(before, base)
    with pytest.raises(RuntimeError, match="in between"), mixed(base, together(*pair)):
        raise RuntimeError("in between")
    assert same(before, base)


def test_a_kit_that_does_not_fit_changes_nothing(base: Base, identity: Kit, tmp_path: Path) -> None:
    before, tensors = bits(base), load_file(identity.weights)
    tensors["lora_unet_zz.lora_down.weight"] = torch.ones(2, 3)
    tensors["lora_unet_zz.lora_up.weight"] = torch.ones(3, 2)
    stranger = altered(identity, tmp_path / "kit", tensors)
    with pytest.raises(KitError, match="lora_unet_zz"), mixed(base, together(stranger)):
        pass
    assert same(before, base)


def test_the_order_of_kits_does_not_matter_in_the_last_bit(
    base: Base, pair: tuple[Ingredient, Ingredient]
) -> None:
    for projection in (0.0, 0.5):
        with mixed(base, together(*pair, projection=projection)):
            first = bits(base)
        with mixed(base, together(*pair[::-1], projection=projection)):
            assert same(first, base)


def test_nothing_mixed_is_the_base(base: Base, identity: Kit) -> None:
    before = bits(base)
    nothing = Ingredient(kit=identity, weight=1.0, blocks=(("all", 0.0),))
    for use in (Mix(), together(Ingredient(kit=identity, weight=0.0)), together(nothing)):
        with mixed(base, use):
            assert same(before, base)


def test_blocks_weigh_their_own_layers_alone(base: Base, identity: Kit) -> None:
    half = Ingredient(kit=identity, weight=1.0, blocks=(("mid", 0.5),))
    with mixed(base, together(Ingredient(kit=identity, weight=1.0))):
        whole = {name: weight_of(base, name) for name in (ATTENTION, CONVOLUTION)}
    plain = weight_of(base, ATTENTION)
    with mixed(base, together(half)):
        assert torch.equal(weight_of(base, CONVOLUTION), whole[CONVOLUTION])
        torch.testing.assert_close(weight_of(base, ATTENTION), (plain + whole[ATTENTION]) / 2)


def test_each_step_has_the_weights_of_its_kits(base: Base, identity: Kit, style: Kit) -> None:
    early, late = Ingredient(kit=identity, weight=0.9, end=0.5), Ingredient(kit=style, weight=0.7, begin=0.5)
    states = []
    for use in (early, late):
        with mixed(base, together(use.model_copy(update={"begin": 0.0, "end": 1.0}))):
            states.append({name: weight_of(base, name) for name in (ATTENTION, CONVOLUTION)})
    before = bits(base)
    with mixed(base, together(early, late)) as mixture:
        assert not mixture.steady
        # two batches: the second starts again where the first began
        for index in (*range(4), *range(4)):
            mixture.before_step(index, 4)
            for name, wanted in states[index // 2].items():
                assert torch.equal(weight_of(base, name), wanted)
    assert same(before, base)


def test_prompts_are_read_with_all_kits_whatever_the_step(
    base: Base, pair: tuple[Ingredient, Ingredient]
) -> None:
    def text_bits() -> list[Tensor]:
        return [p.detach().clone() for _, module in base.text_encoders for p in module.parameters()]

    with mixed(base, together(*pair)):
        wanted = text_bits()
    with mixed(base, together(pair[0], pair[1].model_copy(update={"begin": 0.5}))) as mixture:
        mixture.before_step(0, 4)
        assert all(torch.equal(one, two) for one, two in zip(text_bits(), wanted, strict=True))


def test_a_dora_kit_brings_its_lengths(base: Base, base_folder: Path, tmp_path: Path) -> None:
    add_kit(tmp_path, base_folder, IDENTITY, revision=base.revision, token="dot_test", dora=True)
    alone = Ingredient(kit=load_kit(tmp_path, IDENTITY, base_folder=base_folder), weight=1.0)
    before = bits(base)
    with mixed(base, together(alone)):
        layers = [layer for _, module in base.modules() for _, layer in target_layers(module)]
        assert len(layers) > 10
        for layer in layers:
            columns = layer.weight.detach().float().transpose(0, 1).flatten(1).norm(dim=1)
            torch.testing.assert_close(columns, torch.full_like(columns, 2.0), rtol=1e-3, atol=1e-3)
    assert same(before, base)
    with pytest.raises(KitError, match="DoRA"):
        combine(together(alone))


@pytest.mark.parametrize("name", [ATTENTION, CONVOLUTION])
def test_dora_kits_mix_as_what_each_does_alone_to_the_base(
    base: Base, base_folder: Path, style: Kit, tmp_path: Path, name: str
) -> None:
    add_kit(tmp_path, base_folder, IDENTITY, revision=base.revision, token="dot_test", dora=True)
    one = Ingredient(kit=load_kit(tmp_path, IDENTITY, base_folder=base_folder), weight=0.7)
    two = Ingredient(kit=style, weight=-0.4)
    own, changes = weight_of(base, name), []
    for use in (one, two):
        with mixed(base, together(use)):
            changes.append(weight_of(base, name) - own)
    with mixed(base, together(one, two)):
        both = weight_of(base, name)
    with mixed(base, together(two, one)):
        assert torch.equal(weight_of(base, name), both)
    assert changes[0].abs().max() > 0.1
    torch.testing.assert_close(both, own + changes[0] + changes[1], rtol=1e-5, atol=1e-6)
    # kits that take turns are each as they are alone
    with mixed(base, together(one, two, switch=True)) as turns:
        turns.before_step(1, 4)
        torch.testing.assert_close(weight_of(base, name), own + changes[1], rtol=1e-5, atol=1e-6)
    with pytest.raises(KitError, match="no projection is exact"):
        Mixture(together(one, two, projection=0.5), base)
    # a command says so before it loads the base
    add_kit(tmp_path, base_folder, STYLE, revision=base.revision, seed=2, rank=3)
    names, about = (IDENTITY, STYLE), {"root": tmp_path, "base": str(base_folder)}
    with pytest.raises(KitError, match="no projection is exact"):
        prepare(names, **about, prompts=("a",), seeds=(1,), options={}, mixing={"projection": 0.5})
    assert "projection" not in ways(one, two)
    assert "projection" in ways(two, two)


def test_kits_that_disagree_about_a_layer_are_refused(identity: Kit, style: Kit, tmp_path: Path) -> None:
    tensors = load_file(style.weights)
    down = tensors[f"{ATTENTION}.lora_down.weight"]
    tensors[f"{ATTENTION}.lora_down.weight"] = torch.ones(down.shape[0], down.shape[1] + 1, *down.shape[2:])
    other = altered(style, tmp_path / "kit", tensors)
    with pytest.raises(KitError, match="different shapes"):
        combine(together(Ingredient(kit=identity, weight=1.0), other))


def test_a_mix_of_turns_is_no_single_file(pair: tuple[Ingredient, Ingredient]) -> None:
    assert pair[1].kit.id == STYLE
    with pytest.raises(KitError, match="step to step"):
        combine(together(*pair, switch=True))


def test_b_lora_leaves_all_but_its_own_blocks_of_an_sdxl(identity: Kit, tmp_path: Path) -> None:
    folder = make_random_base(tmp_path / "sdxl", "tiny-sdxl", seed=1)
    base, kit = load_base(str(folder)), tmp_path / "kit"
    kit.mkdir()
    digest = sha256_file(write_lora(kit / "weights.safetensors", make_tensors(folder)))
    large = identity.model_copy(update={"path": kit, "base": str(folder), "sha256": digest})
    changed: dict[str, set[str]] = {}
    for preset in ("content", "style"):
        before = {name: p.detach().clone() for name, p in base.unet.named_parameters()}
        use = Ingredient(kit=large, weight=1.0, blocks=read_blocks(preset, base=large.base))
        with mixed(base, together(use)):
            now = dict(base.unet.named_parameters())
            changed[preset] = {
                ".".join(name.split(".")[:4]) for name in before if not torch.equal(before[name], now[name])
            }
    assert changed == {
        "content": {"up_blocks.0.attentions.0"},
        "style": {"up_blocks.0.attentions.1"},
    }


def test_a_kit_that_changed_after_its_check_is_refused(identity: Kit, tmp_path: Path) -> None:
    use = altered(identity, tmp_path / "kit", load_file(identity.weights))
    forged = {name: tensor + 1 for name, tensor in load_file(identity.weights).items()}
    save_file(forged, use.kit.weights)
    with pytest.raises(KitError, match="changed after"):
        combine(together(use))
