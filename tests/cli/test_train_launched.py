"""`accelerate launch` starts two processes, as torchrun does: both trainers share a step between them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lip_clips import make_clips
from lip_training import small_config
from pair_maker import small_pair_config
from talent_factory.lipsync.train.run import train
from talent_factory.training.machine import reproducible

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SOURCE = Path(__file__).resolve().parents[2] / "src"


def launched(place: Path, *words: str) -> str:
    """What `talent WORDS` says in two processes that accelerate starts; the errors of a failed one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    # the option of that name only means "several processes": without a GPU they compute on the processor
    options = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", port]
    settled = ["--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, *settled]
    done = subprocess.run(
        [*command, "-m", "talent_factory.cli.app", "--quiet", *words],
        cwd=place,
        env={
            **os.environ,
            "PYTHONPATH": str(SOURCE),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "HF_HOME": str(place / "hub"),
        },
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_lora_is_trained_by_both(tmp_path: Path) -> None:
    config = small_pair_config(tmp_path, max_train_steps=2)
    said = launched(tmp_path, "train", str(config), "-w", str(tmp_path))
    assert said.count("avatar.identity.together is ready") == 1
    # a batch that two cannot share is refused, so both were there
    config = small_pair_config(tmp_path, batch_size=3)
    with pytest.raises(AssertionError, match="batch_size 3 cannot be shared by 2 processes"):
        launched(tmp_path, "train", str(config), "-w", str(tmp_path / "other"))


def test_a_lip_sync_training_is_that_of_one_process(tmp_path: Path) -> None:
    make_clips(tmp_path / "clips", (14, 9, 11))
    changes = {"gradient_accumulation_steps": 2, "train_batch_size": 2, "micro_batch_size": 2}
    with reproducible(1):  # as the launched ones have one thread each
        train(small_config(tmp_path / "clips", tmp_path / "one", **changes))
    config = small_config(tmp_path / "clips", tmp_path / "two", **changes)
    folder = tmp_path / "configs"
    folder.mkdir()
    for part, values in config.model_dump(mode="json", by_alias=True).items():
        (folder / f"{part}.yaml").write_text(json.dumps(values), "utf-8")
    assert str(tmp_path / "two") in launched(tmp_path, "lipsync", "train", "--config", str(folder))
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(one) == len(two) == 4
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    record = json.loads((tmp_path / "two" / "checkpoint-4" / "state.json").read_text())
    assert record["processes"] == 2
