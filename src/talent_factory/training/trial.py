"""Train ten real steps in a process of their own, so that the time of a step is measured."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from talent_factory.core.errors import TalentError
from talent_factory.core.events import SilentReporter
from talent_factory.core.files import write_json
from talent_factory.core.records import Record
from talent_factory.training.config import TrainConfig

STEPS = 10
# Steps before the ten that count: kernels are chosen, graphs captured, caches filled.
_WARM_UP = 3


class Trial(Record):
    """What ten steps took: seconds of one, and bytes at the peak of the process or the card."""

    step_seconds: float
    memory: int
    setup_seconds: float


class Stopwatch(SilentReporter):
    """Notes when each step was first heard of; a trainer may tell of several at once."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.heard: list[tuple[int, float]] = []

    def event(self, kind: str, **fields: object) -> None:
        """Note a step or a checkpoint: both come after the device has done that step."""
        step = fields.get("step")
        if kind in ("step", "checkpoint") and isinstance(step, int):
            self.heard.append((step, time.perf_counter()))

    def step_seconds(self) -> float:
        """Seconds of one step after the warm-up. Raises TalentError when too few were heard of."""
        # of steps told together the last counts: only then all of them are known to be done
        last: dict[int, float] = {}
        for step, when in self.heard:
            last[step] = max(when, last.get(step, 0.0))
        steps = sorted(last)
        marks = [step for step in steps if step >= _WARM_UP]
        if len(marks) < 2 or marks[-1] == marks[0] or last[marks[-1]] <= last[marks[0]]:
            raise TalentError(
                "the trial told of too few steps to time one", remedy="talent train plan CONFIG"
            )
        return (last[marks[-1]] - last[marks[0]]) / (marks[-1] - marks[0])


def trial_config(config: TrainConfig) -> TrainConfig:
    """The same training, but thirteen steps of it and nothing drawn or measured."""
    total = _WARM_UP + STEPS
    update: dict[str, object] = {
        "max_train_steps": total,
        "warmup_steps": 0,
        "sample_every": 0,
        "checkpoint_every": _WARM_UP,
        "keep_checkpoints": 1,
        "tensorboard": False,
        "wandb": None,
        "choose": config.choose.model_copy(update={"measure": False}),
        "validation": config.validation.model_copy(update={"share": 0.0}),
    }
    return config.model_copy(update=update)


def run_trial(config: TrainConfig, *, dataset: Path, cache: Path | None = None) -> Trial:
    """Train the trial on `dataset` in another process, which takes its memory with it.

    `cache` keeps the encoded images for the real training. Raises TalentError with the process's last words.
    """
    with tempfile.TemporaryDirectory(prefix="talent-trial-") as name:
        folder = Path(name)
        write_json(folder / "config.json", trial_config(config).model_dump(mode="json"))
        order = [str(folder), str(dataset), str(cache or folder / "cache")]
        done = subprocess.run(
            [sys.executable, "-m", "talent_factory.training.trial", *order],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not (folder / "trial.json").is_file():
            last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            raise TalentError(f"the trial of {STEPS} steps failed: {last}", remedy="talent train plan CONFIG")
        return Trial.model_validate_json((folder / "trial.json").read_text("utf-8"))


def _main(folder: Path, dataset: Path, cache: Path) -> None:
    """The other process."""
    config = TrainConfig.model_validate(json.loads((folder / "config.json").read_text("utf-8")))
    from talent_factory.training.loop import train

    watch = Stopwatch()
    train(config, dataset=dataset, run=folder / "run", cache=cache, reporter=watch)
    trial = Trial(
        step_seconds=watch.step_seconds(),
        memory=peak_memory(),
        setup_seconds=watch.heard[0][1] - watch.begun,
    )
    write_json(folder / "trial.json", trial.model_dump(mode="json"))


def peak_memory() -> int:
    """Bytes at this process's peak: of the card where there is one, else of the process."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_reserved():
        return int(torch.cuda.max_memory_reserved())
    status = Path("/proc/self/status")
    if status.is_file():
        # ru_maxrss would also count the process that started this one
        line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().rss)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # the same field counts bytes on a Mac and kilobytes elsewhere
    return int(peak if sys.platform == "darwin" else peak * 1024)


if __name__ == "__main__":
    _main(*(Path(word) for word in sys.argv[1:4]))
