"""A polite way to stop: the first signal asks, the work saves and ends by itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class StopSignal:
    """Whether someone asked the work to stop; loops look at `requested` between two steps."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    @property
    def requested(self) -> bool:
        """True after the first SIGTERM, Ctrl-C or `request()`."""
        return self._asked.is_set()

    def request(self) -> None:
        """Ask the work to stop at its next safe moment."""
        self._asked.set()


@contextmanager
def graceful_stop(notice: str = "") -> Iterator[StopSignal]:
    """Turn the first SIGTERM or Ctrl-C into a request; the second Ctrl-C interrupts at once.

    `notice` is a line for stderr, shown at the first. Handlers are put back at the end. Outside the main
    thread Python allows none; then only `request()` asks.
    """
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if notice and not stop.requested:
            # print() could meet itself here: the signal may have come in the middle of one
            with suppress(OSError):
                os.write(2, f"\n{notice}\n".encode())
        stop.request()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
