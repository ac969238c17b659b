"""One process that draws: it takes jobs from the queue one at a time and keeps the base loaded between them.

It ends when its standard input closes, so a server that was killed leaves no worker behind. A job that is cut
that way stays `running` in the database, and the next worker of the same name takes it up: images that were
finished are kept.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from talent_factory.core.errors import Cancelled, TalentError, UsageError, WorkspaceBusy
from talent_factory.core.files import read_json, write_json
from talent_factory.core.stop import StopSignal, graceful_stop
from talent_factory.core.workspace import Workspace, exclusive
from talent_factory.service.faults import hide
from talent_factory.service.journal import Journal
from talent_factory.service.order import check_render, check_unchanged, draw, named_bases
from talent_factory.service.places import (
    DATABASE_VARIABLE,
    count_images,
    images_folder,
    job_folder,
    service_folder,
)
from talent_factory.service.queue import APPLICATION, FORMAT, QUEUE, WORKFLOW, serializer
from talent_factory.service.wire import RenderAsk

# How often in a row one job may take its process down without an image more before it is given up.
_LIVES = 3
_TRIES_FILE = "tries.json"
_WATCH_SECONDS = 0.4
# An image in the making is finished before the process ends; a large one takes its time.
_FAREWELL_SECONDS = 60.0
_LOCK_SECONDS = 90.0


class Worker:
    """Draws the jobs that the queue hands out, until it is asked to leave."""

    def __init__(self, place: Workspace, bases: Mapping[str, str]) -> None:
        self._place = place
        self._bases = bases
        self.leaving = StopSignal()
        self._at_work = threading.Lock()
        self.cancelled: Callable[[str], bool] = lambda job_id: False
        """Whether a job was cancelled by its owner; set once the queue is there."""

    def run(self, job_id: str, order: dict[str, Any]) -> dict[str, Any]:
        """Draw one job; returns its outcome as plain data. Never returns once this process is to leave."""
        with self._at_work:
            outcome = self._drawn(job_id, order)
        if self.leaving.requested and outcome["state"] == "stopped":
            # the job is not over: as long as nothing is returned, the database says `running`
            threading.Event().wait()
        return outcome

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until no image is in the making; False when it takes longer."""
        return self._at_work.acquire(timeout=seconds)

    def _drawn(self, job_id: str, order: dict[str, Any]) -> dict[str, Any]:
        journal = Journal(job_folder(self._place, job_id))
        try:
            ask = RenderAsk.model_validate(order["ask"])
            session = check_render(ask, place=self._place, bases=self._bases)
            check_unchanged(session, order["kits"])
            self._count_try(job_id)
            with self._watched(job_id) as stop:
                out = images_folder(self._place, job_id)
                count = draw(session, out=out, reporter=journal, stop=stop, preview=ask.preview)
        except Cancelled:
            self._forget_tries(job_id)
            return {"state": "stopped"}
        except TalentError as error:
            words = [hide(text, self._place, self._bases) for text in (error.message, error.remedy)]
            return {"state": "failed", "message": words[0], "remedy": words[1]}
        return {"state": "done", "images": count}

    def _count_try(self, job_id: str) -> None:
        """Note that the job begins; raises UsageError when it took this process down again and again."""
        path = job_folder(self._place, job_id) / _TRIES_FILE
        images = count_images(images_folder(self._place, job_id))
        known = read_json(path) if path.exists() else {}
        tries = known.get("tries", 0) if known.get("images") == images else 0
        if tries >= _LIVES:
            raise UsageError(
                f"the process that drew it died {tries} times: perhaps there was no memory left",
                remedy="ask for smaller images or a smaller batch",
            )
        write_json(path, {"tries": tries + 1, "images": images})

    def _forget_tries(self, job_id: str) -> None:
        (job_folder(self._place, job_id) / _TRIES_FILE).unlink(missing_ok=True)

    @contextmanager
    def _watched(self, job_id: str) -> Iterator[StopSignal]:
        """A signal that is raised when the job is cancelled or this process is to leave."""
        stop, over = StopSignal(), threading.Event()

        def watch() -> None:
            while not over.wait(_WATCH_SECONDS):
                if self.leaving.requested or self.cancelled(job_id):
                    stop.request()
                    return

        thread = threading.Thread(target=watch, name="watch", daemon=True)
        thread.start()
        try:
            yield stop
        finally:
            over.set()
            thread.join()


def join_queue(worker: Worker, *, name: str, url: str) -> None:
    """Begin to take jobs from the queue at `url`, those first that a worker of this `name` left."""
    from dbos import DBOS

    DBOS(
        config={
            "name": APPLICATION,
            "system_database_url": url,
            "application_version": FORMAT,
            "executor_id": name,
            "log_level": "WARNING",
            "enable_otlp": False,
            "serializer": serializer(),
            "run_migrations": False,
            "sys_db_pool_size": 4,
            "notification_listener_polling_interval_sec": 5.0,
            "scheduler_polling_interval_sec": 600.0,
        }
    )

    @DBOS.step(name="draw")
    def step(job_id: str, order: dict[str, Any]) -> dict[str, Any]:
        return worker.run(job_id, order)

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)
    def workflow(order: dict[str, Any]) -> dict[str, Any]:
        return step(DBOS.workflow_id or "", order)

    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=0.2, on_conflict="always_update")
    worker.cancelled = _cancelled


def _cancelled(job_id: str) -> bool:
    from dbos import DBOS

    status = DBOS.get_workflow_status(job_id)
    return status is None or status.status == "CANCELLED"


def _hold_name(held: ExitStack, folder: Path, leaving: StopSignal) -> None:
    """Hold the name of this worker; one of the same name that is about to leave is waited for."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while not leaving.requested:
        try:
            held.enter_context(exclusive(folder))
            return
        except WorkspaceBusy:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _leave_with_parent(leaving: StopSignal) -> None:
    """Ask to leave as soon as the server closes our standard input, by death or by wish."""
    while os.read(0, 4096):
        pass
    leaving.request()


def main(arguments: list[str] | None = None) -> None:
    """Draw until standard input closes or a signal asks to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--base", action="append", default=[])
    options = parser.parse_args(arguments)
    place = Workspace(options.workspace)
    url = os.environ[DATABASE_VARIABLE]
    worker = Worker(place, named_bases(tuple(options.base)))
    with graceful_stop() as asked, ExitStack() as held:
        threading.Thread(target=_leave_with_parent, args=(worker.leaving,), daemon=True).start()
        _hold_name(held, service_folder(place) / "workers" / options.name, worker.leaving)
        if not worker.leaving.requested:
            join_queue(worker, name=options.name, url=url)
        while not (asked.requested or worker.leaving.requested):
            time.sleep(0.1)
        worker.leaving.request()
        worker.wait_until_idle(_FAREWELL_SECONDS)
        sys.stderr.flush()
        # not by the library's farewell: a job that is left `running` must stay so in the database
        os._exit(0)


if __name__ == "__main__":
    main()
