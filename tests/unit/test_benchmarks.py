"""The benchmarks' own arithmetic, and the reference loop on a tiny base."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SOURCE = BENCHMARKS.parent / "src"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import each other as neighbours."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_steps_told_one_by_one() -> None:
    from one_training import pace

    told = pace([(step, 10.0 + 0.5 * step) for step in range(1, 11)], warmup=4)
    assert told == {"step_seconds_mean": 0.5, "step_seconds_median": 0.5, "timed_steps": 6}


def test_steps_told_in_groups_count_as_the_time_between_groups() -> None:
    from one_training import moments, pace

    ends = [(step, -(-step // 4) * 2.0 + 1e-4 * (step % 4)) for step in range(1, 17)]
    assert [step for step, _ in moments(ends)] == [4, 8, 12, 16]
    told = pace(ends, warmup=4)
    assert told["timed_steps"] == 12
    assert told["step_seconds_mean"] == pytest.approx(0.5, rel=1e-3)
    assert told["step_seconds_median"] == pytest.approx(0.5, rel=1e-3)


def test_too_few_steps_are_refused() -> None:
    from one_training import pace

    with pytest.raises(SystemExit, match="too few"):
        pace([(1, 0.0), (2, 1.0)], warmup=2)


def test_ratios_are_in_our_favour_when_more_than_one() -> None:
    from train_speed import CPU, compare

    best = {
        "ours": {"step_seconds_median": 1.0, "peak_rss_mb": 900.0},
        "reference": {"step_seconds_median": 1.5, "peak_rss_mb": 1000.0},
        "reference-cached": {"step_seconds_median": 0.5, "peak_rss_mb": 800.0},
    }
    figures = compare(best, CPU["mini"])
    assert figures["speedup_reference"] == 1.5
    assert figures["speedup_reference_cached"] == 0.5
    assert figures["memory_share"] == 0.9
    assert figures["images_a_second"] == 4.0


def test_unseen_characters_are_marked_and_differ() -> None:
    from choice import unseen_character

    found = [unseen_character(number) for number in range(10)]
    assert len(set(found)) == 10
    assert found == [unseen_character(number) for number in range(10)]
    assert all(who.signature.dot or who.signature.second_hair for who in found)


@pytest.mark.slow
def test_all_trainers_run_and_are_timed(tmp_path: Path) -> None:
    from talent_factory.training.families.random_base import make_random_base
    from talent_factory.training.tiny_data import make_tiny_dataset

    base = make_random_base(tmp_path / "base", seed=1)
    data = make_tiny_dataset(tmp_path / "data")
    for kind, cached in (("ours", False), ("reference", False), ("reference", True)):
        out = tmp_path / f"{kind}{cached}"
        out.mkdir()
        figures = _train(
            out,
            {
                "base": str(base),
                "dataset": str(data),
                "out": str(out / "run"),
                "kind": kind,
                "cached": cached,
            },
        )
        assert figures["timed_steps"] == 4
        assert figures["step_seconds_median"] > 0.0
        assert list((out / "run").glob("*.safetensors"))


def test_flops_of_the_embedded_base() -> None:
    from flops import step_flops

    mini = SOURCE / "talent_factory/assets/mini/unet"
    one = step_flops(mini, side=128, batch=1, rank=16)
    assert step_flops(mini, side=128, batch=2, rank=16) == pytest.approx(2 * one, rel=0.01)
    assert step_flops(mini, side=128, batch=1, rank=32) > one


def _train(folder: Path, order: dict[str, Any]) -> dict[str, float]:
    order |= {"warmup": 2, "resolution": 64, "steps": 6, "rank": 4, "precision": "fp32"}
    (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "one_training.py"), str(folder / "order.json")],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures
