"""diffusers really loads our files, full-size names included, and computes what we compute."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from lora_files import Arrays, is_transformer, kohya_arrays, words_for, write_arrays
from talent_factory.core.unet_names import stability_names
from talent_factory.foundry.conform import TOLERANCE, conform, family_of, hollow_parts, load_in_diffusers
from talent_factory.kits.conform import TOOLS, open_lora
from talent_factory.kits.conform.family import FamilyName
from talent_factory.kits.keys import expected_modules, unet_config, unet_paths
from talent_factory.kits.peft_form import write_peft_folder
from talent_factory.training.families import Base, load_base
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.lora import attach


@pytest.fixture(scope="module")
def mini() -> Base:
    return load_base("mini")


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
@pytest.mark.parametrize("conv", [False, True], ids=["transformer", "with conv"])
def test_every_module_of_a_full_size_file_is_loaded_with_its_factors(
    tmp_path: Path, base: FamilyName, conv: bool
) -> None:
    arrays = kohya_arrays(base, rank=1, keep=(lambda name: True) if conv else is_transformer)
    file = open_lora(write_arrays(tmp_path / "kit.safetensors", arrays, words_for(base)))
    report = conform(file, family=base, base=None, tools=TOOLS)
    assert report.good
    assert report.modules == len(arrays) // 3
    own = report.tools[0]
    assert (own.tool, own.matched, own.unmatched, own.difference) == ("diffusers", report.modules, 0, 0.0)
    assert own.method.startswith("loaded by diffusers 0.")


def test_the_scale_is_compared_too(tmp_path: Path) -> None:
    """A file without alpha means alpha = rank to diffusers, and to us."""
    arrays = {n: a for n, a in kohya_arrays("sd15", rank=4).items() if not n.endswith(".alpha")}
    file = open_lora(write_arrays(tmp_path / "kit.safetensors", arrays))
    own = load_in_diffusers(file, hollow_parts("sd15"))
    assert (own.verdict, own.difference) == ("full", 0.0)


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_the_peft_folder_is_loaded_fully(tmp_path: Path, base: FamilyName) -> None:
    path = write_peft_folder(tmp_path, kohya_arrays(base, rank=2, alpha=1.0), base=base)
    own = load_in_diffusers(open_lora(path), hollow_parts(base))
    assert (own.verdict, own.unmatched, own.difference) == ("full", 0, 0.0)
    assert own.matched == len(kohya_arrays(base, rank=1)) // 3


def test_outputs_are_ours_and_the_base_comes_back_as_it_was(tmp_path: Path, mini: Base) -> None:
    before = {name: tensor.clone() for name, tensor in mini.unet.state_dict().items()}
    arrays = kohya_arrays("mini", rank=4, alpha=3.0, keep=lambda name: True)
    file = open_lora(write_arrays(tmp_path / "kit.safetensors", arrays, words_for("mini")))
    assert family_of(mini) is None
    report = conform(file, family=None, base=mini, tools=TOOLS)
    own = report.tools[0]
    assert own.verdict == "full"
    assert own.forward_difference is not None
    assert own.forward_difference < TOLERANCE
    assert {tool.verdict for tool in report.tools[1:]} == {"foreign"}
    after = mini.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(parameter.requires_grad for parameter in mini.unet.parameters())


@pytest.mark.parametrize("kind", ["tiny", "tiny-sdxl"])
def test_outputs_of_both_families_are_ours_text_encoders_included(
    tmp_path: Path, kind: Literal["tiny", "tiny-sdxl"]
) -> None:
    base = load_base(make_random_base(tmp_path / "base", kind=kind))
    arrays: Arrays = {}
    for number, (prefix, module) in enumerate(base.modules()):
        network = attach(
            module, prefix=prefix, rank=2, alpha=3.0, targets="transformer+conv", name=base.lora_name
        )
        network.detach()
        rng = np.random.default_rng(number)
        for name, tensor in network.state().items():
            small = rng.normal(0, 0.05, tuple(tensor.shape)).astype(np.float32)
            arrays[name] = tensor.numpy() if name.endswith(".alpha") else small
    prefixes = {name.partition("_text_model")[0] for name in arrays if "text_model" in name}
    assert prefixes == ({"lora_te"} if kind == "tiny" else {"lora_te1", "lora_te2"})
    file = open_lora(write_arrays(tmp_path / "kit.safetensors", arrays))
    own = conform(file, family=family_of(base), base=base, tools=["diffusers"]).tools[0]
    assert (own.verdict, own.matched, own.unmatched) == ("full", len(arrays) // 3, 0)
    assert own.forward_difference is not None
    assert own.forward_difference < TOLERANCE


def test_a_wrong_scale_is_seen_in_the_outputs(
    tmp_path: Path, mini: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is no formality: with our own merge at half strength it fails."""
    from talent_factory.foundry import conform as module

    real = module.merge_into
    monkeypatch.setattr(module, "merge_into", lambda *args, **rest: real(*args, weight=0.5, **rest))
    arrays = kohya_arrays("mini", rank=4)
    file = open_lora(write_arrays(tmp_path / "kit.safetensors", arrays))
    own = conform(file, family=None, base=mini, tools=["diffusers"]).tools[0]
    assert own.verdict == "wrong"
    assert own.forward_difference is not None
    assert own.forward_difference > 0.1


def test_names_that_diffusers_does_not_know(tmp_path: Path) -> None:
    arrays = kohya_arrays("sd15", rank=1)
    stranger = {"bundle_emb.x.string_to_param": np.ones((1, 4), np.float32)}
    file = open_lora(write_arrays(tmp_path / "a.safetensors", {**arrays, **stranger}))
    own = load_in_diffusers(file, hollow_parts("sd15"))
    assert own.verdict == "refused"
    assert "lora" in own.remarks[0]
    silent = {f"lora_unet_nowhere.{part}": array for part, array in _pair().items()}
    file = open_lora(write_arrays(tmp_path / "b.safetensors", {**arrays, **silent}))
    own = load_in_diffusers(file, hollow_parts("sd15"))
    assert (own.verdict, own.matched, own.unmatched) == ("partial", len(arrays) // 3, 3)


def _pair() -> Arrays:
    return {
        "lora_down.weight": np.ones((1, 8), np.float32),
        "lora_up.weight": np.ones((8, 1), np.float32),
        "alpha": np.array(1.0, np.float32),
    }


def test_lengths_of_columns_are_not_for_diffusers(tmp_path: Path) -> None:
    """It takes them without a word and divides rows by them."""
    arrays = kohya_arrays("sd15", rank=1)
    for name, shape in expected_modules("sd15").items():
        if is_transformer(name):
            tail = (1, 1) if shape.kernel else ()
            arrays[f"{name}.dora_scale"] = np.ones((1, shape.in_features, *tail), np.float32)
    file = open_lora(write_arrays(tmp_path / "kit.safetensors", arrays))
    assert load_in_diffusers(file, hollow_parts("sd15")).verdict == "wrong"


def test_hollow_models_have_every_module_and_next_to_no_memory() -> None:
    parts = hollow_parts("sdxl")
    stored = sum(parameter.untyped_storage().nbytes() for parameter in parts.unet.parameters())
    assert stored < 1 << 20
    named = {path for path, _ in parts.unet.named_modules()}
    assert {path for path, _ in unet_paths(unet_config("sdxl"))} <= named
    rename = stability_names(unet_config("sdxl"))
    path = "down_blocks.1.attentions.0.proj_in"
    assert parts.name(path, "lora_unet") == "lora_unet_" + rename(path).replace(".", "_")
