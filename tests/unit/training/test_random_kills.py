"""Trainings with options drawn at random, killed at random moments, end in the bytes of one left alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from talent_factory.core.files import sha256_file
from talent_factory.training import loop, runs
from talent_factory.training.config import TrainConfig
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.selftest import forked, warm_up
from talent_factory.training.tiny_data import make_tiny_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    # the child uses one thread of its own and never the pools of its parent
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

_KILLS = 2
_SHAPES = ((32, 32), (48, 32), (32, 48))
_TAGS = ("red", "round", "small", "shiny")


def _drawn(number: int) -> dict[str, Any]:
    """The keys of one training; a pure function of `number`."""
    dice = random.Random(number)
    some = dice.choice
    optimizer: dict[str, Any] = {"name": some(["adamw", "adamw8bit", "prodigy", "adamw-schedulefree"])}
    own_rate = optimizer["name"] == "prodigy"
    averages = optimizer["name"] == "adamw-schedulefree"
    return {
        "learning_rate": 1.0 if own_rate else 1e-3,
        "optimizer": optimizer | ({} if own_rate else {"lora_plus": some([1, 8])}),
        "ema": None if averages else some([None, 0.7]),
        "precision": some(["fp32", "bf16", "fp16", "fp8"]),
        "batch_size": some([1, 2, 3]),
        "accumulation": some([1, 2, 3]),
        "gradient_checkpointing": some([False, True]),
        "attention": some(["auto", "plain"]),
        "train_text_encoder": some([False, True]),
        "targets": some(["attention", "transformer", "transformer+conv"]),
        "network": {"dora": some([False, True]), "rslora": some([False, True]), "conv_rank": some([None, 1])},
        "lora_rank": some([1, 4, 16]),
        "flip": some([False, True]),
        "prior_weight": some([0.0, 0.5]),
        "warmup_steps": some([0, 3]),
        "captions": {"dropout": 0.2, "shuffle": some([False, True]), "tag_dropout": some([0, 0.3])},
        "noise": {"offset": some([0, 0.1])},
        "loss": {
            "kind": some(["l2", "huber", "smooth-l1"]),
            "weighting": some(["none", "min-snr", "debiased"]),
        },
        "validation": {"share": some([0, 0.2]), "every": some([None, 2])},
        "sample_every": some([0, 4]),
        "checkpoint_every": some([1, 2, 3]),
        "keep_checkpoints": some([1, 2]),
        "max_train_steps": 8,
    }


def _config(base: Path, **keys: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "id": "avatar.identity.selftest",
            "kind": "lora",
            "sdx_version": "xl" if "sdxl" in base.name else "1.5",
            "base_model": str(base),
            "train_data_dir": "unused",
            "resolution": 64,
            "token": "selftest",
            "device": "cpu",
            **keys,
        }
    )


def _ended(work: Callable[[], object], patience: float | None) -> bool:
    """Do `work` in a child; False when it was killed after `patience` seconds."""
    child = forked(work)
    if patience is not None:
        time.sleep(patience)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in ((0,) if patience is None else (0, -signal.SIGKILL))
    return code == 0


def _outcome(run: Path) -> dict[str, str]:
    samples = (run / runs.SAMPLES).glob("*.png")
    names = [run / name for name in (runs.LORA_FILE, runs.LOSS_FILE, runs.VALIDATION_FILE)]
    return {path.name: sha256_file(path) for path in [*names, *samples] if path.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bases and a dataset in buckets; made in a child, so that this process never runs torch."""
    root = tmp_path_factory.mktemp("kills")
    warm_up()

    def furnish() -> None:
        make_random_base(root / "tiny", seed=1)
        make_random_base(root / "tiny-sdxl", "tiny-sdxl", seed=1)
        make_tiny_dataset(root / "dataset", images=8, shapes=_SHAPES, tags=_TAGS)

    assert _ended(furnish, None)
    return root


@pytest.mark.parametrize("number", range(int(os.environ.get("TALENT_RANDOM_KILLS", "6"))))
def test_drawn_options_survive_kills(place: Path, number: int) -> None:
    keys = _drawn(number)
    dice = random.Random(f"kill {number}")
    base = place / ("tiny-sdxl" if number % 3 == 2 else "tiny")
    config = _config(base, **keys)
    train = partial(loop.train, config, dataset=place / "dataset")
    begun = time.monotonic()
    assert _ended(partial(train, run=place / f"whole{number}"), None)
    life = time.monotonic() - begun
    whole = _outcome(place / f"whole{number}")
    assert {runs.LORA_FILE, runs.LOSS_FILE} <= set(whole)
    for attempt in range(_KILLS):
        run = place / f"run{number}.{attempt}"
        while not _ended(partial(train, run=run), life * dice.random()):
            if dice.random() < 0.5:
                assert _ended(partial(train, run=run), None)
                break
        assert _outcome(run) == whole, json.dumps(keys)
        shutil.rmtree(run)
    shutil.rmtree(place / f"whole{number}")
