"""The figures of a score and what they must reach."""

from __future__ import annotations

from collections.abc import Mapping

from talent_factory.core.records import Record

LEAST_CORRELATION = 0.8
MOST_LEAK = 0.1
MOST_SHUFFLED = 0.2
ARTICULATION = (0.7, 1.3)


class Figures(Record):
    """One row: means over all clips. None where a figure makes no sense.

    `correlation`, `concordance` and `articulation` (ratio of deviations) compare the mouth's opening with the
    truth; `offset` is how many frames it is late; `leak` how far it stands open on silence; `upper_psnr` (dB)
    and `ssim` compare pictures; `sync_*` is what the SyncNet says.
    """

    name: str
    correlation: float | None = None
    concordance: float | None = None
    offset: int | None = None
    articulation: float | None = None
    leak: float | None = None
    upper_psnr: float | None = None
    ssim: float | None = None
    sync_offset: int | None = None
    sync_error: float | None = None
    sync_confidence: float | None = None


class Check(Record):
    """One target: what was asked, what came, whether it is reached."""

    what: str
    value: float
    target: str
    reached: bool

    @property
    def shown(self) -> str:
        """The value as people read it: three digits after the point, none for frames, no -0."""
        return f"{round(self.value, 3) + 0.0:g}"


class Score(Record):
    """All rows, and the checks on them."""

    format_version: int = 1
    clips: tuple[str, ...]
    frames: int
    rows: tuple[Figures, ...]
    checks: tuple[Check, ...] = ()

    @property
    def reached(self) -> bool:
        """Whether every check holds."""
        return all(check.reached for check in self.checks)

    def row(self, name: str) -> Figures:
        """The row called `name`."""
        return next(row for row in self.rows if row.name == name)


def checks_of(rows: Mapping[str, Figures]) -> tuple[Check, ...]:
    """The targets of a talking head, for the rows that are there."""
    found: list[Check] = []

    def check(row: str, field: str, what: str, target: str, low: float, high: float) -> None:
        value = getattr(rows[row], field) if row in rows else None
        if value is not None:
            found.append(Check(what=what, value=value, target=target, reached=low <= value <= high))

    low, high = ARTICULATION
    check("ours", "correlation", "mouth follows the sound", f">= {LEAST_CORRELATION}", LEAST_CORRELATION, 1.0)
    check("ours", "offset", "frames too late", "0", 0, 0)
    check("ours", "articulation", "how far the mouth moves", f"{low} to {high}", low, high)
    check("silence", "leak", "open on silence", f"<= {MOST_LEAK}", 0.0, MOST_LEAK)
    check(
        "shuffled audio",
        "correlation",
        "foreign sound must not fit",
        f"within {MOST_SHUFFLED} of 0",
        -MOST_SHUFFLED,
        MOST_SHUFFLED,
    )
    check("audio 5 frames late", "offset", "late sound must be found late", "5", 5, 5)
    check("copied reference", "correlation", "a copy must not fit", "0", -0.05, 0.05)
    return tuple(found)
