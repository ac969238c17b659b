"""Twenty steps on the random base must give the losses that were written down: refactors show no drift.

To write them anew after a wanted change: TALENT_WRITE_GOLDEN=1 pytest tests/golden/test_golden_train.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from talent_factory.core.files import read_json, write_json
from talent_factory.training import runs
from talent_factory.training.config import TrainConfig
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.loop import train
from talent_factory.training.tiny_data import make_tiny_dataset

GOLDEN = Path(__file__).with_name("train_losses.json")
# Other CPUs and torch versions add in another order; after 20 steps that stays far below this.
RELATIVE = 2e-3


def test_twenty_steps(tmp_path: Path) -> None:
    config = TrainConfig(
        id="avatar.identity.golden",
        kind="lora",
        sdx_version="1.5",
        base_model=str(make_random_base(tmp_path / "base", seed=5)),
        train_data_dir="unused",
        resolution=64,
        lora_rank=4,
        max_train_steps=20,
        learning_rate=2e-3,
        batch_size=3,
        token="golden",
        seed=11,
        warmup_steps=3,
        flip=True,
        captions={"dropout": 0.2},
        prior_weight=0.3,
        train_text_encoder=True,
        sample_every=0,
        device="cpu",
    )
    dataset = make_tiny_dataset(tmp_path / "dataset", token="golden")
    train(config, dataset=dataset, run=tmp_path / "run")
    names = ("denoise", "preserve", "grad_norm", "lr")
    found = {name: [line[name] for line in runs.read_losses(tmp_path / "run")] for name in names}
    if os.environ.get("TALENT_WRITE_GOLDEN"):
        write_json(GOLDEN, found)
    golden = read_json(GOLDEN)
    assert found.keys() == golden.keys()
    for name, values in found.items():
        assert values == pytest.approx(golden[name], rel=RELATIVE, abs=1e-5), name
