"""The durable, bounded queue of render jobs: DBOS on a SQLite file of the workspace, or on Postgres.

The database is the only truth about a job's state; images and the story of a job lie in its folder.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from talent_factory.core.errors import TalentError, UsageError, WorkspaceBusy
from talent_factory.core.workspace import Workspace
from talent_factory.service.places import count_images, images_folder, job_folder, service_folder
from talent_factory.service.wire import FINAL, Job, RenderAsk, State

if TYPE_CHECKING:
    from dbos import DBOSClient, WorkflowStatus

APPLICATION = "talent-factory"
# Fixed: jobs that an earlier version of this package took in must be found again after an update.
FORMAT = "1"
QUEUE = "renders"
WORKFLOW = "render"
WAITING = ["ENQUEUED", "PENDING", "DELAYED"]
ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_SWEPT_AT_A_TIME = 100
_STATES: dict[str, State] = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "running",
    "CANCELLED": "cancelled",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
}


class ServiceBusy(WorkspaceBusy):
    """No more is taken in for now; `retry_after_s` in seconds."""

    def __init__(self, message: str, *, remedy: str = "", retry_after_s: int = 5) -> None:
        super().__init__(message, remedy=remedy or f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class KeyTaken(UsageError):
    """An idempotency key came with another request than the first time."""


class NoSuchJob(TalentError):
    """There is no job of that id."""


def database_url(place: Workspace, given: str | None = None) -> str:
    """The address of the queue's database: the one given, else a SQLite file of the workspace.

    Raises UsageError for an address that is neither SQLite nor Postgres.
    """
    if given:
        if not given.startswith(("postgresql://", "postgresql+psycopg://", "sqlite:///")):
            raise UsageError(
                "the database is neither Postgres nor SQLite", remedy="write postgresql://HOST/NAME"
            )
        return given
    return f"sqlite:///{service_folder(place) / 'queue.sqlite'}"


def serializer() -> Any:
    """How arguments and results stand in the database: as JSON, never as pickles."""
    from dbos import DBOSPortableJSONSerializer

    return DBOSPortableJSONSerializer()


def prepare_database(url: str) -> None:
    """Make or bring up to date the tables; idempotent. Raises UsageError when they cannot be reached."""
    from dbos import DBOS
    from sqlalchemy.exc import SQLAlchemyError

    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            # readers and the one writer do not block each other; the file remembers it
            connection.execute("PRAGMA journal_mode=WAL")
    try:
        DBOS.migrate(url)
    except (SQLAlchemyError, ValueError) as error:
        # what is said of a bad address may repeat its password: only what a server answered is told
        said = str(getattr(error, "orig", None) or "that is no address").partition("\n")[0]
        raise UsageError(
            f"the database cannot be used: {said[:300]}", remedy="talent serve --help, at --database"
        ) from None


class Outcome(NamedTuple):
    """The state of a job, and why it failed."""

    state: State
    message: str = ""
    remedy: str = ""


class Jobs:
    """Takes jobs in, tells how they are, cancels them; safe for many threads."""

    def __init__(self, place: Workspace, url: str, *, limit: int = 64) -> None:
        """Connect to the queue at `url`, whose tables exist, for at most `limit` jobs that wait or run."""
        from dbos import DBOSClient

        self._place = place
        self._limit = limit
        self._taking = threading.Lock()
        self._client: DBOSClient = DBOSClient(
            system_database_url=url,
            serializer=serializer(),
            system_database_pool_size=8,
            application_name=APPLICATION,
        )

    def close(self) -> None:
        """Let go of the database."""
        self._client.destroy()

    def submit(self, ask: RenderAsk, *, total: int, kits: dict[str, str], key: str | None = None) -> Job:
        """Take one job in; `kits` are the digests it was checked with, `total` its number of images.

        The same `key` with the same request gives the job of the first time. Raises ServiceBusy, or KeyTaken
        for another request under a used key.
        """
        job_id = secrets.token_hex(12) if key is None else _keyed(key)
        with self._taking:  # looking and taking in are one step for all threads of the one server
            if key is not None and (known := self.known(ask, key=key)) is not None:
                return known
            if self.active() >= self._limit:
                raise ServiceBusy(f"{self._limit} jobs wait or run already")
            # what the asker left out stays out: a persona has its own numbers for it
            order = {"ask": ask.model_dump(mode="json", exclude_unset=True), "total": total, "kits": kits}
            self._client.enqueue(
                {
                    "queue_name": QUEUE,
                    "workflow_name": WORKFLOW,
                    "workflow_id": job_id,
                    "app_version": FORMAT,
                },
                order,
            )
        return self.get(job_id)

    def known(self, ask: RenderAsk, *, key: str) -> Job | None:
        """The job that was taken in under `key`; None when none was. Raises KeyTaken for another request."""
        found = self._find(_keyed(key))
        if found is not None and found.request.model_dump(exclude_unset=True) != ask.model_dump(
            exclude_unset=True
        ):
            raise KeyTaken("this idempotency key belongs to another request", remedy="use a new key")
        return found

    def get(self, job_id: str) -> Job:
        """One job. Raises UsageError for what is no id, NoSuchJob when there is none."""
        images_folder(self._place, job_id)
        job = self._find(job_id)
        if job is None:
            raise NoSuchJob(f"there is no job {job_id}", remedy="GET /jobs lists them")
        return job

    def recent(self, *, limit: int = 50, offset: int = 0) -> tuple[Job, ...]:
        """Jobs, the newest first."""
        found = self._client.list_workflows(name=WORKFLOW, limit=limit, offset=offset, sort_desc=True)
        return tuple(self._job(status) for status in found)

    def active(self) -> int:
        """How many wait or run."""
        return len(
            self._client.list_workflows(
                name=WORKFLOW, status=WAITING, limit=self._limit + 1, load_input=False, load_output=False
            )
        )

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that waits or runs; one that is over stays as it is."""
        self.get(job_id)
        self._client.cancel_workflow(job_id)
        return self.get(job_id)

    def outcome(self, job_id: str) -> Outcome | None:
        """How a job ended; None while it waits or runs."""
        found = self._client.list_workflows(workflow_ids=[job_id], load_input=False)
        outcome = _outcome(found[0]) if found else Outcome("failed", "there is no such job any more")
        return outcome if outcome.state in FINAL else None

    def forget(self, *, older_than: timedelta) -> int:
        """Remove jobs that ended so long ago, images and all; returns how many."""
        before = (datetime.now(UTC) - older_than).isoformat()
        removed = 0
        while found := self._client.list_workflows(
            name=WORKFLOW,
            status=ENDED,
            completed_before=before,
            limit=_SWEPT_AT_A_TIME,
            load_input=False,
            load_output=False,
        ):
            for status in found:
                # the folder first: without its row nobody would ever look for it again
                shutil.rmtree(job_folder(self._place, status.workflow_id), ignore_errors=True)
                self._client.delete_workflow(status.workflow_id)
            removed += len(found)
        return removed

    def take_over(self, orphans: str, *, count: int) -> int:
        """Queue again what workers `orphans-N` with N >= `count` were drawing: nobody else will."""
        found = self._client.list_workflows(
            name=WORKFLOW, status="PENDING", load_input=False, load_output=False
        )
        mine = {f"{orphans}-{index}" for index in range(count)}
        lost = [
            status.workflow_id
            for status in found
            if (who := status.executor_id or "").startswith(f"{orphans}-") and who not in mine
        ]
        for job_id in lost:
            self._client.resume_workflow(job_id, queue_name=QUEUE)
        return len(lost)

    def _find(self, job_id: str) -> Job | None:
        found = self._client.list_workflows(workflow_ids=[job_id], name=WORKFLOW)
        return self._job(found[0]) if found else None

    def _job(self, status: WorkflowStatus) -> Job:
        order = status.input["args"][0] if status.input else {}
        state, message, remedy = _outcome(status)
        total = int(order.get("total", 0))
        return Job(
            id=status.workflow_id,
            state=state,
            total=total,
            done=total if state == "done" else count_images(images_folder(self._place, status.workflow_id)),
            created_at=_moment(status.created_at) or datetime.now(UTC),
            ended_at=_moment(status.completed_at),
            message=message,
            remedy=remedy,
            request=_request(order.get("ask", {})),
        )


def _keyed(key: str) -> str:
    """The id of the job that an idempotency key stands for."""
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def _request(data: Any) -> RenderAsk:
    """What was asked for; nothing where another version of this package took in what this one cannot read."""
    try:
        return RenderAsk.model_validate(data)
    except ValidationError:
        return RenderAsk()


def _outcome(status: WorkflowStatus) -> Outcome:
    if status.status != "SUCCESS":
        state = _STATES[status.status]
        broken = "an error of ours, kept in the log of the worker" if state == "failed" else ""
        return Outcome(state, broken, "send the request again" if broken else "")
    told = status.output if isinstance(status.output, dict) else {}
    failed = told.get("state") == "failed"
    return Outcome("failed" if failed else "done", str(told.get("message", "")), str(told.get("remedy", "")))


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
