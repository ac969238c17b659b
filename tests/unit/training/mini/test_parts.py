"""The parts of the embedded base's build: words, corpora, rates, labels, and a resume that changes no bit."""

from __future__ import annotations

import os
import signal
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from talent_factory.core.errors import TrainingDiverged
from talent_factory.core.events import SilentReporter
from talent_factory.training.mini.autoencoder import finish_decoder, make_autoencoder
from talent_factory.training.mini.corpus import characters, drawings
from talent_factory.training.mini.optimise import Course, optimise, rate_at
from talent_factory.training.mini.recipe import AutoencoderRecipe
from talent_factory.training.mini.vocabulary import byte_letters, learn_merges, make_tokenizer, words
from talent_factory.training.probe import ANSWERS, UNSEEN, Probe, labels, read, truth
from talent_factory.world import Character, sample_character

COURSE = Course(name="line", steps=30, learning_rate=0.05, warmup=5, average=0.9, save_every=7)


def test_every_word_of_the_world_is_one_token() -> None:
    tokenizer = make_tokenizer(length=48)
    for word in words():
        assert len(tokenizer(word).input_ids) == 3, word


SHORT = cache(make_tokenizer)


@given(st.text(max_size=80))
def test_any_text_is_tokenised_and_cut(text: str) -> None:
    ids = SHORT(length=16)(text, padding="max_length", truncation=True).input_ids
    assert len(ids) == 16


def test_merges_depend_on_the_words_alone() -> None:
    assert learn_merges(["abc", "abd"]) == [("a", "b"), ("ab", "c</w>"), ("ab", "d</w>")]
    assert len(set(byte_letters())) == 256


def test_a_corpus_is_drawn_once_and_is_the_same_in_any_folder(tmp_path: Path) -> None:
    one = drawings(tmp_path / "a", seed=3, name="x", count=4, size=64)
    two = drawings(tmp_path / "b", seed=3, name="x", count=4, size=64)
    assert np.array_equal(one, two)
    other = drawings(tmp_path / "a", seed=3, name="y", count=4, size=64)
    assert not np.array_equal(one, other)


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(step, COURSE) for step in range(COURSE.steps)]
    assert rates[0] < rates[4] == pytest.approx(COURSE.learning_rate)
    assert rates[-1] < 0.1 * COURSE.learning_rate


def _line() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 4)


def _loss_of(model: nn.Module, *, poison: int = -1, die_at: int = -1) -> object:
    def loss_at(step: int) -> dict[str, Tensor]:
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        generator = torch.Generator().manual_seed(step)
        data = torch.randn(8, 4, generator=generator)
        error = (model(data) - data.flip(1)).square().mean()
        return {"error": error * (float("nan") if step == poison else 1.0)}

    return loss_at


def _trained(root: Path, **faults: int) -> nn.Module:
    model = _line()
    optimise(model, COURSE, loss_at=_loss_of(model, **faults), root=root, reporter=SilentReporter())  # type: ignore[arg-type]
    return model


def test_a_killed_optimisation_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole = _trained(tmp_path / "whole")
    child = os.fork()
    if child == 0:
        _trained(tmp_path / "cut", die_at=17)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    resumed = _trained(tmp_path / "cut")
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="step 16"):
        _trained(tmp_path, poison=16)
    assert [path.name for path in sorted(tmp_path.iterdir()) if path.is_dir()][-1] == "step_00000014"


def test_the_decoder_goes_on_while_the_encoder_rests(tmp_path: Path) -> None:
    recipe = AutoencoderRecipe(channels=(8, 8, 8, 8), decoder_steps=2, warmup=1, batch=2, crop=32)
    torch.manual_seed(0)
    model = make_autoencoder(recipe, size=64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pictures = np.asarray(drawings(tmp_path / "corpus", seed=3, name="x", count=4, size=64))
    finish_decoder(model, pictures, recipe, seed=1, root=tmp_path / "run", reporter=SilentReporter())
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("decoder.") for name in moved)
    assert not any(name.startswith(("encoder.", "quant_conv.")) for name in moved)


def test_labels_leave_out_what_cannot_be_seen() -> None:
    hidden = truth(Character(medium="ink", framing="full body", hair="bald"))
    assert not {"skin", "eyes", "mood", "hair_colour", "shirt", "dots"} & set(hidden)
    numbers = labels([Character(medium="ink"), Character(medium="flat")])
    assert numbers["skin"].tolist() == [UNSEEN, ANSWERS["skin"].index("pale")]


@given(st.integers(0, 2**32))
def test_every_truth_has_an_answer(seed: int) -> None:
    for name, value in truth(sample_character(np.random.default_rng(seed), unseen=True)).items():
        assert value in ANSWERS[name]


def test_the_probe_answers_every_attribute() -> None:
    torch.manual_seed(0)
    readings = read(Probe((8, 8, 8, 8)), torch.zeros(2, 3, 128, 128))
    assert len(readings) == 2
    assert set(readings[0].answers) == set(ANSWERS)


def test_held_out_characters_are_not_the_training_ones() -> None:
    assert characters(1, "denoiser", 20) != characters(1, "held-out-prompts", 20)
