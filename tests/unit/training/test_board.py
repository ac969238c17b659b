"""TensorBoard and W&B are optional: they get the figures when there, and their absence is said."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from talent_factory.core.errors import UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.training import loop
from talent_factory.training.board import BoardReporter, WandbReporter, board, wandb_board
from talent_factory.training.config import TrainConfig


class _Writer:
    def __init__(self) -> None:
        self.seen: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.seen.append((name, value, step))


def test_numbers_of_steps_are_written() -> None:
    writer = _Writer()
    reporter = BoardReporter(writer)
    reporter.event("step", step=3, loss=0.5, lr=1e-3)
    reporter.event("sample", step=3, path="x.png")
    reporter.event("validation", step=3, loss=0.25)
    assert writer.seen == [("train/loss", 0.5, 3), ("train/lr", 1e-3, 3), ("validation/loss", 0.25, 3)]


def test_without_it_nothing_is_asked(tmp_path: Path) -> None:
    with board(tmp_path, wanted=False) as reporter:
        assert isinstance(reporter, SilentReporter)
    assert not list(tmp_path.iterdir())


def test_a_missing_tensorboard_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="not installed"), board(tmp_path, wanted=True):
        pass


class _Run:
    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, object], object]] = []

    def log(self, values: dict[str, object], *, step: object) -> None:
        self.seen.append((values, step))


def test_wandb_hears_figures_and_samples() -> None:
    run = _Run()
    reporter = WandbReporter(run, lambda path: f"image of {path}")
    reporter.event("step", step=2, loss=0.5)
    reporter.event("validation", step=2, loss=0.25)
    reporter.event("sample", step=2, path="x.png", prompts=["a"])
    reporter.event("checkpoint", step=2, path="y")
    assert run.seen == [
        ({"train/loss": 0.5}, 2),
        ({"validation/loss": 0.25}, 2),
        ({"samples": "image of x.png"}, 2),
    ]


def test_a_training_tells_wandb(
    make_config: Callable[..., TrainConfig], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, asked = _Run(), []

    @contextmanager
    def fake(run: Path, *, project: str | None, config: Mapping[str, Any]) -> Iterator[WandbReporter]:
        asked.append((run.name, project, config["lora_rank"], "train_data_dir" in config))
        yield WandbReporter(seen, str)

    monkeypatch.setattr(loop, "wandb_board", fake)
    config = make_config(
        wandb="proof", max_train_steps=2, sample_every=2, validation={"share": 0.2, "every": 1}
    )
    loop.train(config, dataset=dataset, run=tmp_path / "run")
    assert asked == [("run", "proof", 2, False)]
    names = {(name, step) for values, step in seen.seen for name in values}
    assert {("train/loss", 1), ("train/loss", 2), ("samples", 2), ("validation/loss", 2)} <= names


def test_without_wandb_nothing_is_asked(tmp_path: Path) -> None:
    with wandb_board(tmp_path, project=None, config={}) as reporter:
        assert isinstance(reporter, SilentReporter)
    assert not list(tmp_path.iterdir())


def test_a_missing_wandb_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with (
        pytest.raises(UsageError, match="not installed") as caught,
        wandb_board(tmp_path, project="p", config={}),
    ):
        pass
    assert "talent-factory[wandb]" in caught.value.remedy


_OFFLINE = """
import sys, pathlib
from talent_factory.training.board import wandb_board
run = pathlib.Path(sys.argv[1])
for part in range(2):  # the second time as a resume does
    with wandb_board(run, project="proof", config={"lora_rank": 4}) as reporter:
        for step in range(3 * part + 1, 3 * part + 4):
            reporter.event("step", step=step, loss=step / 8)
        reporter.event("validation", step=3 * part + 3, loss=0.0625)
        reporter.event("sample", step=3 * part + 3, path=str(run / "sample.png"))
"""


def _field(text: str) -> bytes:
    """A short text as protobuf writes it, length first."""
    return bytes([len(text)]) + text.encode()


def test_the_real_wandb_works_offline_and_sends_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "sample.png")
    nowhere = "http://127.0.0.1:9"
    env = os.environ | {
        "WANDB_MODE": "offline", "WANDB_BASE_URL": nowhere, "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere,
        "HOME": str(tmp_path / "home"),
    }  # fmt: skip
    command = [sys.executable, "-c", _OFFLINE, str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    own = (tmp_path / "wandb" / "id").read_text()
    logs = [path.read_bytes() for folder in folders for path in folder.glob("*.wandb")]
    assert len(logs) == 2
    assert all(f"-{own}" in folder.name for folder in folders)
    for log in logs:
        assert _field(tmp_path.name) in log
        for word in (b"train/loss", b"validation/loss", b"0.0625", b"lora_rank", b"samples"):
            assert word in log
        assert _field(socket.gethostname()) not in log
    assert b"0.375" in logs[0]
    assert b"0.75" in logs[1]


def test_a_stranger_to_wandb_is_told_what_to_do(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    env |= {"WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", _OFFLINE, str(tmp_path)]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1
    last = [line for line in done.stderr.splitlines() if "UsageError" in line or "try:" in line]
    assert any("talent_factory.core.errors.UsageError: wandb: proof" in line for line in last), done.stderr
    assert any("WANDB_MODE=offline" in line for line in last), done.stderr
