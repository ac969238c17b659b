"""The local vision-language model: a tiny one with random weights, loaded and asked the real way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talent_factory.core.errors import ProviderError
from talent_factory.providers.vision import make_vision
from talent_factory.providers.vision.local_vlm import LocalAnswerer
from talent_factory.world.samples import kairo_portrait

_TEMPLATE = (
    "{% for m in messages %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA of a few thousand weights, saved as a folder that transformers can load."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("vlm")
    words = ["<pad>", "<unk>", "<s>", "</s>", "<image>", *"abcdefghijklmnopqrstuvwxyz{}"]
    raw = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        chat_template=_TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    text = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_it_loads_answers_and_its_nonsense_is_told_not_used(tiny: Path, tmp_path: Path) -> None:
    import cv2

    answerer = LocalAnswerer(str(tiny), device="cpu")
    picture = kairo_portrait(zoom=1)
    first = answerer.ask("what is it", [picture, picture], {"type": "object"})
    assert first == answerer.ask("what is it", [picture, picture], {"type": "object"})
    assert answerer.name == f"local {tiny.name}"

    path = tmp_path / "p.png"
    cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1]))
    notes: list[str] = []
    card = make_vision("local", model=str(tiny), notice=notes.append).style_card(path)
    assert card == make_vision().style_card(path)
    assert len(notes) == 1


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="no vision model"):
        LocalAnswerer(str(tmp_path)).ask("what", [kairo_portrait(zoom=1)], {})
