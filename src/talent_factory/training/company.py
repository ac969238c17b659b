"""One command in several processes: the first does all that is around a training, the others only train."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from talent_factory.core.errors import Cancelled, TalentError
from talent_factory.core.stop import StopSignal


def processes() -> int:
    """How many processes a launcher such as torchrun started together; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def helps() -> bool:
    """Whether this process is one of several, and not the first."""
    return processes() > 1 and os.environ.get("RANK", "0") != "0"


@contextmanager
def leading() -> Iterator[None]:
    """Trainings within this context are shared with the processes that help; they go when it is left.

    After an error they are left to the launcher, which ends them: nobody knows where they wait.
    """
    if processes() == 1:
        yield
        return
    from talent_factory.training.parallel import world

    with world() as together:
        try:
            yield
        except Cancelled:
            together.any(False)
            raise
        together.any(False)


def help_out(run: Path, *, stop: StopSignal) -> None:
    """Train with the first process whenever it trains in `run`, until it has nothing left to do.

    Raises Cancelled when they were asked to stop, TalentError when the first process ended with an error.
    """
    from talent_factory.training.loop import join
    from talent_factory.training.parallel import World, world

    def called(together: World) -> bool:
        try:
            return together.any(False)
        except RuntimeError as error:  # the other end of the connection is closed
            raise TalentError(
                "the first process ended before its work was done", remedy="see what it says, and start again"
            ) from error

    stopped: Cancelled | None = None
    with world() as together:
        while called(together):
            try:
                join(run, stop=stop)
            except Cancelled as error:
                stopped = error  # the first process has saved, and says when to go
    if stopped is not None:
        raise stopped
