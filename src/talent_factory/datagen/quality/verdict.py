"""The record of one check: what was measured, against what, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from talent_factory.core.records import Record

Verdict = Literal["pass", "warn", "fail", "not_measured"]

_RANK: dict[str, int] = {"not_measured": 0, "pass": 1, "warn": 2, "fail": 3}


class Check(Record):
    """One check of one image.

    `value` and `limit` share a unit that `name` implies (see `checks.py`); both are None where nothing was
    measured. `note` is one short clause for people: what is wrong, or why it was not measured.
    """

    name: str
    verdict: Verdict
    value: float | None = None
    limit: float | None = None
    note: str = ""


def worst_verdict(checks: Iterable[Check]) -> Verdict:
    """The gravest verdict among `checks`; `not_measured` when nothing was measured at all."""
    return max((check.verdict for check in checks), key=_RANK.__getitem__, default="not_measured")


def remarks(checks: Iterable[Check]) -> tuple[str, ...]:
    """The notes of the checks that did not pass, failures first."""
    bad = sorted(
        (check for check in checks if check.verdict in ("warn", "fail")), key=lambda c: -_RANK[c.verdict]
    )
    return tuple(check.note or check.name for check in bad)


def graded(name: str, value: float, *, good: float, bad: float, note: str, least: bool = False) -> Check:
    """Grade a `value` where more is worse: pass up to `good`, warn up to `bad`, fail beyond.

    With `least` less is worse: pass from `good` up, warn from `bad` up, fail below.
    """
    sign = -1.0 if least else 1.0
    fine, tolerable = sign * value <= sign * good, sign * value <= sign * bad
    verdict: Verdict = "pass" if fine else "warn" if tolerable else "fail"
    return Check(
        name=name,
        verdict=verdict,
        value=round(value, 4),
        limit=good if verdict != "fail" else bad,
        note="" if fine else note,
    )


def unmeasured(name: str, why: str) -> Check:
    """A check that could not be made, with the reason."""
    return Check(name=name, verdict="not_measured", note=why)
