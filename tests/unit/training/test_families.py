"""Bases: loaded frozen, named by content, and refused with a remedy when they are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from talent_factory.core.errors import BaseError
from talent_factory.core.files import read_json, write_json
from talent_factory.training.bank import TextTable
from talent_factory.training.families import Base, load_base
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.revision import base_revision, part_revision


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path) -> Path:
    """A copy of the random base that a test may break."""
    return Path(shutil.copytree(base_folder, tmp_path / "copy"))


def test_shapes_and_units(base: Base) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = base.encode_images(images)
    assert mean.shape == std.shape == (2, 4, 4, 4)
    assert (std > 0).all()
    decoded = base.decode(mean)
    assert decoded.shape == images.shape
    assert decoded.abs().max() <= 1
    assert base.encode_prompts(["a", "b"]).context_BTC.shape == (2, 16, 32)
    assert base.resolution == 32
    assert base.latent_side(32) == 4


def test_all_of_it_is_frozen(base: Base) -> None:
    for module in (base.unet, base.vae, base.text_encoders[0][1]):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_bf16_is_the_unet_only(base_folder: Path, base: Base) -> None:
    half = load_base(base_folder, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    assert next(half.vae.parameters()).dtype == torch.float32
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    context, time = base.encode_prompts(["a"]), torch.tensor([100])
    with torch.no_grad():
        found, exact = (each.predict(latents, time, context) for each in (half, base))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.1, atol=0.05)


def test_the_same_seed_is_the_same_base(base_folder: Path, tmp_path: Path) -> None:
    assert base_revision(make_random_base(tmp_path / "again", seed=1)) == base_revision(base_folder)
    assert base_revision(make_random_base(tmp_path / "other", seed=2)) != base_revision(base_folder)


def test_a_revision_is_of_contents(base_folder: Path, copy: Path) -> None:
    (copy / "README.md").write_text("a card")
    assert base_revision(copy) == base_revision(base_folder)
    config = read_json(copy / "vae" / "config.json")
    write_json(copy / "vae" / "config.json", {**config, "scaling_factor": 0.5})
    assert base_revision(copy) != base_revision(base_folder)
    assert part_revision(copy, "unet") == part_revision(base_folder, "unet")


@pytest.mark.parametrize("name", ["nowhere", ""])
def test_no_base_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseError, match="no base model") as caught:
        load_base(name)
    assert "mini" in caught.value.remedy


def test_a_base_of_the_hub_that_is_not_here_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(BaseError, match="is not on this machine") as caught:
        load_base("runwayml/stable-diffusion-v1-5")
    # the old name is gone from the hub: whoever wrote it learns the new one
    assert "stable-diffusion-v1-5/stable-diffusion-v1-5" in caught.value.message
    assert "talent base fetch" in caught.value.remedy


@pytest.mark.parametrize("part", ["vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    with pytest.raises(BaseError, match=part):
        load_base(copy)


@pytest.mark.parametrize("damage", ["empty header", "truncated", "text"])
def test_broken_weights_are_said(copy: Path, damage: str) -> None:
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    empty = b"\x08" + bytes(7) + b"{}      "
    path.write_bytes({"empty header": empty, "truncated": whole[:-9], "text": b"not a tensor"}[damage])
    with pytest.raises(BaseError, match="cannot be loaded"):
        load_base(copy)


@pytest.mark.parametrize(
    ("part", "file"),
    [("vae", "diffusion_pytorch_model.safetensors"), ("text_encoder", "model.safetensors")],
)
def test_a_missing_weight_is_never_made_up(copy: Path, part: str, file: str) -> None:
    path = copy / part / file
    tensors = load_file(path)
    name = sorted(tensors)[0]
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(BaseError, match="lacks the weights"):
        load_base(copy)


def test_a_folder_says_what_it_predicts(copy: Path) -> None:
    path = copy / "scheduler" / "scheduler_config.json"
    plain = read_json(path)
    write_json(path, {**plain, "prediction_type": "v_prediction"})
    assert load_base(copy).prediction == "v_prediction"
    write_json(path, {**plain, "prediction_type": "sample"})
    with pytest.raises(BaseError, match="sample prediction"):
        load_base(copy)


def test_a_table_of_prompts_is_the_encoder(base: Base) -> None:
    table = TextTable([*(f"portrait {index}" for index in range(40)), "", "portrait 3"])
    assert len(table.texts) == 41
    rows = torch.tensor([table.row(text) for text in ("portrait 3", "", "portrait 39")])
    with torch.no_grad():
        direct = base.encode_prompts(["portrait 3", "", "portrait 39"])
        live = table.live(base)(rows)
    for found in (table.encoded(base)(rows), live):
        torch.testing.assert_close(found.context_BTC, direct.context_BTC, rtol=1e-5, atol=1e-6)
    with pytest.raises(KeyError):
        table.row("never seen")
