"""A whole training whose device is too small: it goes on in smaller pieces and learns the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from talent_factory.core.errors import TrainingTooLarge
from talent_factory.core.events import SilentReporter
from talent_factory.training import runs
from talent_factory.training.config import TrainConfig
from talent_factory.training.engine import Engine
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.loop import train
from talent_factory.training.stepdown import load_execution
from talent_factory.training.tiny_data import make_tiny_dataset
from talent_factory.training.windows import Batch


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random base and a dataset."""
    folder = tmp_path_factory.mktemp("material")
    make_random_base(folder / "base")
    make_tiny_dataset(folder / "dataset")
    return folder


def _config(material: Path) -> TrainConfig:
    return TrainConfig(
        id="avatar.identity.selftest",
        kind="lora",
        sdx_version="1.5",
        base_model=str(material / "base"),
        train_data_dir="unused",
        resolution=64,
        lora_rank=2,
        max_train_steps=6,
        learning_rate=1e-3,
        batch_size=4,
        token="selftest",
        sample_every=0,
        checkpoint_every=2,
        prior_weight=0.5,
        device="cpu",
    )


class _Heard(SilentReporter):
    def __init__(self) -> None:
        self.kinds: list[str] = []

    def event(self, kind: str, **fields: object) -> None:
        self.kinds.append(kind)


def _small_device(monkeypatch: pytest.MonkeyPatch, *, rows: int, from_batch: int = 0) -> list[int]:
    """A device that holds `rows` images at once, from some batch on; returns what it was given."""
    add_batch, seen = Engine.add_batch, []

    def limited(self: Engine, batch: Batch) -> None:
        seen.append(len(batch.rows_B))
        if len(seen) > from_batch and len(batch.rows_B) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        add_batch(self, batch)

    monkeypatch.setattr(Engine, "add_batch", limited)
    return seen


def _trained(material: Path, run: Path) -> tuple[dict[str, Any], list[float], _Heard]:
    heard = _Heard()
    train(_config(material), dataset=material / "dataset", run=run, reporter=heard)
    losses = [line["loss"] for line in runs.read_losses(run)]
    return load_file(run / runs.LORA_FILE), losses, heard


def test_the_run_goes_on_in_pieces_and_sees_the_same_images(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, losses, _ = _trained(material, tmp_path / "whole")
    # memory runs out in the fourth step, after a checkpoint
    seen = _small_device(monkeypatch, rows=2, from_batch=3)
    pieces, piece_losses, heard = _trained(material, tmp_path / "pieces")
    assert set(seen) == {4, 2}
    assert heard.kinds.count("step_down") == 2  # checkpointing first, which did not help here
    execution = load_execution(tmp_path / "pieces", _config(material))
    assert (execution.splits, execution.gradient_checkpointing) == (2, True)
    # losses are functions of images, noise and timesteps: the order was the same, up to how sums are rounded
    assert piece_losses == pytest.approx(losses, rel=1e-4)
    assert pieces.keys() == whole.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(pieces[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_device_too_small_for_one_image_is_told_so(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_device(monkeypatch, rows=0)
    with pytest.raises(TrainingTooLarge, match="not even one image of 64 pixels"):
        _trained(material, tmp_path / "run")
    assert (tmp_path / "run" / runs.RUN_FILE).is_file()
