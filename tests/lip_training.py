"""The smallest training there is, for tests: a network of a few thousand weights on frames of 32 pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from talent_factory.core.errors import Cancelled
from talent_factory.core.events import SilentReporter
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.config import LipsyncConfig
from talent_factory.lipsync.config_files import make_config
from talent_factory.lipsync.train.run import TrainResult, train

SMALL = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 4,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 2,
    "cross_attention_dim": 384,
    "norm_num_groups": 4,
}


def small_unet(folder: Path) -> Path:
    """Write the network's JSON; returns its path."""
    path = folder / "small.json"
    path.write_text(json.dumps(SMALL))
    return path


def small_config(dataset: Path, run: Path, **changes: Any) -> LipsyncConfig:
    """A training of four steps of six samples in three pieces; keys of any part may be changed by name."""
    from talent_factory.lipsync.config_files import place_of

    parts: dict[str, dict[str, Any]] = {
        "data": {
            "local_data_base_url": str(dataset),
            "output_dir": str(run),
            "image_size": 32,
            "validation_clips": 0.4,
        },
        "train": {
            "train_batch_size": 2,
            "gradient_accumulation_steps": 3,
            "max_train_steps": 4,
            "validation_steps": 2,
            "validation_samples": 4,
            "mixed_precision": "fp32",
            "device": "cpu",
        },
        "model": {
            "unet_config_file": str(small_unet(dataset)),
            "vae_pretrained_model_name_or_path": "dct8",
        },
        "optimizer": {"learning_rate": 2e-3},
    }
    for key, value in changes.items():
        part, name = place_of(key)
        parts[part][name] = value
    return make_config(parts, source="a test")


class StopAfter(SilentReporter):
    """Asks the training to stop once so many samples are done, and keeps what it was told."""

    def __init__(self, samples: int) -> None:
        self.stop = StopSignal()
        self.lines: list[str] = []
        self._samples = samples

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        """Ask when it is time."""
        if stage == "train" and done >= self._samples:
            self.stop.request()

    def message(self, text: str) -> None:
        """Keep it."""
        self.lines.append(text)


def train_in_parts(config: LipsyncConfig, *stops: int) -> TrainResult:
    """Train with a stop after each of these numbers of samples, going on each time."""
    resumed = config.model_copy(
        update={"model": config.model.model_copy(update={"resume_from_checkpoint": "latest"})}
    )
    for samples in stops:
        told = StopAfter(samples)
        try:
            train(resumed, reporter=told, stop=told.stop)
        except Cancelled:
            continue
        raise AssertionError(f"the training was not stopped after {samples} samples")
    return train(resumed)
