"""The trigger is taken out of the prompt, and four kinds of LoRA are told apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from talent_factory.training.ablation import Ablation, ablate, difference, without_trigger
from talent_factory.training.families import Base, load_base
from talent_factory.training.lora import LoraNetwork, attach

PROMPTS = ("flat portrait of dot_kairo robot, smiling, blue background", "ink portrait of a robot")


@pytest.fixture(scope="module")
def mini() -> Base:
    return load_base("mini")


@contextmanager
def hooked(base: Base, part: str, strength: float) -> Iterator[LoraNetwork]:
    """The base with random weights in the layers whose names hold `part`."""
    network = attach(base.unet, rank=4)
    generator = torch.Generator().manual_seed(1)
    for name, layer in network.named_layers():
        if part in name:
            with torch.no_grad():
                layer.up.copy_(torch.randn(layer.up.shape, generator=generator) * strength)
    try:
        yield network
    finally:
        network.detach()


def look(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pictures[:, ::16, ::16].reshape(len(pictures), -1).astype(np.float32) - 128.0


def test_a_lora_of_the_words_shows_and_the_numbers_are_repeatable(mini: Base) -> None:
    with hooked(mini, "attn2_to_k", 2.0) as network:
        found = ablate(
            mini,
            adapted=nullcontext,
            bare=network.disabled,
            token="dot_kairo",
            prompts=PROMPTS,
            seed=0,
            steps=3,
            embed=look,
        )
        again = ablate(
            mini,
            adapted=nullcontext,
            bare=network.disabled,
            token="dot_kairo",
            prompts=PROMPTS,
            seed=0,
            steps=3,
            embed=look,
        )
    assert found == again
    assert found.pictures == 1, "the other prompt does not hold the word"
    assert found.works
    assert found.called > 0.01
    assert found.trigger_seen is not None
    assert found.trigger_seen > 0.0


def test_an_idle_lora_is_told(mini: Base) -> None:
    with hooked(mini, "nowhere", 1.0) as network:
        found = ablate(
            mini,
            adapted=nullcontext,
            bare=network.disabled,
            token="dot_kairo",
            prompts=PROMPTS,
            seed=0,
            steps=2,
        )
    assert (found.called, found.leak, found.works) == (0.0, 0.0, False)
    assert found.trigger == found.word
    assert found.trigger_seen is None
    assert "changes nothing" in found.remark


def test_a_word_that_is_not_read_is_told(mini: Base) -> None:
    long = "ink portrait of a robot " * 40 + "dot_kairo"
    with hooked(mini, "proj_out", 0.3) as network:
        found = ablate(
            mini,
            adapted=nullcontext,
            bare=network.disabled,
            token="dot_kairo",
            prompts=[long],
            seed=0,
            steps=2,
        )
    assert (found.trigger, found.works) == (0.0, False)
    assert "stays the same without dot_kairo" in found.remark


def test_a_lora_that_shows_without_its_word_is_told() -> None:
    values = {"token": "x", "pictures": 2, "called": 0.1, "trigger": 0.05, "word": 0.05}
    loose = Ablation(**values, leak=0.095)
    assert loose.works
    assert "prior_weight" in loose.remark
    assert Ablation(**values, leak=0.05).remark == ""


def test_the_word_is_taken_out_as_a_word() -> None:
    assert without_trigger("dot, ink portrait of dot man,  smiling", "dot") == "ink portrait of man, smiling"
    assert without_trigger("a dotted line", "dot") == "a dotted line"
    white, black = np.full((1, 2, 2, 3), 255, np.uint8), np.zeros((1, 2, 2, 3), np.uint8)
    assert difference(white, black) == difference(black, white) == 1.0


def test_prompts_without_the_word_are_no_test(mini: Base) -> None:
    with pytest.raises(ValueError, match="no prompt holds"):
        ablate(mini, adapted=nullcontext, bare=nullcontext, token="dot_kairo", prompts=["a robot"], seed=0)
