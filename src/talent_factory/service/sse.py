"""The events of a job as a stream that a browser's EventSource reads and resumes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from talent_factory.service.journal import Follower
from talent_factory.service.queue import Outcome
from talent_factory.service.wire import Event

_POLL_SECONDS = 0.15
# The state is asked of the database, the journal only of the disk: the first less often than the second.
_STATE_SECONDS = 0.5
# Proxies close streams on which nothing comes.
_PULSE_SECONDS = 15.0


async def events(
    folder: Path, *, after: int, outcome: Callable[[], Outcome | None], ending: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """What happens to the job in `folder` after event `after`, until it is over or the server ends.

    The last event is the state `done`, `failed` or `cancelled`; a stream that ends without it can be resumed
    with the id of the last event that came.
    """
    follower = Follower(folder, after=after)
    asked = pulse = 0.0
    while not ending():
        # asked before the journal is read: what was written before the end is then told before the end
        now, found = time.monotonic(), None
        if now - asked >= _STATE_SECONDS:
            asked, found = now, await asyncio.to_thread(outcome)
        for event in await asyncio.to_thread(lambda: list(follower.fresh())):
            yield encode(event)
        if found is not None:
            why = {"message": found.message, "remedy": found.remedy} if found.message else {}
            yield encode(Event(id=follower.last + 1, kind=found.state, data=why))
            return
        if now - pulse >= _PULSE_SECONDS:
            pulse = now
            yield b": still here\n\n"
        await asyncio.sleep(_POLL_SECONDS)


def encode(event: Event) -> bytes:
    """One event in the text form of server-sent events (HTML standard, 9.2)."""
    data = json.dumps(event.data, ensure_ascii=False)
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n".encode()
