"""Single-file checkpoints: the numbers of their folder, the names that diffusers reads, honest refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from talent_factory.core.errors import BaseError
from talent_factory.core.unet_names import diffusers_names, stability_names
from talent_factory.training.checkpoint_header import UNET, VAE, checkpoint_family, read_header
from talent_factory.training.families import load_base
from talent_factory.training.families.checkpoint_names import (
    text_from_open_clip,
    text_to_open_clip,
    vae_to_checkpoint,
    vae_to_diffusers,
)
from talent_factory.training.families.parts import empty_model
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.families.shapes import PARTS, TINY_SDXL, Family


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random SDXL in one file; read only."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    return make_random_base(path, "tiny-sdxl", seed=3, form="checkpoint")


def test_a_file_is_its_folder(file: Path, tmp_path: Path) -> None:
    folder = make_random_base(tmp_path / "folder", "tiny-sdxl", seed=3)
    one, other = load_base(file), load_base(folder)
    assert one.resolution == other.resolution == 64
    for mine, theirs in zip(
        (one.unet, one.vae, *(m for _, m in one.text_encoders)),
        (other.unet, other.vae, *(m for _, m in other.text_encoders)),
        strict=True,
    ):
        found, wanted = mine.state_dict(), theirs.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert torch.equal(one.token_ids(["a robot, 1girl"]), other.token_ids(["a robot, 1girl"]))


def _meta(part: str, family: Family) -> dict[str, Tensor]:
    with torch.device("meta"):
        return empty_model(part, PARTS[family][part]).state_dict()


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_the_unet_is_named_as_diffusers_names_it(family: Family) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    config = PARTS[family]["unet"]
    wanted = _meta("unet", family)
    there, back = stability_names(config), diffusers_names(config)
    stored = {there(name): tensor for name, tensor in wanted.items()}
    assert len(stored) == len(wanted)
    assert {back(name) for name in stored} == set(wanted)
    theirs = convert_ldm_unet_checkpoint(
        {UNET + name: tensor for name, tensor in stored.items()}, config=_diffusers_config(family)
    )
    assert {name: tensor.shape for name, tensor in theirs.items()} == {
        back(name): tensor.shape for name, tensor in stored.items()
    }
    # the same tensor under the same name, not only the same set of names
    assert all(theirs[back(name)] is tensor for name, tensor in stored.items())


def _diffusers_config(family: Family) -> dict[str, object]:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return dict(UNet2DConditionModel.from_config(dict(PARTS[family]["unet"])).config)


def test_the_vae_is_named_as_diffusers_names_it() -> None:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    config = PARTS["sd15"]["vae"]
    wanted = {
        name: torch.full(tensor.shape, float(number))
        for number, (name, tensor) in enumerate(_small_vae().items())
    }
    stored = {vae_to_checkpoint(name, 4): tensor for name, tensor in wanted.items()}
    assert len(stored) == len(wanted)
    assert {vae_to_diffusers(name, 4) for name in stored} == set(wanted)
    with torch.device("meta"):
        full = dict(AutoencoderKL.from_config(dict(config)).config)
    wide = {
        name: tensor[:, :, None, None] if ".attn_1." in name and tensor.dim() == 2 else tensor
        for name, tensor in stored.items()
    }
    theirs = convert_ldm_vae_checkpoint({VAE + name: tensor for name, tensor in wide.items()}, config=full)
    assert theirs.keys() == wanted.keys()
    assert all(torch.equal(theirs[name].flatten(), wanted[name].flatten()) for name in wanted)


def _small_vae() -> dict[str, Tensor]:
    """The layers of the real autoencoder with a few channels in each."""
    config = {**PARTS["sd15"]["vae"], "block_out_channels": [4, 8, 16, 16], "norm_num_groups": 4}
    return empty_model("vae", config).state_dict()


def test_the_second_text_encoder_survives_the_way_there_and_back() -> None:
    config = {**TINY_SDXL["text_encoder_2"], "projection_dim": 20}
    wanted = empty_model("text_encoder_2", config).state_dict()
    stored = text_to_open_clip(wanted)
    assert "transformer.resblocks.2.attn.in_proj_weight" in stored
    assert stored["text_projection"].shape == (48, 20)
    found = text_from_open_clip(stored)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_the_second_text_encoder_is_named_as_diffusers_names_it() -> None:
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    model = empty_model("text_encoder_2", TINY_SDXL["text_encoder_2"])
    wanted, prefix = model.state_dict(), "conditioner.embedders.1.model."
    stored = {prefix + name: tensor for name, tensor in text_to_open_clip(wanted).items()}
    theirs = convert_open_clip_checkpoint(model, stored, prefix=prefix)
    plain = {name.removeprefix("text_model."): tensor for name, tensor in theirs.items()}
    for name, tensor in wanted.items():
        assert torch.equal(plain[name.removeprefix("text_model.")], tensor), name


def test_diffusers_loads_the_same_numbers_from_the_file(file: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    folder = make_random_base(tmp_path / "folder", "tiny-sdxl", seed=4)
    base = load_base(file)
    for kind, part, mine in (
        (UNet2DConditionModel, "unet", base.unet),
        (AutoencoderKL, "vae", base.vae),
    ):
        theirs = kind.from_single_file(str(file), config=str(folder), subfolder=part, local_files_only=True)
        found, wanted = mine.state_dict(), theirs.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def _rewrite(source: Path, target: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> Path:
    tensors = load_file(source)
    with safe_open(source, framework="pt") as stored:
        words = dict(stored.metadata())
    change(tensors, words)
    save_file(tensors, target, metadata=words)
    return target


def test_a_checkpoint_says_that_it_predicts_the_velocity(file: Path, tmp_path: Path) -> None:
    def by_mark(tensors: dict[str, Tensor], words: dict[str, str]) -> None:
        tensors["v_pred"] = torch.zeros(0)

    def by_word(tensors: dict[str, Tensor], words: dict[str, str]) -> None:
        words["modelspec.prediction_type"] = "v"

    def ends_in_noise(tensors: dict[str, Tensor], words: dict[str, str]) -> None:
        tensors["v_pred"] = tensors["ztsnr"] = torch.zeros(0)

    assert load_base(file).prediction == "epsilon"
    for number, change in enumerate((by_mark, by_word)):
        path = _rewrite(file, tmp_path / f"{number}.safetensors", change)
        base = load_base(path)
        assert base.prediction == "v_prediction"
        assert base.alphas_cumprod[-1] > 0
    base = load_base(_rewrite(file, tmp_path / "ztsnr.safetensors", ends_in_noise))
    assert base.alphas_cumprod[-1] == 0


def test_a_cut_file_says_how_much_is_missing(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    for length in (len(whole) - 1, 1000, 4):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(whole[:length])
        with pytest.raises(BaseError, match=r"cut short|no safetensors") as caught:
            load_base(path)
        if length > 8:
            assert f"{length} of {len(whole)} bytes" in str(caught.value) or length == 1000


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin", "model.safetensors"])
def test_a_pickle_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(BaseError, match="pickle") as caught:
        load_base(path)
    assert "convert" in caught.value.remedy


def test_a_missing_weight_is_named(file: Path, tmp_path: Path) -> None:
    gone = UNET + "middle_block.1.proj_in.weight"

    def drop(tensors: dict[str, Tensor], words: dict[str, str]) -> None:
        del tensors[gone]

    path = _rewrite(file, tmp_path / "holey.safetensors", drop)
    with pytest.raises(BaseError, match=r"unet lacks the weights of mid_block\.attentions\.0\.proj_in"):
        load_base(path)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["lora_unet_mid_block.lora_up.weight"], "a LoRA"),
        (["something"], "no checkpoint"),
        ([UNET + "out.0.weight"], "without its text encoder"),
        ([UNET + "out.0.weight", "cond_stage_model.model.ln_final.weight"], "SD 2"),
        ([UNET + "out.0.weight", "conditioner.embedders.0.model.ln_final.weight"], "refiner"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path: Path, names: list[str], what: str) -> None:
    path = tmp_path / "other.safetensors"
    save_file({name: torch.zeros(2) for name in names}, path)
    with pytest.raises(BaseError, match=what):
        checkpoint_family(read_header(path))


def test_a_model_for_inpainting_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "inpaint.safetensors"
    save_file({UNET + "input_blocks.0.0.weight": torch.zeros(320, 9, 3, 3)}, path)
    with pytest.raises(BaseError, match="9 input channels"):
        load_base(path)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"a": 1}', b'{"a": {"shape": [1]}}', b"{" * 5000])
def test_strange_headers_are_errors_of_ours(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "strange.safetensors"
    path.write_bytes(len(body).to_bytes(8, "little") + body)
    with pytest.raises(BaseError):
        load_base(path)


@pytest.mark.parametrize("claim", [{"block_out_channels": "many"}, {"layers_per_block": 10**9}])
def test_a_lying_header_cannot_ask_for_the_moon(file: Path, tmp_path: Path, claim: dict[str, object]) -> None:
    def lie(tensors: dict[str, Tensor], words: dict[str, str]) -> None:
        words["talent_factory.shapes"] = json.dumps(
            {**json.loads(words["talent_factory.shapes"]), "unet": claim}
        )

    path = _rewrite(file, tmp_path / "lie.safetensors", lie)
    with pytest.raises(BaseError, match=r"not usable|cannot be read"):
        assert load_base(path).unet
