"""Checkpoints on disk: whole or not there, found after damage, pruned without losing the newest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from talent_factory.core.errors import FileError
from talent_factory.lipsync.train.folders import (
    LATEST,
    RECORD,
    TENSORS,
    Keep,
    Origin,
    StateRecord,
    newest_state,
    read_state,
    write_checkpoint,
)

ORIGIN = Origin(config={}, dataset_sha256="", extractor=None, codec="dct8", mask="half-0.5")


def write(
    run: Path, step: int, *, value: float = 1.0, samples: int = 0, weights: int = 9, states: int = 2
) -> Path:
    def record(digest: str) -> StateRecord:
        return StateRecord(
            step=step,
            samples=samples,
            sha256=digest,
            log_bytes=0,
            seconds=0.0,
            processes=1,
            machine={},
            origin=ORIGIN,
            optimizers={},
        )

    def export(folder: Path) -> None:
        (folder / "weights").write_text(str(step))

    return write_checkpoint(
        run,
        tensors={"a": torch.full((3,), value)},
        record=record,
        export=export,
        step=step,
        keep=Keep(weights, 2),
    )


def states(run: Path) -> list[str]:
    return sorted(path.parent.name for path in run.glob(f"*/{RECORD}"))


def test_the_newest_is_found_and_pointed_to(tmp_path: Path) -> None:
    assert newest_state(tmp_path) is None
    write(tmp_path, 9)
    write(tmp_path, 10, value=2.0)
    found = newest_state(tmp_path)
    assert found is not None
    assert found.record.step == 10
    assert torch.equal(found.tensors["a"], torch.full((3,), 2.0))
    assert (tmp_path / LATEST).read_text() == "checkpoint-10\n"


def test_weights_stay_longer_than_states(tmp_path: Path) -> None:
    for step in range(1, 7):
        write(tmp_path, step, weights=4)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        f"checkpoint-{n}" for n in (3, 4, 5, 6)
    ]
    assert states(tmp_path) == ["checkpoint-5", "checkpoint-6"]
    assert not (tmp_path / "checkpoint-4" / TENSORS).exists()
    assert (tmp_path / "checkpoint-4" / "weights").read_text() == "4"


def test_a_broken_state_is_passed_over_and_replaced(tmp_path: Path) -> None:
    write(tmp_path, 1)
    broken = write(tmp_path, 2)
    data = bytearray((broken / TENSORS).read_bytes())
    data[-1] ^= 1
    (broken / TENSORS).write_bytes(data)
    found = newest_state(tmp_path)
    assert found is not None
    assert found.record.step == 1
    assert "checkpoint-2" in found.skipped[0]
    assert "digest" in found.skipped[0]
    with pytest.raises(FileError, match="digest"):
        read_state(broken)
    # a run that went on from step 1 must not fall for the broken future
    write(tmp_path, 1, samples=4)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1"]


@pytest.mark.parametrize("damage", ["", "{", "{}"])
def test_a_damaged_record_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    folder = write(tmp_path, 3)
    (folder / RECORD).write_text(damage)
    with pytest.raises(FileError):
        read_state(folder)
    assert newest_state(tmp_path) is None


def test_a_part_of_a_step_replaces_the_whole_one(tmp_path: Path) -> None:
    write(tmp_path, 5)
    write(tmp_path, 5, samples=8, value=3.0)
    found = newest_state(tmp_path)
    assert found is not None
    assert found.record.samples == 8
    assert found.tensors["a"][0] == 3.0
