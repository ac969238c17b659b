"""Each encoder of texts and pictures keeps the contract and equals the library's own arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, SiglipConfig, SiglipModel

from contract.identity_encoder import drawing
from contract.text_image_encoder import TextImageEncoderContract
from talent_factory.core.errors import ConfigError
from talent_factory.foundry.text_image import SiglipEncoder, open_text_image_encoder
from talent_factory.kits.catalog.encoder import ColourEncoder, TextImageEncoder
from talent_factory.training.families.random_base import make_random_base

TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TEXT, "image_size": 32, "patch_size": 8}


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights and the little tokenizer of the random base."""
    folder = tmp_path_factory.mktemp("clip")
    base = make_random_base(tmp_path_factory.mktemp("words_of_clip"), seed=2)
    for part in (base / "tokenizer").iterdir():
        (folder / part.name).write_bytes(part.read_bytes())
    # a text's vector is read where it ends, so the model has to know which number that is
    end = CLIPTokenizer.from_pretrained(folder).eos_token_id
    text = {
        **TEXT,
        "max_position_embeddings": 16,
        "vocab_size": 49408,
        "projection_dim": 24,
        "eos_token_id": end,
    }
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config={**VISION, "projection_dim": 24}, projection_dim=24)
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP with random weights and a tokenizer of a few words."""
    folder = tmp_path_factory.mktemp("siglip")
    names = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "robot", "forest", "ink", "very", "garden"]
    words = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(names)}, unk_token="<unk>")
    )
    words.normalizer = normalizers.NFKC()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    words.save(str(folder / "tokenizer.json"))
    text = {**TEXT, "max_position_embeddings": 12, "vocab_size": len(names), "pad_token_id": 0}
    torch.manual_seed(0)
    config = SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=VISION)
    SiglipModel(config).save_pretrained(folder)
    return folder


class TestColours(TextImageEncoderContract):
    @pytest.fixture
    def encoder(self) -> TextImageEncoder:
        return ColourEncoder()

    def test_a_picture_is_nearest_to_the_colour_it_shows(self) -> None:
        encoder = ColourEncoder()
        red, sea = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30, 3), np.uint8)
        red[:], sea[:] = (190, 20, 40), (30, 70, 190)
        cosines = encoder.embed([red, sea]) @ encoder.texts(["Crimson!", "a navy-blue sea", "a robot"]).T
        assert cosines.round(3).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


class TestClip(TextImageEncoderContract):
    @pytest.fixture
    def encoder(self, clip_folder: Path) -> TextImageEncoder:
        return open_text_image_encoder(f"clip:{clip_folder}")


class TestSiglip(TextImageEncoderContract):
    @pytest.fixture
    def encoder(self, siglip_folder: Path) -> TextImageEncoder:
        return open_text_image_encoder(f"siglip:{siglip_folder}")

    def test_vectors_are_those_of_the_library(self, siglip_folder: Path) -> None:
        encoder = SiglipEncoder(siglip_folder)
        model = SiglipModel.from_pretrained(siglip_folder).eval()
        # "A Red robot": in small letters, the end, and padding up to the length it was trained with
        ids = torch.tensor([[3, 4, 6, 1] + [0] * 8])
        picture = drawing(5, size=32)
        pixels = (torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5
        with torch.no_grad():
            said = model(input_ids=ids, pixel_values=pixels)
        text, image = encoder.texts(["A Red robot"])[0], encoder.embed([picture])[0]
        assert text == pytest.approx(said.text_embeds[0].numpy(), abs=1e-5)
        assert image == pytest.approx(said.image_embeds[0].numpy(), abs=1e-5)

    def test_a_folder_without_words_is_an_error_of_one_line(
        self, siglip_folder: Path, tmp_path: Path
    ) -> None:
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((siglip_folder / name).read_bytes())
        with pytest.raises(ConfigError, match=r"tokenizer\.json"):
            SiglipEncoder(tmp_path)
        (tmp_path / "tokenizer.json").write_text("{")
        with pytest.raises(ConfigError, match="cannot be read"):
            SiglipEncoder(tmp_path)


@pytest.mark.parametrize("text", ["", "clip", "clip:", "siglip2:/x", "clip:nowhere", "siglip:nowhere"])
def test_what_names_no_encoder_is_an_error(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        open_text_image_encoder(text)
