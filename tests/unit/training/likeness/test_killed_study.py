"""A real SIGKILL at touches of the disk while checkpoints are measured: the same choice, the same bytes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from talent_factory.core.errors import Cancelled
from talent_factory.core.events import SilentReporter
from talent_factory.core.files import sha256_file
from talent_factory.core.stop import StopSignal
from talent_factory.training import loop, runs
from talent_factory.training.config import TrainConfig
from talent_factory.training.likeness import book
from talent_factory.training.selftest import forked

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
quiet_fork = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

_TOUCHES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
_KEPT = (runs.LORA_FILE, runs.LOSS_FILE, book.MEASURES_FILE, book.CHOICE_FILE)


@pytest.fixture
def config(make_config: Callable[..., TrainConfig]) -> TrainConfig:
    """Four measured checkpoints, of which training itself keeps only the newest."""
    keys = {"measure": True, "every": 1, "encoder": "probe", "prompts": 2, "seeds": 1, "steps": 2}
    return make_config(
        max_train_steps=4, checkpoint_every=1, keep_checkpoints=1, choose={**keys, "weights": (0.5, 1.0)}
    )


def outcome(run: Path) -> dict[str, str]:
    """What must be the same: the LoRA, the log, the measures, the choice, all pictures and candidates."""
    files = [run / name for name in _KEPT]
    files += [*(run / book.SHEETS).iterdir(), *(run / book.CANDIDATES).iterdir()]
    return {path.relative_to(run).as_posix(): sha256_file(path) for path in files}


def train_until(config: TrainConfig, *, dataset: Path, run: Path, touch: int) -> None:
    """Train, and be killed right before the given touch of the folder; -1 writes the count."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in _TOUCHES and arguments and str(arguments[0]).startswith(str(run)):
            if seen == touch:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(hook)
    loop.train(config, dataset=dataset, run=run)
    run.with_suffix(".touches").write_text(str(seen))


def life(config: TrainConfig, dataset: Path, run: Path, touch: int) -> int:
    child = forked(partial(train_until, config, dataset=dataset, run=run, touch=touch))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(config: TrainConfig, dataset: Path, folder: Path, *, points: int) -> None:
    assert life(config, dataset, folder / "whole", -1) == 0
    total = int((folder / "whole.touches").read_text())
    for point in range(points):
        touch = total * (2 * point + 1) // (2 * points)
        run = folder / f"run{touch}"
        assert life(config, dataset, run, touch) == -signal.SIGKILL
        assert life(config, dataset, run, -1) == 0
        assert outcome(run) == outcome(folder / "whole"), f"killed before touch {touch} of {total}"
        assert not list(run.rglob(".tmp-*"))


@needs_fork
@quiet_fork
def test_killed_at_some_touches(config: TrainConfig, dataset: Path, tmp_path: Path) -> None:
    kill_at(config, dataset, tmp_path, points=2)


@needs_fork
@quiet_fork
@pytest.mark.slow
def test_killed_at_many_touches(config: TrainConfig, dataset: Path, tmp_path: Path) -> None:
    kill_at(config, dataset, tmp_path, points=40)


class _StopAfter(SilentReporter):
    def __init__(self, step: int) -> None:
        self.step, self.stop = step, StopSignal()

    def event(self, kind: str, **fields: object) -> None:
        if kind == "step" and fields["step"] == self.step:
            self.stop.request()


def test_a_pause_leads_to_the_same_choice(config: TrainConfig, dataset: Path, tmp_path: Path) -> None:
    loop.train(config, dataset=dataset, run=tmp_path / "whole")
    run = tmp_path / "paused"
    for step in (1, 3):
        reporter = _StopAfter(step)
        with pytest.raises(Cancelled):
            loop.train(config, dataset=dataset, run=run, reporter=reporter, stop=reporter.stop)
    loop.resume(run)
    assert outcome(run) == outcome(tmp_path / "whole")
    assert [item.step for item in book.read_measures(run)] == [0, 1, 2, 3, 4]


def test_what_is_kept_can_be_chosen_though_its_checkpoint_is_gone(
    config: TrainConfig, dataset: Path, tmp_path: Path
) -> None:
    loop.train(config, dataset=dataset, run=tmp_path)
    assert [path.name for path in (tmp_path / runs.CHECKPOINTS).glob("step_*")] == ["step_00000004"]
    assert list(book.candidates(tmp_path)) == [1, 2, 3, 4]
    assert runs.finished(tmp_path) is not None


def test_a_plateau_ends_the_training_early(config: TrainConfig, dataset: Path, tmp_path: Path) -> None:
    """With made-up measures of a first good checkpoint, as the first life left them."""
    patient = config.model_copy(update={"choose": config.choose.model_copy(update={"patience": 1})})
    reporter = _StopAfter(1)
    with pytest.raises(Cancelled):
        loop.train(patient, dataset=dataset, run=tmp_path, reporter=reporter, stop=reporter.stop)
    first = book.read_measures(tmp_path)[-1]
    better = first.model_copy(update={"identity": tuple(value + 0.3 for value in first.identity)})
    book.write_measure(tmp_path, better)
    loop.resume(tmp_path)
    assert [item.step for item in book.read_measures(tmp_path)] == [0, 1, 2]
    choice = book.read_choice(tmp_path)
    assert choice is not None
    assert (choice.step, choice.last_step) == (1, 2)
