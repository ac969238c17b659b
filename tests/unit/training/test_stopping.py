"""Stop a run from another process: its holder is asked, and nobody waits longer than told."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from talent_factory.core.errors import FileError, TalentError, UsageError
from talent_factory.core.files import write_json
from talent_factory.training import runs, stopping
from talent_factory.training.config import TrainConfig
from talent_factory.training.runs import Machine, RunRecord

# Holds the lock of a run as a training does; on SIGTERM it "saves" a checkpoint, or stays deaf.
_HOLDER = """
import pathlib, signal, sys, time
from talent_factory.core.workspace import exclusive
run, manner = pathlib.Path(sys.argv[1]), sys.argv[2]
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
with exclusive(run):
    (run / "ready").touch()
    until = time.monotonic() + 30
    while time.monotonic() < until and not (asked and manner == "polite"):
        time.sleep(0.01)
    (run / "checkpoints" / "step_00000007").mkdir(parents=True)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    config = TrainConfig(
        id="avatar.identity.someone",
        kind="lora",
        sdx_version="1.5",
        base_model="mini",
        train_data_dir="nowhere",
        resolution=128,
        lora_rank=2,
        max_train_steps=10,
        learning_rate=1e-3,
        batch_size=1,
        token="someone",
    )
    record = RunRecord(
        config=config,
        config_hash=runs.config_hash(config),
        dataset="nowhere",
        dataset_fingerprint="",
        dataset_items={},
        cache="nowhere",
        base="mini",
        base_revision="",
        machine=Machine(torch="0", device="cpu", threads=1),
    )
    write_json(folder / runs.RUN_FILE, record.model_dump(mode="json"))
    return folder


def _holder(run: Path, manner: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", _HOLDER, str(run), manner])
    while not (run / "ready").exists():
        time.sleep(0.01)
    return child


def test_the_holder_is_asked_and_waited_for(run: Path) -> None:
    child = _holder(run, "polite")
    assert stopping.lock_holder(run) == child.pid
    status = stopping.stop_run(run)
    assert (status.state, status.checkpoint) == ("stopped", "step_00000007")
    assert child.wait() == 0
    assert stopping.lock_holder(run) is None


def test_patience_ends(run: Path) -> None:
    child = _holder(run, "deaf")
    with pytest.raises(TalentError, match="still trains"):
        stopping.stop_run(run, patience=0.2)
    child.kill()
    child.wait()


def test_nobody_trains(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody trains"):
        stopping.stop_run(run)
    with pytest.raises(FileError, match="holds no run"):
        stopping.stop_run(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
