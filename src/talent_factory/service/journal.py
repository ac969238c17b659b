"""The story of a job as JSON lines: the worker writes, any number of readers follow, a restart goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from talent_factory.core.events import EventLog
from talent_factory.service.wire import Event

JOURNAL = "events.jsonl"
# Between two notes about progress within one stage; the last of a stage is always written.
_PACE_SECONDS = 0.25
_SHOWN = ("progress", "image", "preview", "message")
_PLUMBING = {"time", "event"}


class Journal:
    """A reporter that keeps progress too, a few lines a second, in the folder of a job."""

    def __init__(self, folder: Path) -> None:
        self._log = EventLog(folder / JOURNAL)
        self._told: dict[str, float] = {}

    def event(self, kind: str, **fields: object) -> None:
        """Keep what readers of the service know; paths of this machine are not for them."""
        if kind in _SHOWN:
            self._log.event(
                kind, **{name: value for name, value in fields.items() if _plain(value) and name != "path"}
            )

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        """Keep it when the last one is some time ago, or the stage is at its end."""
        now = time.monotonic()
        if done < total and now - self._told.get(stage, -_PACE_SECONDS) < _PACE_SECONDS:
            return
        self._told[stage] = now
        self._log.event("progress", stage=stage, done=done, total=total, unit=unit, note=note)

    def message(self, text: str) -> None:
        """Keep the line."""
        self._log.event("message", text=text)


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool) or value is None


class Follower:
    """Reads the journal of a job after event number `after`; each call of `fresh` gives what is new."""

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        self._path = folder / JOURNAL
        self._after = after
        self._offset = 0
        self.last = 0
        """The number of the last whole line seen."""

    def fresh(self) -> Iterator[Event]:
        """Events that came since the last call; none while there is no journal yet."""
        try:
            with open(self._path, "rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self.last += 1
            event = _event(self.last, line)
            if self.last > self._after and event is not None:
                yield event


def _event(number: int, line: bytes) -> Event | None:
    try:
        fields: dict[str, Any] = json.loads(line)
        data = {name: value for name, value in fields.items() if name not in _PLUMBING}
        return Event(id=number, kind=str(fields["event"]), data=data)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
