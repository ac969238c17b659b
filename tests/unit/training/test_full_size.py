"""A few steps on Stable Diffusion 1.5 in its full size, with random weights: nothing is downloaded."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from talent_factory.training import runs
from talent_factory.training.config import TrainConfig
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.loop import train
from talent_factory.training.tiny_data import make_tiny_dataset

# What kohya's trainer adapts in the UNet of this family by default.
MODULES = 192
NUMBERS = 6_782_976


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_trains_at_256_pixels_in_bf16(tmp_path: Path) -> None:
    base = make_random_base(tmp_path / "base", "sd15", precision="bf16")
    config = TrainConfig.model_validate(
        {
            "id": "avatar.identity.selftest",
            "kind": "lora",
            "sdx_version": "1.5",
            "base_model": str(base),
            "train_data_dir": "unused",
            "resolution": 256,
            "lora_rank": 16,
            "max_train_steps": 4,
            "learning_rate": 1e-3,
            "batch_size": 1,
            "token": "selftest",
            "scheduler": "constant",
            "precision": "bf16",
            "captions": {"dropout": 0.0},
            "loss": {"weighting": "none"},
            "sample_every": 0,
            "checkpoint_every": 2,
            "device": "cpu",
        }
    )
    data = make_tiny_dataset(tmp_path / "dataset", images=2, side=256)
    result = train(config, dataset=data, run=tmp_path / "run")
    losses = [line["loss"] for line in runs.read_losses(tmp_path / "run")]
    assert result.steps == len(losses) == 4
    # a base that knows nothing answers noise with something small: the error is about the noise's own size
    assert all(math.isfinite(loss) and 0.5 < loss < 2.0 for loss in losses)
    tensors = load_file(result.lora)
    layers = {name.split(".")[0] for name in tensors}
    trained = [tensor for name, tensor in tensors.items() if not name.endswith(".alpha")]
    assert len(layers) == MODULES
    assert sum(tensor.numel() for tensor in trained) == NUMBERS
    still = [
        name for name, tensor in tensors.items() if name.endswith("lora_up.weight") and not torch.any(tensor)
    ]
    assert not still, f"the gradient never reached {still[:3]}"
