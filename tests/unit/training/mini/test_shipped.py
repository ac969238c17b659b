"""The shipped base is what its card says: small, loadable by others, and it draws what it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from talent_factory.core.records import read_record
from talent_factory.training.families import load_base
from talent_factory.training.families.mini import FOLDER
from talent_factory.training.mini.autoencoder import decibels
from talent_factory.training.mini.card import SIZE_TARGET, Card, as_markdown
from talent_factory.training.mini.measure import held_out_renders, obedience
from talent_factory.training.mini.reader import load_probe, reading_rate
from talent_factory.world import Character, draw_character, sample_character


def held_out(count: int, *, unseen: bool) -> tuple[list[Character], np.ndarray]:
    """Characters and drawings from a seed that no part of the build uses."""
    who, pictures = [], []
    for index in range(count):
        rng = np.random.default_rng(10_000_000 + index)
        one = sample_character(rng, unseen=unseen)
        who.append(one)
        pictures.append(draw_character(one, rng))
    return who, np.stack(pictures)


def test_all_parts_together_are_small() -> None:
    parts = [
        path for name in ("mini", "probe") for path in (FOLDER.parent / name).rglob("*") if path.is_file()
    ]
    assert 0 < sum(path.stat().st_size for path in parts) <= SIZE_TARGET


def test_the_card_belongs_to_these_weights() -> None:
    card = read_record(FOLDER / "card.json", Card)
    assert card.revision == load_base("mini").revision
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == as_markdown(card)


@pytest.mark.slow
def test_the_probe_reads_true_drawings() -> None:
    who, pictures = held_out(200, unseen=True)
    assert reading_rate(load_probe(), pictures, who)["all"] >= 0.97


@pytest.mark.slow
def test_the_autoencoder_keeps_drawings() -> None:
    _, pictures = held_out(60, unseen=False)
    assert float(np.mean(decibels(load_base("mini").vae, pictures))) >= 26.0


@pytest.mark.slow
def test_the_base_draws_what_it_is_asked_for() -> None:
    base = load_base("mini")
    who, renders = held_out_renders(base, seed=99, count=25, steps=16)
    card = read_record(FOLDER / "card.json", Card)
    # 25 prompts name about 200 attributes: three standard errors below the figure of the card
    assert obedience(load_probe(), who, renders).all >= card.obeys.all - 0.09


@pytest.mark.slow
def test_diffusers_loads_and_runs_it(tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        FOLDER, local_files_only=True, low_cpu_mem_usage=False, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(
        "flat portrait of a robot, teal background", num_inference_steps=4, output_type="np"
    ).images[0]
    assert picture.shape == (128, 128, 3)
    assert picture.std() > 0.05
