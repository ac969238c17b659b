"""One tiny random base and one tiny dataset for all training tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from talent_factory.training.config import TrainConfig
from talent_factory.training.families import Base, load_base
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.tiny_data import make_tiny_dataset


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random base in diffusers form; read only."""
    return make_random_base(tmp_path_factory.mktemp("base"), seed=1)


@pytest.fixture
def base(base_folder: Path) -> Base:
    """The random base, freshly loaded: a test may hook and merge."""
    return load_base(base_folder)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Five noise pictures with captions."""
    return make_tiny_dataset(tmp_path / "dataset")


@pytest.fixture
def make_config(base_folder: Path) -> Callable[..., TrainConfig]:
    """A small valid config; keywords override."""

    def make(**changes: Any) -> TrainConfig:
        values: dict[str, Any] = {
            "id": "avatar.identity.selftest",
            "kind": "lora",
            "sdx_version": "1.5",
            "base_model": str(base_folder),
            "train_data_dir": "unused",
            "resolution": 64,
            "lora_rank": 2,
            "max_train_steps": 6,
            "learning_rate": 1e-3,
            "batch_size": 2,
            "token": "selftest",
            "sample_every": 0,
            "checkpoint_every": 2,
            "device": "cpu",
        }
        return TrainConfig.model_validate({**values, **changes})

    return make
