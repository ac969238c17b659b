"""An image provider that is a folder: jobs outlive the process, faults come as ordered. For tests."""

from __future__ import annotations

import json
import random
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from talent_factory.core.errors import (
    ContentFlagged,
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    ResultExpired,
    SubmitUnknown,
)
from talent_factory.core.files import sha256_file, write_json
from talent_factory.core.records import Record
from talent_factory.providers.port import Capabilities, EditRequest, JobStatus

_SKEW_S = 60.0
_FATES: dict[str, JobStatus] = {
    "flagged": JobStatus(state="failed", code="E005", message="flagged as sensitive", flagged=True),
    "transient": JobStatus(state="failed", code="E1000", message="it broke", transient=True, billed=False),
    "broken": JobStatus(state="failed", code="E999", message="it cannot be made", billed=False),
    "cancelled": JobStatus(state="cancelled", message="cancelled"),
}


class FakeJob(Record):
    """An accepted submission, as it lies in the folder; times in seconds since 1970."""

    id: str
    slot: str
    seed: int
    prompt: str
    aspect: str
    long_side: int
    accepted_at: float
    ready_at: float
    fate: str = "ok"


class FakeEditor:
    """An `ImageEditor` over `folder`; another object on the same folder is another client of one service.

    `faults` are by slot, one word for each of its submissions in turn: busy, unreachable, refused, moderated,
    lost-before, lost-after (of the answer; "before" means that no job came to be), flagged, transient,
    broken, cancelled, cut (the first download is damaged), expired, ok. `step` hears of every step on the way
    ("submit", "accepted", "poll", "fetch", ...), which is where tests kill.
    """

    def __init__(
        self,
        folder: Path,
        *,
        latency_s: float = 0.0,
        faults: Mapping[str, Sequence[str]] | None = None,
        capabilities: Mapping[str, object] | None = None,
        step: Callable[[str], None] | None = None,
    ) -> None:
        self._jobs, self._asked = folder / "jobs", folder / "asked"
        self._latency_s = latency_s
        self._faults = {slot: tuple(words) for slot, words in (faults or {}).items()}
        self._can = Capabilities.model_validate(
            {
                "any_medium": True,
                "any_aspect": True,
                "price_usd": 0.04,
                "price_as_of": "2026-11-01",
                "max_in_flight": 40,
                "seed": True,
                "recoverable": True,
                "resumable": True,
                "result_ttl_s": 3600,
                **(capabilities or {}),
            }
        )
        self._step = step or (lambda _: None)
        self._lock = threading.Lock()
        self._cut: set[str] = set()
        for part in (self._jobs, self._asked):
            part.mkdir(parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        """The word under which manifests record this provider."""
        return "fake"

    def capabilities(self) -> Capabilities:
        """As it was made: a recoverable service over the network, 0.04 dollars an image, unless told."""
        return self._can

    def jobs(self) -> list[FakeJob]:
        """All jobs that were ever accepted, in order."""
        # hidden ones are submissions that were killed on their way in
        paths = [path for path in self._jobs.glob("*.json") if not path.name.startswith(".")]
        found = [FakeJob.model_validate_json(path.read_bytes()) for path in paths]
        return sorted(found, key=lambda job: (job.accepted_at, job.id))

    def payload(self, request: EditRequest) -> dict[str, object]:
        """The words and numbers, and the portrait's digest."""
        portrait = {"sha256": sha256_file(request.portrait), "bytes": request.portrait.stat().st_size}
        return {"prompt": request.prompt, "seed": request.seed, "portrait": portrait}

    def submit(self, request: EditRequest) -> str:
        """Accept a request, or fail as ordered."""
        self._step("submit")
        if not request.portrait.is_file():
            raise ProviderError(f"slot {request.slot}: cannot read the portrait {request.portrait}")
        fault = self._fault(request.slot)
        if fault == "busy":
            raise ProviderBusy("asked to wait", retry_after_s=0.01)
        if fault == "unreachable":
            raise ProviderUnreachable("no connection")
        if fault == "refused":
            raise ProviderRefused("the key is not valid", remedy="check FAKE_KEY")
        if fault == "moderated":
            raise ContentFlagged("the prompt was refused")
        if fault == "lost-before":
            raise SubmitUnknown("the connection broke")
        job = self._accept(request, fault)
        self._step("accepted")
        if fault == "lost-after":
            raise SubmitUnknown("the connection broke")
        return job.id

    def poll(self, job_id: str) -> JobStatus:
        """State of a job by the clock."""
        self._step("poll")
        job = self._job(job_id)
        if time.time() < job.ready_at:
            return JobStatus(state="running")
        return _FATES.get(job.fate, JobStatus(state="succeeded", billed=True))

    def fetch(self, job_id: str) -> bytes:
        """A JPEG of soft patches drawn from the seed."""
        self._step("fetch")
        job = self._job(job_id)
        if self.poll(job_id).state != "succeeded":
            raise ProviderError(f"job {job_id} has no image", remedy="poll it until it has succeeded")
        ttl = self._can.result_ttl_s
        if job.fate == "expired" or (ttl is not None and time.time() > job.ready_at + ttl):
            raise ResultExpired(f"the image of job {job_id} is no longer kept")
        data = _picture(job)
        with self._lock:
            cut = job.fate == "cut" and job_id not in self._cut
            self._cut.add(job_id)
        return data[: len(data) // 2] if cut else data

    def cancel(self, job_id: str) -> None:
        """Give a job up."""
        job = self._job(job_id)
        self._write(job.model_copy(update={"fate": "cancelled", "ready_at": 0.0}))

    def find(self, seed: int, *, since: datetime | None = None) -> str | None:
        """The job with this seed, accepted since a moment."""
        self._step("find")
        oldest = (since or datetime.fromtimestamp(0, UTC)).timestamp() - _SKEW_S
        return next((job.id for job in self.jobs() if job.seed == seed and job.accepted_at >= oldest), None)

    def _fault(self, slot: str) -> str:
        with self._lock:
            words = self._faults.get(slot, ())
            number = len(list(self._asked.glob(f"{slot}.*")))
            (self._asked / f"{slot}.{number}").touch()
        return words[number] if number < len(words) else "ok"

    def _accept(self, request: EditRequest, fault: str) -> FakeJob:
        now = time.time()
        facts = request.model_dump(include={"slot", "seed", "prompt", "aspect", "long_side"})
        ready = now + self._latency_s
        job = FakeJob(id=secrets.token_hex(8), accepted_at=now, ready_at=ready, fate=fault, **facts)
        self._write(job)
        return job

    def _write(self, job: FakeJob) -> None:
        write_json(self._jobs / f"{job.id}.json", job.model_dump(mode="json"))

    def _job(self, job_id: str) -> FakeJob:
        if not job_id.isalnum() or not (self._jobs / f"{job_id}.json").is_file():
            raise ProviderError(f"there is no job {job_id!r}", remedy="submit the request first")
        return FakeJob.model_validate(json.loads((self._jobs / f"{job_id}.json").read_bytes()))


def _picture(job: FakeJob) -> bytes:
    from PIL import Image

    across, down = (int(part) for part in job.aspect.split(":"))
    scale = job.long_side / max(across, down)
    size = max(1, round(across * scale)), max(1, round(down * scale))
    noise = random.Random(f"fake/{job.seed}").randbytes(6 * 4 * 3)
    image = Image.frombytes("RGB", (6, 4), noise).resize(size, Image.Resampling.BICUBIC)
    stream = BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()
