"""The shipped vocabulary of CLIP cuts words as everyone's does."""

from __future__ import annotations

import hashlib

from talent_factory.training.families.vocabulary import SIZE, VOCABULARY, clip_tokenizer


def test_the_file_is_the_published_one() -> None:
    digest = hashlib.sha256(VOCABULARY.read_bytes()).hexdigest()
    assert digest == "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
    assert (VOCABULARY.parent / "LICENSE").read_text("utf-8").startswith("MIT License")


def test_words_have_their_known_numbers() -> None:
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == SIZE
    # numbers that openai/CLIP gives
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("über straße").input_ids[1:-1][0] == 6522
    padded = tokenizer("a", padding="max_length", max_length=77).input_ids
    assert padded == [49406, 320] + [49407] * 75


def test_the_second_tokenizer_pads_with_zero() -> None:
    assert clip_tokenizer(pad_token="!").pad_token_id == 0
