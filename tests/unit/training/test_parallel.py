"""Two processes train as one does: same batches, same losses, same LoRA but for the last digits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from talent_factory.training import loop, runs
from talent_factory.training.config import TrainConfig
from talent_factory.training.machine import reproducible

_SCRIPT = """
import json, sys
from pathlib import Path
from talent_factory.training.config import TrainConfig
from talent_factory.training.loop import train

config = TrainConfig.model_validate(json.loads(Path(sys.argv[1]).read_text()))
train(config, dataset=Path(sys.argv[2]), run=Path(sys.argv[3]))
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _train_by_two(config: TrainConfig, dataset: Path, run: Path, folder: Path) -> None:
    """Start two processes as torchrun does, by the environment alone, and wait for both."""
    (folder / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    (folder / "script.py").write_text(_SCRIPT)
    command = [sys.executable, "script.py", "config.json", str(dataset), str(run)]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    processes = [
        subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors


@pytest.mark.slow
def test_two_processes_are_one(
    make_config: Callable[..., TrainConfig], dataset: Path, tmp_path: Path
) -> None:
    config = make_config(
        max_train_steps=8, batch_size=4, accumulation=2, train_text_encoder=True, prior_weight=0.3, ema=0.9
    )
    with reproducible(1):
        loop.train(config, dataset=dataset, run=tmp_path / "one")
    _train_by_two(config, dataset, tmp_path / "two", tmp_path)
    one, two = (runs.read_losses(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 8
    for left, right in zip(one, two, strict=True):
        assert left == pytest.approx(right, rel=2e-4, abs=1e-6)
    own, theirs = (load_file(tmp_path / name / runs.LORA_FILE) for name in ("one", "two"))
    assert own.keys() == theirs.keys()
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=2e-5)
    lines = (tmp_path / "two" / runs.LOSS_FILE).read_text().splitlines()
    assert len(lines) == 8  # the second process has written nothing of its own


_LEAVING = """
import os, weakref
import torch, torch.distributed as dist
from talent_factory.training.parallel import world

with world() as processes:
    torch.optim.AdamW(torch.nn.Linear(2, 2).parameters())  # imports much of torch
    processes.wait()
    group = weakref.ref(dist.group.WORLD)
print(os.environ["RANK"], group() is None)
"""


def test_no_thread_of_a_group_outlives_it(tmp_path: Path) -> None:
    """One that does may free a tensor while the interpreter ends, which aborts the process."""
    (tmp_path / "leave.py").write_text(_LEAVING)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "leave.py"],
            cwd=tmp_path,
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    assert [process.communicate(timeout=120)[0] for process in processes] == ["0 True\n", "1 True\n"]
