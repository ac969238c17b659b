"""A plan counts only what is still to do."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from talent_factory.core.plan import Plan, PlanStep, duration

PLAN = Plan(
    title="talent run",
    steps=(
        PlanStep(name="cast", detail="17 [images]", seconds=30, memory_mb=300, disk_mb=20, state="done"),
        PlanStep(name="train", seconds=100, memory_mb=2000, disk_mb=30, cost_usd=0.5),
        PlanStep(name="render", seconds=20, memory_mb=900, disk_mb=5),
    ),
)


def test_totals() -> None:
    assert (PLAN.seconds, PLAN.memory_mb, PLAN.disk_mb, PLAN.cost_usd) == (120, 2000, 35, 0.5)
    assert PLAN.as_json()["totals"] == {"seconds": 120, "memory_mb": 2000, "disk_mb": 35, "cost_usd": 0.5}
    assert Plan(title="nothing", steps=()).memory_mb == 0


def test_table_shows_all() -> None:
    stream = io.StringIO()
    Console(file=stream, width=120).print(PLAN.as_table())
    for word in ("17 [images]", "done", "2.0 GB", "2 min 0 s", "$0.50", "free"):
        assert word in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (190, "3 min 10 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
