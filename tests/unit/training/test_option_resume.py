"""Every option of a training survives a stop at any step: the result is the same, bit by bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from talent_factory.core.errors import Cancelled, ConfigError
from talent_factory.core.events import SilentReporter
from talent_factory.core.files import read_json, sha256_file, write_json
from talent_factory.core.records import write_record
from talent_factory.core.stop import StopSignal
from talent_factory.dataset.manifest import DATASET_FILE, load_dataset
from talent_factory.training import loop, runs
from talent_factory.training.config import TrainConfig

CASES: dict[str, dict[str, Any]] = {
    "8-bit, masked": {
        "optimizer": {"name": "adamw8bit"},
        "lora_rank": 16,
        "loss": {"mask": "file", "outside": 0.2},
        "flip": True,
    },
    "prodigy, text encoder": {
        "optimizer": {"name": "prodigy"},
        "learning_rate": 1.0,
        "train_text_encoder": True,
    },
    "schedule-free, looked at, accumulated": {
        "optimizer": {"name": "adamw-schedulefree"},
        "sample_every": 2,
        "accumulation": 2,
        "warmup_steps": 2,
    },
    "fp16, averaged, every noise": {
        "precision": "fp16",
        "ema": 0.9,
        "accumulation": 2,
        "noise": {"offset": 0.1},
        "loss": {"kind": "huber", "weighting": "debiased"},
        "captions": {"shuffle": True, "tag_dropout": 0.3, "variants": 4},
    },
    "rates and shapes": {
        "optimizer": {"lora_plus": 4.0},
        "train_text_encoder": True,
        "targets": "transformer+conv",
        "network": {"dora": True, "rslora": True, "conv_rank": 1},
        "loss": {"kind": "smooth-l1", "huber_schedule": "exponential", "weighting": "none"},
        "validation": {"share": 0.2, "every": 1},
        "ema": 0.5,
    },
}


class _StopAt(SilentReporter):
    """Asks to stop when a step has ended, as a signal would."""

    def __init__(self, step: int) -> None:
        self.stop = StopSignal()
        self._step = step

    def event(self, kind: str, **fields: object) -> None:
        if kind == "step" and fields["step"] == self._step:
            self.stop.request()


def _with_masks(dataset: Path) -> None:
    """Paint the left half of all pictures but the first."""
    manifest = load_dataset(dataset)
    items = [manifest.items[0]]
    for item in manifest.items[1:]:
        grey = np.zeros((item.height, item.width), np.uint8)
        grey[:, : item.width // 2] = 255
        name = item.file.removesuffix(".png") + ".mask.png"
        Image.fromarray(grey).save(dataset / name)
        items.append(item.model_copy(update={"mask": name, "mask_sha256": sha256_file(dataset / name)}))
    write_record(dataset / DATASET_FILE, manifest.model_copy(update={"items": tuple(items)}))


def _bytes(run: Path) -> dict[str, bytes]:
    samples = {path.name: path.read_bytes() for path in (run / runs.SAMPLES).glob("*.png")}
    return samples | {name: (run / name).read_bytes() for name in (runs.LORA_FILE, runs.LOSS_FILE)}


@pytest.mark.parametrize("case", CASES)
def test_stopped_and_resumed_is_uninterrupted(
    make_config: Callable[..., TrainConfig], dataset: Path, tmp_path: Path, case: str
) -> None:
    _with_masks(dataset)
    config = make_config(**CASES[case])
    whole = loop.train(config, dataset=dataset, run=tmp_path / "whole")
    run = tmp_path / "parts"
    for step in (1, 4):
        reporter = _StopAt(step)
        with pytest.raises(Cancelled, match=f"step {step} of"):
            loop.train(config, dataset=dataset, run=run, reporter=reporter, stop=reporter.stop)
    result = loop.resume(run)
    assert (result.resumed_from, result.steps) == (4, 6)
    assert result.lora_sha256 == whole.lora_sha256
    assert _bytes(run) == _bytes(tmp_path / "whole")
    moved = load_file(result.lora)
    assert all(bool(value.any()) for name, value in moved.items() if "lora_up" in name)


def test_a_base_of_velocity_learns_to_its_pure_noise_and_one_of_noise_refuses(
    make_config: Callable[..., TrainConfig], base_folder: Path, dataset: Path, tmp_path: Path
) -> None:
    velocity = tmp_path / "velocity"
    shutil.copytree(base_folder, velocity)
    facts = velocity / "scheduler" / "scheduler_config.json"
    write_json(facts, {**read_json(facts), "prediction_type": "v_prediction"})
    noise = {"zero_terminal_snr": True, "offset": 0.05}
    config = make_config(base_model=str(velocity), noise=noise, sample_every=6)
    whole = loop.train(config, dataset=dataset, run=tmp_path / "whole")
    reporter = _StopAt(3)
    with pytest.raises(Cancelled):
        loop.train(config, dataset=dataset, run=tmp_path / "parts", reporter=reporter, stop=reporter.stop)
    assert loop.resume(tmp_path / "parts").lora_sha256 == whole.lora_sha256
    plain = loop.train(
        make_config(base_model=str(velocity), sample_every=0), dataset=dataset, run=tmp_path / "plain"
    )
    assert plain.lora_sha256 != whole.lora_sha256
    with pytest.raises(ConfigError, match="predicts the velocity"):
        loop.train(make_config(noise=noise), dataset=dataset, run=tmp_path / "refused")
