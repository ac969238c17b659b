"""Live progress for people and programs, always on stderr so that stdout stays the result."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TextIO

from talent_factory.core.plan import duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ProgressMode = Literal["auto", "bar", "lines", "json", "none"]


class ConsoleReporter:
    """Shows progress as a bar on a terminal, as one line per 10 % in a log, or as JSON lines.

    Use it as a context manager, or call `close()`, so that the terminal is left clean.
    """

    def __init__(
        self, *, mode: ProgressMode = "auto", quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._mode = _resolve(mode, quiet=quiet, stream=self._stream)
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, tuple[float, int]] = {}
        self._last_tenth: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the live display; the reporter may be used again after it."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._tasks.clear()

    def event(self, kind: str, **fields: object) -> None:
        """Events are for programs: shown only as JSON lines."""
        if self._mode == "json":
            self._json({"event": kind, **fields})

    def message(self, text: str) -> None:
        """Show one line."""
        if self._mode == "json":
            self._json({"event": "message", "text": text})
        elif self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif self._mode != "none":
            self._line(text)

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        """Show how far `stage` is, how fast it goes and what is left."""
        if self._mode == "none":
            return
        if self._mode == "json":
            self._json(
                {
                    "event": "progress",
                    "stage": stage,
                    "done": done,
                    "total": total,
                    "unit": unit,
                    "note": note,
                }
            )
        elif self._mode == "bar":
            self._draw(stage, done, total, unit=unit, note=note)
        else:
            self._log(stage, done, total, unit=unit, note=note)

    def _draw(self, stage: str, done: int, total: int, *, unit: str, note: str) -> None:
        if self._bar is None:
            self._bar = _make_bar(self._stream)
            self._bar.start()
        detail = f"{self._pace(stage, done, total, unit)}  {note}".rstrip()
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total, detail="")
        self._bar.update(self._tasks[stage], completed=done, total=total, detail=detail)
        if done >= total:
            self._bar.refresh()
            self._tasks.pop(stage)
            self._forget(stage)

    def _log(self, stage: str, done: int, total: int, *, unit: str, note: str) -> None:
        pace = self._pace(stage, done, total, unit)
        tenth = 10 * done // total if total > 0 else 10
        if tenth == self._last_tenth.get(stage, -1):
            return
        self._last_tenth[stage] = tenth
        parts = [f"{stage} {done}/{total}", f"{10 * tenth} %", pace, note]
        self._line("  ".join(part for part in parts if part))
        if done >= total:
            self._forget(stage)

    def _pace(self, stage: str, done: int, total: int, unit: str) -> str:
        """Units per second since the stage was first seen here, and the time left at that pace."""
        now = time.monotonic()
        begin, first = self._started.setdefault(stage, (now, done))
        elapsed, ready = now - begin, done - first
        if ready <= 0 or elapsed <= 0:
            return ""
        rate = ready / elapsed
        speed = f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"
        return f"{speed}  {duration((total - done) / rate)} left" if done < total else speed

    def _forget(self, stage: str) -> None:
        self._started.pop(stage, None)
        self._last_tenth.pop(stage, None)

    def _json(self, line: dict[str, object]) -> None:
        self._line(json.dumps(line, ensure_ascii=False, default=str))

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def _resolve(mode: ProgressMode, *, quiet: bool, stream: TextIO) -> ProgressMode:
    if mode == "json":
        return mode
    if quiet or mode == "none":
        return "none"
    if mode == "auto":
        return "bar" if stream.isatty() else "lines"
    return mode


def _make_bar(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=Console(file=stream),
        refresh_per_second=8,
    )
