"""Who may submit now: a sliding window that narrows when the provider is busy and closes when it must."""

from __future__ import annotations

import threading
import time

from talent_factory.core.errors import ProviderError
from talent_factory.datagen.retry import BREAKER, Pace


class Left(Exception):
    """The window is closed: go without a result; what is under way stays in the ledger."""


class Gate:
    """A window of at most `width` jobs at a time, for any number of threads.

    "Busy" halves it and holds everybody back for as long as the provider asks; each image widens it by one.
    `close` ends new submissions, `abort` every wait as well. After `BREAKER` failures of one kind in a row it
    closes by itself (not for `fragile=False`, where a failure costs nothing).
    """

    def __init__(self, width: int, pace: Pace, *, fragile: bool = True) -> None:
        self.pace = pace
        self.reason: BaseException | None = None
        self._width = float(width)
        self._limit = float(width)
        self._fragile = fragile
        self._inside = 0
        self._epoch = 0
        self._open_at = 0.0
        self._unreachable = 0
        self._kind, self._row = "", 0
        self._closed = False
        self._aborted = threading.Event()
        self._turn = threading.Condition()

    @property
    def closed(self) -> bool:
        """Whether nothing new may be submitted."""
        return self._closed

    @property
    def limit(self) -> int:
        """How many jobs may be in flight now."""
        return int(self._limit)

    @property
    def epoch(self) -> int:
        """Changes with every hold-up, so that failures of one and the same moment count once."""
        return self._epoch

    def enter(self) -> None:
        """Wait for a place. Raises Left when the window closes."""
        with self._turn:
            while not self._closed:
                wait = self._open_at - time.monotonic()
                if wait <= 0 and self._inside < max(1, int(self._limit)):
                    self._inside += 1
                    return
                self._turn.wait(wait if wait > 0 else None)
            raise Left

    def leave(self) -> None:
        """Give the place back."""
        with self._turn:
            self._inside -= 1
            self._turn.notify_all()

    def step_back(self) -> None:
        """Let others go first and queue again. Raises Left, still inside, when the window closes."""
        self.leave()
        try:
            self.enter()
        except Left:
            with self._turn:
                self._inside += 1
            raise

    def check(self) -> None:
        """Raises Left when nothing new may be submitted."""
        if self._closed:
            raise Left

    def pause(self, seconds: float) -> None:
        """Wait, in real seconds. Raises Left at once when the run is aborted."""
        if self._aborted.wait(max(0.0, seconds)):
            raise Left

    def busy(self, retry_after_s: float, *, since: int) -> None:
        """The provider asked for patience after a submission begun in the epoch `since`."""
        with self._turn:
            self._hold(retry_after_s)
            if since == self._epoch:
                self._epoch += 1
                self._limit = max(1.0, self._limit / 2)

    def unreachable(self, error: ProviderError, *, since: int) -> None:
        """No connection came about; every further time in a row waits longer, until the window closes."""
        with self._turn:
            if since != self._epoch:
                return
            self._epoch += 1
            self._unreachable += 1
            self._hold(self.pace.backoff(self._unreachable))
            if self._unreachable >= BREAKER:
                self.close(error)

    def reached(self) -> None:
        """The provider has accepted a submission."""
        self._unreachable = 0

    def success(self) -> None:
        """An image is finished: the window widens, the row of failures ends."""
        with self._turn:
            self._limit = min(self._width, self._limit + 1)
            self._kind, self._row = "", 0
            self._turn.notify_all()

    def failure(self, kind: str, message: str) -> None:
        """An attempt failed; too many of one kind in a row close the window."""
        with self._turn:
            self._row = self._row + 1 if kind == self._kind else 1
            self._kind = kind
            if self._fragile and self._row >= BREAKER:
                self.close(
                    ProviderError(
                        f"{self._row} submissions in a row failed the same way: {message}",
                        remedy="mend the cause and run the same command again: what is made is kept",
                    )
                )

    def close(self, reason: BaseException | None = None) -> None:
        """Let nobody in any more; what is inside goes on to its end. The first reason is kept."""
        with self._turn:
            if self.reason is None:
                self.reason = reason
            self._closed = True
            self._turn.notify_all()

    def abort(self) -> None:
        """Close, and end every wait: threads leave, and the ledger keeps what they waited for."""
        self.close()
        self._aborted.set()

    @property
    def aborted(self) -> bool:
        """Whether everybody was asked to leave at once."""
        return self._aborted.is_set()

    def _hold(self, seconds: float) -> None:
        self._open_at = max(self._open_at, time.monotonic() + seconds)
