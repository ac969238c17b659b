"""What the demo found, as demo.json keeps it."""

from __future__ import annotations

from pathlib import Path

from talent_factory.core.records import Record
from talent_factory.lipsync.demo.recipe import Size
from talent_factory.lipsync.score.records import Score

MOST_SECONDS = 600
"""The demo is meant to end within this time on two cores."""


class Watched(Record):
    """What was read from the frames of a finished video: the made opening beside the one that was meant."""

    name: str
    video: Path
    strip: Path
    made: tuple[float, ...]
    meant: tuple[float, ...]
    correlation: float
    offset: int
    articulation: float
    leak: float
    frames_per_second: float


class DemoResult(Record):
    """Everything the demo found; `seconds` by stage, over all runs that it took."""

    format_version: int = 1
    root: Path
    quick: bool
    size: Size
    steps: int
    parameters: int
    actor: Path
    score: Score
    watched: tuple[Watched, ...]
    seconds: dict[str, float]

    @property
    def total_seconds(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())
