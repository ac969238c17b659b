"""One training in a process of its own, timed step by step: `python benchmarks/one_training.py ORDER.json`.

Prints one line of JSON. A process each keeps one trainer's memory, caches and threads out of the other's.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from reference_loop import Work


class Clock:
    """When each step ended, as a reporter is told; a trainer may tell of several steps at once."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, float]] = []

    def event(self, kind: str, **said: Any) -> None:
        """Keep the moment of a step."""
        if kind == "step":
            self.ends.append((int(said["step"]), time.perf_counter()))

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        """Nothing to keep."""

    def message(self, text: str) -> None:
        """Nothing to keep."""


def moments(ends: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The last step of each group that was told of at one time: (step, when)."""
    if len(ends) < 2:
        return ends
    usual = (ends[-1][1] - ends[0][1]) / (len(ends) - 1)
    apart = pairwise(ends)
    return [now for now, later in apart if later[1] - now[1] > 0.2 * usual] + [ends[-1]]


def pace(ends: list[tuple[int, float]], *, warmup: int) -> dict[str, float]:
    """Seconds a step after the first `warmup`: the mean, and the median of the told groups."""
    told = [item for item in moments(ends) if item[0] >= warmup]
    if len(told) < 2:
        raise SystemExit(f"{len(ends)} steps are too few to time after a warm-up of {warmup}")
    groups = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(told)]
    first, last = told[0], told[-1]
    return {
        "step_seconds_mean": (last[1] - first[1]) / (last[0] - first[0]),
        "step_seconds_median": statistics.median(groups),
        "timed_steps": last[0] - first[0],
    }


def run_ours(work: Work, extra: dict[str, Any]) -> tuple[list[tuple[int, float]], float]:
    """Our trainer through its public function; returns the ends of its steps and when the LoRA lay there."""
    from talent_factory.training.config import TrainConfig
    from talent_factory.training.loop import train

    keys: dict[str, Any] = {
        "id": "avatar.identity.selftest",
        "kind": "lora",
        "sdx_version": "xl" if (work.base / "text_encoder_2").is_dir() else "1.5",
        "base_model": "mini" if work.base.name == "mini" else str(work.base),
        "train_data_dir": str(work.dataset),
        "resolution": work.resolution,
        "lora_rank": work.rank,
        "lora_alpha": work.alpha,
        "max_train_steps": work.steps,
        "learning_rate": work.learning_rate,
        "batch_size": work.batch,
        "token": "selftest",
        "precision": work.precision,
        "gradient_checkpointing": work.checkpointing,
        "device": work.device,
        "seed": work.seed,
        # as the reference: every caption read, all timesteps alike, nothing drawn or saved on the way
        "captions": {"dropout": 0.0},
        "loss": {"weighting": "none"},
        "sample_every": 0,
        "checkpoint_every": work.steps,
        **extra,
    }
    clock = Clock()
    train(TrainConfig(**keys), dataset=work.dataset, run=work.out, reporter=clock)
    return clock.ends, time.perf_counter()


def run_reference(work: Work) -> tuple[list[tuple[int, float]], float]:
    """The reference loop."""
    from reference_loop import train_reference

    ends: list[tuple[int, float]] = []
    train_reference(work, after=lambda step, _: ends.append((step, time.perf_counter())))
    return ends, time.perf_counter()


def memory(device: str) -> dict[str, float]:
    """The most memory this process ever held, in MB."""
    figures = {"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if device == "cuda":
        import torch

        figures["peak_cuda_mb"] = torch.cuda.max_memory_allocated() / 2**20
        figures["reserved_cuda_mb"] = torch.cuda.max_memory_reserved() / 2**20
        free, total = torch.cuda.mem_get_info()
        figures["taken_cuda_mb"] = (total - free) / 2**20
    return figures


def main() -> None:
    """Train as the order says and print what it took."""
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    kind, warmup, extra = order.pop("kind"), order.pop("warmup"), order.pop("extra", {})
    paths = {field.name for field in fields(Work) if field.type == "Path"}
    work = Work(**{name: Path(value) if name in paths else value for name, value in order.items()})
    begun = time.perf_counter()
    ends, ended = run_ours(work, extra) if kind == "ours" else run_reference(work)
    figures = {
        **pace(ends, warmup=warmup),
        "setup_seconds": ends[0][1] - begun,
        "all_seconds": ended - begun,
        **memory(work.device),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
    }
    print(json.dumps({name: round(value, 5) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
