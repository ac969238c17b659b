"""Stop a training from another terminal: ask the process that holds the lock, wait until it has saved."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from talent_factory.core.errors import TalentError, UsageError, WorkspaceBusy
from talent_factory.core.workspace import exclusive
from talent_factory.training.runs import RunStatus, read_run, run_status

_POLL_SECONDS = 0.05


def stop_run(run: Path, *, patience: float = 120.0) -> RunStatus:
    """Ask the process that trains in `run` to save and end; returns how far the run is then.

    Raises FileError when `run` is none, UsageError when nobody trains there, TalentError when the process
    cannot be asked or has not ended after `patience` seconds (it still will, at its next step).
    """
    read_run(run)
    holder = lock_holder(run)
    if holder is None:
        raise UsageError(f"nobody trains in {run}", remedy="talent train status")
    try:
        os.kill(holder, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it ended by itself in this very moment
    except PermissionError:
        raise TalentError(
            f"process {holder}, which trains in {run}, belongs to somebody else",
            remedy="stop it as the user who began it",
        ) from None
    until = time.monotonic() + patience
    while lock_holder(run) is not None:
        if time.monotonic() > until:
            raise TalentError(
                f"process {holder} was asked, but still trains in {run} after {patience:g} s",
                remedy=f"wait: it saves at its next step; talent train status {run} --watch shows when",
            )
        time.sleep(_POLL_SECONDS)
    return run_status(run)


def lock_holder(run: Path) -> int | None:
    """The process that holds the lock of `run`, or None. Raises TalentError when it did not leave its id."""
    try:
        with exclusive(run):
            return None
    except WorkspaceBusy as busy:
        text = (run / ".lock").read_text("ascii", errors="replace").strip()
        if not text.isdecimal():
            raise TalentError(busy.message, remedy="wait until it ends") from None
        return int(text)
