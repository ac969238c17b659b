"""From steps of training to diffusers: the file that a run leaves computes there what it was trained to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from talent_factory.foundry.conform import TOLERANCE, conform
from talent_factory.kits.conform import open_lora
from talent_factory.kits.lora_file import lora_size, read_lora
from talent_factory.training.config import TrainConfig
from talent_factory.training.families import load_base
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.loop import train
from talent_factory.training.tiny_data import make_tiny_dataset


def trained(folder: Path, kind: Literal["tiny", "tiny-sdxl"], **changes: Any) -> tuple[Path, Path]:
    """Train three steps with everything adapted; returns the file and the base."""
    base = make_random_base(folder / "base", kind=kind)
    side = 32 if kind == "tiny" else 64
    config = TrainConfig.model_validate(
        {
            "id": "avatar.identity.selftest",
            "kind": "lora",
            "sdx_version": "1.5" if kind == "tiny" else "xl",
            "base_model": str(base),
            "train_data_dir": "unused",
            "resolution": 64,
            "lora_rank": 4,
            "lora_alpha": 2.0,
            "targets": "transformer+conv",
            "train_text_encoder": True,
            "max_train_steps": 3,
            "learning_rate": 1e-2,
            "batch_size": 1,
            "token": "selftest",
            "sample_every": 0,
            "device": "cpu",
            **changes,
        }
    )
    dataset = make_tiny_dataset(folder / "dataset", images=2, side=side)
    return Path(train(config, dataset=dataset, run=folder / "run").lora), base


@pytest.mark.parametrize("kind", ["tiny", "tiny-sdxl"])
def test_what_training_writes_is_what_diffusers_computes(
    tmp_path: Path, kind: Literal["tiny", "tiny-sdxl"]
) -> None:
    lora, folder = trained(tmp_path, kind, network={"rslora": True, "conv_rank": 2, "conv_alpha": 1.0})
    size = lora_size(read_lora(lora))
    assert (size.rank, size.alpha, size.conv_rank) == (4, 4.0, 2), "alpha 2 times the root of rank 4"
    report = conform(open_lora(lora), family=None, base=load_base(str(folder)), tools=["diffusers"])
    own = report.tools[0]
    assert (own.verdict, own.unmatched) == ("full", 0)
    assert own.matched == report.modules > 50
    assert own.forward_difference is not None
    assert own.forward_difference < TOLERANCE


def test_dora_is_wrong_in_diffusers_and_said_to_be(tmp_path: Path) -> None:
    lora, folder = trained(tmp_path, "tiny", network={"dora": True})
    report = conform(open_lora(lora), family=None, base=load_base(str(folder)), tools=["diffusers"])
    own = report.tools[0]
    assert own.verdict == "wrong"
    assert own.forward_difference is None or own.forward_difference > TOLERANCE
