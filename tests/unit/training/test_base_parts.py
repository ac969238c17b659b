"""Folders as they are found in the wild: shards, half precision, old names, pickles, wrong shapes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from talent_factory.core.errors import BaseError
from talent_factory.core.files import read_json, write_json
from talent_factory.training.families import Base, load_base
from talent_factory.training.families.random_base import make_random_base

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path) -> Path:
    """A copy of the random base that a test may change."""
    return Path(shutil.copytree(base_folder, tmp_path / "copy"))


def _rewrite(path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    tensors = change(load_file(path))
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"}
    )


def _same(one: nn.Module, other: nn.Module) -> bool:
    found, wanted = one.state_dict(), other.state_dict()
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_shards_are_put_together(copy: Path, base: Base) -> None:
    tensors = load_file(copy / UNET)
    names = sorted(tensors)
    files = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, copy / "unet" / file, metadata={"format": "pt"})
        files.update(dict.fromkeys(part, file))
    (copy / UNET).unlink()
    write_json(copy / f"{UNET}.index.json", {"metadata": {}, "weight_map": files})
    assert _same(load_base(copy).unet, base.unet)


def test_half_precision_is_read_where_it_is_all_there_is(copy: Path, base: Base) -> None:
    half = {name: tensor.half() for name, tensor in load_file(copy / UNET).items()}
    save_file(half, copy / "unet" / "diffusion_pytorch_model.fp16.safetensors", metadata={"format": "pt"})
    assert _same(load_base(copy).unet, base.unet)
    (copy / UNET).unlink()
    found = load_base(copy).unet
    assert next(found.parameters()).dtype == torch.float32
    assert torch.equal(found.state_dict()["conv_in.weight"], half["conv_in.weight"].float())


def test_autoencoders_of_before_2023_have_other_names(tmp_path: Path) -> None:
    folder = make_random_base(tmp_path / "base", "tiny-sdxl")
    wanted = load_base(folder).vae
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        renamed = {}
        for name, tensor in tensors.items():
            for new, before in old.items():
                name = name.replace(f"attentions.0.{new}.", f"attentions.0.{before}.")
            renamed[name] = tensor
        return renamed

    _rewrite(folder / VAE, rename)
    assert any("query" in name for name in load_file(folder / VAE))
    assert _same(load_base(folder).vae, wanted)


@pytest.mark.parametrize("level", [True, False])
def test_text_encoders_are_read_with_and_without_their_outer_level(
    copy: Path, base: Base, level: bool
) -> None:
    def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        plain = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
        plain["embeddings.position_ids"] = torch.arange(16)[None]
        return {f"text_model.{name}" if level else name: tensor for name, tensor in plain.items()}

    _rewrite(copy / TEXT, rename)
    found = load_base(copy)
    assert torch.equal(
        found.encode_prompts(["a robot"]).context_BTC, base.encode_prompts(["a robot"]).context_BTC
    )


def test_a_folder_of_pickles_is_refused(copy: Path) -> None:
    (copy / UNET).rename((copy / UNET).with_suffix(".bin"))
    with pytest.raises(BaseError, match="pickle") as caught:
        load_base(copy)
    assert "convert" in caught.value.remedy


def test_a_weight_of_another_shape_is_named(copy: Path) -> None:
    def cut(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**tensors, "conv_in.bias": tensors["conv_in.bias"][:-1]}

    _rewrite(copy / UNET, cut)
    with pytest.raises(BaseError, match=r"conv_in\.bias the shape \(31,\) and not \(32,\)"):
        load_base(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"down_block_types": ["NoSuchBlock"]},
        {"block_out_channels": "many"},
        {"norm_num_groups": 7},
        {"layers_per_block": 10**9},
        {"transformer_layers_per_block": [1, "two"]},
    ],
)
def test_a_configuration_that_describes_nothing_is_said(copy: Path, change: dict[str, object]) -> None:
    path = copy / "unet" / "config.json"
    write_json(path, {**read_json(path), **change})
    with pytest.raises(BaseError, match=r"not usable|does not state"):
        load_base(copy)


def test_parked_parts_answer_and_go_back(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    text = base.encode_prompts(["a"]).context_BTC
    image = torch.zeros(2, 3, 32, 32)
    mean, _ = base.encode_images(image)
    drawn = base.decode(mean)
    moves: list[str] = []

    def move(device: torch.device | str) -> None:
        moves.append(str(device))

    for module in (base.vae, base.text_encoders[0][1]):
        monkeypatch.setattr(module, "to", move)
    base.park()
    assert moves == ["cpu", "cpu"]
    there_and_back = [str(base.device), "cpu"]
    moves.clear()
    assert torch.equal(base.encode_prompts(["a"]).context_BTC, text)
    assert moves == there_and_back
    assert torch.equal(base.encode_images(image)[0], mean)
    assert torch.equal(base.decode(mean), drawn)
    assert moves == there_and_back * 3


@torch.no_grad()
def test_large_images_are_decoded_one_by_one(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    decode: Any = base.vae.decode

    def counted(piece: Tensor) -> Any:
        sizes.append(len(piece))
        return decode(piece)

    monkeypatch.setattr(base.vae, "decode", counted)
    latents = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    assert base.decode(latents).shape == (2, 3, 512, 512)
    base.decode(latents[..., :8, :8])
    assert sizes == [1, 1, 2]


@pytest.mark.gpu
@torch.no_grad()
def test_a_gpu_computes_the_same(tmp_path: Path) -> None:
    file = make_random_base(tmp_path / "base.safetensors", "tiny-sdxl", form="checkpoint")
    here, there = load_base(file), load_base(file, device="cuda")
    there.park()
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([10, 900])
    text = there.encode_prompts(["a", "b"])
    assert text.context_BTC.is_cuda
    assert not next(there.vae.parameters()).is_cuda
    found = there.predict(latents.cuda(), times.cuda(), text).cpu()
    exact = here.predict(latents, times, here.encode_prompts(["a", "b"]))
    torch.testing.assert_close(found, exact, rtol=1e-2, atol=1e-3)
    small = load_base(file, device="cuda", dtype="fp8")
    assert (small.predict(latents.cuda(), times.cuda(), text).cpu() - exact).norm() < 0.1 * exact.norm()
