"""What a training tells to whom: JSON lines always, TensorBoard and W&B when asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lip_clips import make_clips
from lip_training import small_config
from talent_factory.lipsync.train.run import train


def test_the_curves_of_tensorboard_are_those_of_the_log(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_clips(tmp_path / "clips", (14, 9, 11))
    run = tmp_path / "run"
    train(small_config(tmp_path / "clips", run, max_train_steps=2, tensorboard_enabled=True))
    curves = EventAccumulator(str(run / "tensorboard")).Reload()
    losses = [event.value for event in curves.Scalars("train/loss")]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert losses == pytest.approx([line["loss"] for line in lines])
    assert [event.step for event in curves.Scalars("validation/mouth_psnr")] == [2]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    kinds = [event["event"] for event in events]
    assert [kinds.count(kind) for kind in ("begin", "step", "validation", "sample", "checkpoint")] == [
        1,
        2,
        1,
        1,
        1,
    ]
    assert Path(next(event["path"] for event in events if event["event"] == "sample")).is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::pydantic.warnings.PydanticDeprecatedSince20"
)
def test_wandb_works_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    make_clips(tmp_path / "clips", (14, 9, 11))
    run = tmp_path / "run"
    train(small_config(tmp_path / "clips", run, max_train_steps=2, wandb_enabled=True))
    assert list((run / "wandb").glob("offline-run-*"))
