"""`talent train lr-find`: a suggestion as text or JSON, and nothing left but the cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from talent_factory.cli.app import run as talent
from talent_factory.training.families.random_base import make_random_base


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config for a random base and four pictures."""
    base, images = make_random_base(tmp_path / "base"), tmp_path / "images"
    images.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text(f"selftest robot, portrait, number {number}")
    path = tmp_path / "config.yaml"
    path.write_text(
        f"id: avatar.identity.selftest\nkind: lora\nsdx_version: '1.5'\nbase_model: {base}\n"
        f"train_data_dir: {images}\nresolution: 64\nlora_rank: 4\nmax_train_steps: 100\n"
        "learning_rate: 1e-3\nbatch_size: 2\ntoken: selftest\ndevice: cpu\n"
    )
    return path


def test_a_rate_is_suggested(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "work"
    order = ["train", "lr-find", str(config), "--steps", "10", "--from", "1e-4", "-w", str(place)]
    assert talent(order) == 0
    text = capsys.readouterr().out
    assert "before    loss" in text
    assert "(the config says 0.001)" in text
    assert talent([*order, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert f"learning_rate: {found['suggestion']:g}" in text
    assert len(found["losses"]) == len(found["rates"]) + 1
    assert {path.name for path in place.iterdir()} == {"cache"}


def test_a_range_upside_down_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talent(["train", "lr-find", str(config), "--from", "0.1", "--to", "0.01"]) == 2
    assert "not below" in capsys.readouterr().err
