"""Training in other processes: two are one, a kill leaves no trace, a polite stop saves part of a step."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lip_clips import make_clips
from lip_training import small_config
from talent_factory.lipsync.config import LipsyncConfig
from talent_factory.lipsync.train.folders import TENSORS, newest_state
from talent_factory.lipsync.train.run import train

pytestmark = pytest.mark.slow

_SCRIPT = """
import sys
from pathlib import Path
from talent_factory.core.errors import Cancelled
from talent_factory.core.stop import graceful_stop
from talent_factory.lipsync.config import LipsyncConfig
from talent_factory.lipsync.train.run import train

config = LipsyncConfig.model_validate_json(Path(sys.argv[1]).read_text())
with graceful_stop() as stop:
    try:
        train(config, stop=stop)
    except Cancelled:
        sys.exit(130)
"""


def start(config: LipsyncConfig, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """A process that trains; its files are its own, since two of them begin at the same time."""
    own = folder / f"rank{environment.get('RANK', '')}"
    own.mkdir(exist_ok=True)
    (own / "config.json").write_text(config.model_dump_json())
    (own / "script.py").write_text(_SCRIPT)
    source = Path(__file__).resolve().parents[3] / "src"
    return subprocess.Popen(
        [sys.executable, "script.py", "config.json"],
        cwd=own,
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def train_by_two(config: LipsyncConfig, folder: Path) -> None:
    """Start two processes as torchrun does, by the environment alone, and wait for both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    pair = [
        start(config, folder, **shared, RANK=rank, LOCAL_RANK=rank, GLOO_SOCKET_IFNAME="lo")
        for rank in ("0", "1")
    ]
    try:
        # one that fails leaves the other waiting for it: look at both, as a launcher does
        while any(process.poll() is None for process in pair):
            if any(process.poll() for process in pair):
                break
            time.sleep(0.05)
    finally:
        for process in pair:
            process.kill()
        said = [process.communicate(timeout=60)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said


def test_two_processes_are_one(tmp_path: Path) -> None:
    make_clips(tmp_path / "clips", (14, 9, 11))
    changes = {"gradient_accumulation_steps": 2, "gan_loss": 0.1, "perceptual_loss": 0.1}
    one = small_config(tmp_path / "clips", tmp_path / "one", **changes)
    two = small_config(tmp_path / "clips", tmp_path / "two", **changes)
    process = start(one, tmp_path)
    assert process.communicate(timeout=240) is not None
    assert process.returncode == 0
    train_by_two(two, tmp_path)
    left, right = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(left) == len(right) == 4
    for a, b in zip(left, right, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_processes_may_come_and_go(tmp_path: Path) -> None:
    """Two steps by two processes and two by one see the data of four steps by one."""
    make_clips(tmp_path / "clips", (14, 9, 11))
    changes = {"gradient_accumulation_steps": 4, "max_train_steps": 4}
    train(small_config(tmp_path / "clips", tmp_path / "one", **changes))
    # a run that is killed after its second step
    train_by_two(small_config(tmp_path / "clips", tmp_path / "two", **changes), tmp_path)
    (tmp_path / "two" / "checkpoint-4" / TENSORS).unlink()
    resumed = small_config(tmp_path / "clips", tmp_path / "two", **changes, resume_from_checkpoint="latest")
    assert train(resumed).step == 4
    left, right = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    for a, b in zip(left, right, strict=True):
        assert a == pytest.approx(b, rel=1e-3)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_leaves_no_trace(tmp_path: Path, kind: signal.Signals) -> None:
    make_clips(tmp_path / "clips", (14, 9, 11))
    changes = {"max_train_steps": 40, "validation_steps": 10, "checkpointing_steps": 5}
    train(small_config(tmp_path / "clips", tmp_path / "one", **changes))
    run = tmp_path / "two"
    config = small_config(tmp_path / "clips", run, **changes, resume_from_checkpoint="latest")
    process = start(config, tmp_path)
    log = run / "metrics.jsonl"
    # moments are chosen by what was done, not by time, which differs from machine to machine
    while not log.exists() or log.read_bytes().count(b"\n") < 13:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(kind)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == (-kind if kind == signal.SIGKILL else 130), errors
    found = newest_state(run)
    assert found is not None
    assert 10 <= found.record.step < 40
    assert train(config).step == 40
    for name in (
        "metrics.jsonl",
        "validation.jsonl",
        f"checkpoint-40/{TENSORS}",
        "checkpoint-40/lipsync.json",
    ):
        assert (run / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
