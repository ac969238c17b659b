"""Pictures of providers that answer at once and keep nothing: held on disk until they are fetched."""

from __future__ import annotations

import secrets
import tempfile
import threading
import weakref
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from talent_factory.core.errors import ProviderError
from talent_factory.core.files import write_bytes
from talent_factory.providers.port import JobStatus


class Answered(ProviderError):
    """A submission that was answered, and not with a picture: a failed job rather than a lost one."""

    def __init__(self, status: JobStatus) -> None:
        super().__init__(status.message)
        self.status = status


@dataclass
class _Held:
    seed: int
    path: Path | None
    status: JobStatus
    since: datetime = field(default_factory=lambda: datetime.now(UTC))


class HeldPictures:
    """The jobs of one editor whose submissions return finished pictures.

    They lie in a temporary folder that goes with this object, so that memory stays flat however many there
    are. Safe to use from several threads.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        # by hand, not TemporaryDirectory: that one warns when an editor is simply dropped
        self._folder = Path(tempfile.mkdtemp(prefix="talent-held-"))
        self._jobs: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._clear = weakref.finalize(self, _remove, self._folder)

    def close(self) -> None:
        """Delete what is held; doing so twice is no error."""
        self._clear()

    def keep(self, seed: int, data: bytes) -> str:
        """Hold a finished picture; returns its job id."""
        job_id = secrets.token_hex(12)
        path = self._folder / job_id
        write_bytes(path, data)
        self._add(job_id, _Held(seed, path, JobStatus(state="succeeded", billed=True)))
        return job_id

    def fail(self, seed: int, status: JobStatus) -> str:
        """Remember a submission that was answered without a picture, paid or not; returns its job id."""
        job_id = secrets.token_hex(12)
        self._add(job_id, _Held(seed, None, status))
        return job_id

    def poll(self, job_id: str) -> JobStatus:
        """How the job ended."""
        return self._job(job_id).status

    def fetch(self, job_id: str) -> bytes:
        """The picture's bytes."""
        job = self._job(job_id)
        if job.path is None or job.status.state != "succeeded":
            raise ProviderError(
                f"job {job_id} has no image: it is {job.status.state}", remedy="submit the request again"
            )
        return job.path.read_bytes()

    def cancel(self, job_id: str) -> None:
        """Drop the picture; it has been paid."""
        job = self._job(job_id)
        job.status = JobStatus(state="cancelled", billed=True)
        if job.path is not None:
            job.path.unlink(missing_ok=True)

    def find(self, seed: int, since: datetime | None) -> str | None:
        """The newest job of this object with the seed."""
        with self._lock:
            for job_id, job in reversed(self._jobs.items()):
                if job.seed == seed and (since is None or job.since >= since):
                    return job_id
        return None

    def _add(self, job_id: str, job: _Held) -> None:
        with self._lock:
            self._jobs[job_id] = job

    def _job(self, job_id: str) -> _Held:
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise ProviderError(
                f"{self._service} keeps no jobs: {job_id[:60]!r} ended with the process that made it",
                remedy="cast the slot again",
            )
        return job


def _remove(folder: Path) -> None:
    for path in folder.glob("*"):
        path.unlink(missing_ok=True)
    folder.rmdir()
