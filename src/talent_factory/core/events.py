"""How long work tells what it does: one small port, and adapters that write, mute or share it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


class Reporter(Protocol):
    """Listens to work in progress; implementations never raise for what they are told."""

    def event(self, kind: str, **fields: object) -> None:
        """Something happened that a program may want to read later."""

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        """`done` of `total` units of `stage` are ready; `note` is a short live value such as the loss."""

    def message(self, text: str) -> None:
        """A line for the human."""


class SilentReporter:
    """Hears all and says nothing."""

    def event(self, kind: str, **fields: object) -> None:
        """Ignore it."""

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        """Ignore it."""

    def message(self, text: str) -> None:
        """Ignore it."""


class EventLog:
    """Appends events and messages as JSON lines with a UTC time; progress is too chatty to keep."""

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(self._path)

    def event(self, kind: str, **fields: object) -> None:
        """Append one line: time, event and the fields (which must be JSON or have a text form)."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **fields}
        # one write call on an append descriptor: lines of two writers do not mix
        with open(self._path, "ab", buffering=0) as stream:
            stream.write(json.dumps(line, ensure_ascii=False, default=str).encode("utf-8") + b"\n")

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        """Not kept."""

    def message(self, text: str) -> None:
        """Append the line as a `message` event."""
        self.event("message", text=text)


class Fanout:
    """Passes everything on to several reporters."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def event(self, kind: str, **fields: object) -> None:
        """Pass the event on."""
        for reporter in self._reporters:
            reporter.event(kind, **fields)

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        """Pass the progress on."""
        for reporter in self._reporters:
            reporter.progress(stage, done, total, unit=unit, note=note)

    def message(self, text: str) -> None:
        """Pass the message on."""
        for reporter in self._reporters:
            reporter.message(text)


def _drop_torn_line(path: Path) -> None:
    """Cut what a killed writer left after the last whole line."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
