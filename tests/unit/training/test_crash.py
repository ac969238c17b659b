"""A real SIGKILL at every single touch of the disk: what is left always resumes to the same bytes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from talent_factory.training import loop, runs
from talent_factory.training.config import TrainConfig
from talent_factory.training.selftest import forked, prove_resume

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    # the child uses one thread of its own and never the pools of its parent
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

_TOUCHES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


def _train_until(config: TrainConfig, *, dataset: Path, run: Path, touch: int) -> None:
    """Train, and be killed right before the given touch of the folder; -1 writes the count."""
    seen = 0
    place = str(run)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in _TOUCHES and arguments and str(arguments[0]).startswith(place):
            if seen == touch:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(hook)
    loop.train(config, dataset=dataset, run=run)
    run.with_suffix(".touches").write_text(str(seen))


def _life(config: TrainConfig, dataset: Path, run: Path, touch: int) -> int:
    child = forked(partial(_train_until, config, dataset=dataset, run=run, touch=touch))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _outcome(run: Path) -> tuple[bytes, bytes]:
    return (run / runs.LORA_FILE).read_bytes(), (run / runs.LOSS_FILE).read_bytes()


def _check(
    make_config: Callable[..., TrainConfig], dataset: Path, tmp_path: Path, *, points: int | None
) -> None:
    config = make_config(max_train_steps=4, checkpoint_every=1, keep_checkpoints=1)
    assert _life(config, dataset, tmp_path / "whole", -1) == 0
    total = int((tmp_path / "whole.touches").read_text())
    assert total > 50
    stride = 1 if points is None else total // points
    for touch in range(stride // 2, total, stride):
        run = tmp_path / f"run{touch}"
        assert _life(config, dataset, run, touch) == -signal.SIGKILL
        assert _life(config, dataset, run, -1) == 0
        assert _outcome(run) == _outcome(tmp_path / "whole"), f"killed before touch {touch}"
        assert not list(run.rglob(".tmp-*"))


def test_killed_at_some_touches(
    make_config: Callable[..., TrainConfig], dataset: Path, tmp_path: Path
) -> None:
    _check(make_config, dataset, tmp_path, points=8)


@pytest.mark.slow
def test_killed_at_every_touch(
    make_config: Callable[..., TrainConfig], dataset: Path, tmp_path: Path
) -> None:
    _check(make_config, dataset, tmp_path, points=None)


@pytest.mark.slow
def test_the_selftest_passes() -> None:
    from talent_factory.core.events import SilentReporter

    proof = prove_resume(kills=3, seed=1, reporter=SilentReporter())
    assert proof.passed
    assert proof.kills >= 3
    assert {"lora.safetensors", "loss.jsonl"} < set(proof.compared)
