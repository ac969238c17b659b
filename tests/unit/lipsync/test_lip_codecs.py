from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.lip_codec import LipCodecContract, pictures
from talent_factory.core.errors import BaseError, UsageError
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.ports import Codec


class TestBlocksOfEight(LipCodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return open_codec("dct8")


class TestBlocksOfFour(LipCodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return open_codec("dct4")


class TestEmbeddedAutoencoder(LipCodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return open_codec("mini")


class TestTinyAutoencoder(LipCodecContract):
    @pytest.fixture
    def codec(self, tmp_path: Path) -> Codec:
        return open_codec(_taesd(tmp_path))


class TestBigAutoencoder(LipCodecContract):
    @pytest.fixture
    def codec(self, tmp_path: Path) -> Codec:
        return open_codec(_kl(tmp_path / "vae").parent)


def _taesd(folder: Path) -> Path:
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8)
    ).save_pretrained(folder)
    return folder


def _kl(folder: Path) -> Path:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        latent_channels=4,
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("name", "factor"), [("dct4", 4), ("dct8", 8)])
def test_blocks_lose_nothing_and_have_about_unit_deviation(name: str, factor: int) -> None:
    codec = open_codec(name)
    assert (codec.id, codec.factor, codec.channels) == (name, factor, 3 * factor * factor)
    images = pictures(4, 128, 128)
    latents = codec.encode(images)
    assert torch.allclose(codec.decode(latents), images, atol=1e-5)
    assert 0.5 < float(latents.std()) < 2
    # and of a real photograph
    skimage = pytest.importorskip("skimage.data")
    photo = torch.from_numpy(np.array(skimage.astronaut()[:256, 100:356])).permute(2, 0, 1)[None].float()
    assert 0.5 < float(codec.encode(photo / 127.5 - 1).std()) < 2


def test_blocks_are_an_orthonormal_transform_apart_from_their_gains() -> None:
    codec = open_codec("dct4")
    flat = codec.encode(torch.full((1, 3, 4, 4), 0.5))[0, :, 0, 0]
    assert float(flat[0]) > 1  # lightness
    assert torch.allclose(flat[1:], torch.zeros(47), atol=1e-5)  # no waves, no colour


def test_blocks_refuse_a_size_that_does_not_divide() -> None:
    with pytest.raises(UsageError, match="100x96"):
        open_codec("dct8").encode(torch.zeros(1, 3, 96, 100))


def test_the_embedded_autoencoder_gives_smooth_pictures_back() -> None:
    codec = open_codec("mini")
    images = torch.linspace(-0.8, 0.6, 64).expand(1, 3, 64, 64)
    error = (codec.decode(codec.encode(images)).clamp(-1, 1) - images).square().mean()
    assert float(error) < 0.005
    assert codec.id.startswith("mini:")


def test_ids_tell_weights_apart(tmp_path: Path) -> None:
    one = open_codec(_taesd(tmp_path / "one"))
    assert one.id.startswith("taesd:")
    assert len(one.id) == len("taesd:") + 12
    from diffusers import AutoencoderTiny

    torch.manual_seed(1)
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8)
    ).save_pretrained(tmp_path / "two")
    assert open_codec(tmp_path / "two").id != one.id
    assert open_codec(_kl(tmp_path / "kl")).id.startswith("sd-vae:")


def test_the_big_autoencoder_gives_the_mean_scaled(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    folder = _kl(tmp_path / "kl")
    module = AutoencoderKL.from_pretrained(folder)
    images = pictures(1, 32, 32)
    with torch.no_grad():
        mean = module.encode(images).latent_dist.mean * 0.18215
    assert torch.allclose(open_codec(folder).encode(images), mean, atol=1e-6)


def test_the_tiny_autoencoder_is_not_scaled_and_takes_minus_one_to_one(tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    folder = _taesd(tmp_path)
    module = AutoencoderTiny.from_pretrained(folder)
    images = pictures(1, 32, 32)
    with torch.no_grad():
        latents = module.encoder(images)
        wanted = module.decoder(latents)
    codec = open_codec(folder)
    assert torch.allclose(codec.encode(images), latents, atol=1e-6)
    assert torch.allclose(codec.decode(latents), wanted, atol=1e-6)


def test_a_hub_name_that_is_not_in_the_cache_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaseError, match="madebyollin/taesd is not in the local cache") as caught:
        open_codec("taesd")
    assert "hf download madebyollin/taesd" in caught.value.remedy


@pytest.mark.parametrize("name", ["dct9", "./nowhere", "a/b/c"])
def test_an_unknown_codec_is_refused(name: str) -> None:
    with pytest.raises(BaseError, match="holds no autoencoder"):
        open_codec(name)


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    folder = _taesd(tmp_path / "cut")
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BaseError, match="broken"):
        open_codec(folder)
    weights.unlink()
    with pytest.raises(BaseError, match="missing"):
        open_codec(folder)
    (folder / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}), "utf-8")
    with pytest.raises(BaseError, match="UNet2DConditionModel"):
        open_codec(folder)
