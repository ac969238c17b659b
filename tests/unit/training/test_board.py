"""TensorBoard is optional: numbers reach it when it is there, and its absence is said with a remedy."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from talent_factory.core.errors import UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.training.board import BoardReporter, board


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
    assert writer.seen == [("train/loss", 0.5, 3), ("train/lr", 1e-3, 3)]


def test_without_it_nothing_is_asked(tmp_path: Path) -> None:
    with board(tmp_path, wanted=False) as reporter:
        assert isinstance(reporter, SilentReporter)
    assert not list(tmp_path.iterdir())


def test_a_missing_tensorboard_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="not installed"), board(tmp_path, wanted=True):
        pass
