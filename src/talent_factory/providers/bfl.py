"""Black Forest Labs' own API: jobs that are polled at the address each of them names."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from talent_factory.core.errors import ProviderError, ProviderUnreachable, ResultExpired, SubmitUnknown
from talent_factory.providers.address import api_key, endpoint, is_loopback
from talent_factory.providers.asking import SAFETY, check_id, check_request, clamped, safety_asked
from talent_factory.providers.http import Answer, Http, Service
from talent_factory.providers.models import model_card
from talent_factory.providers.pictures import Portraits, checked_image
from talent_factory.providers.port import Capabilities, EditRequest, JobStatus
from talent_factory.providers.sizing import near_size

NAME = "bfl"
KEY_VARIABLE = "BFL_API_KEY"
BASE_VARIABLE = "BFL_BASE_URL"
KEY_PAGE = "https://dashboard.bfl.ai"
_BASE = "https://api.bfl.ai"
_OPTIONS = {SAFETY, "output_format", "prompt_upsampling"}
_WAITING = {"Pending": "queued", "Queued": "queued", "Processing": "running", "Generating": "running"}
_MODERATED = {"Request Moderated", "Content Moderated"}
_GONE = "Task not found"
# The key is sent to this service's own hosts only; each region has one.
_HOSTS = re.compile(r"api(\.[a-z0-9-]+)?\.bfl\.ai")
_JOB = r"[A-Za-z0-9_-]{1,80}@[A-Za-z0-9.:-]{1,80}"


class BflEditor:
    """An `ImageEditor` on api.bfl.ai.

    The key comes from `key` or BFL_API_KEY, the address from `base_url` or BFL_BASE_URL (with or without
    /v1). A job lives at the region that took it: its id is "id@host", enough to poll it from any process. The
    API has no list of jobs, so one whose answer was lost cannot be found. Finished images are kept for ten
    minutes. Options of a request: safety_tolerance (6 unless told; clamped to the model's range),
    output_format (jpeg, png), prompt_upsampling (true, false).
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        key: str | None = None,
        base_url: str | None = None,
        models_file: Path | None = None,
    ) -> None:
        self._card = model_card(NAME, model, own=models_file)
        self._base = endpoint(base_url, variables=[BASE_VARIABLE], default=_BASE, strip="/v1")
        secret = api_key(key, variables=[KEY_VARIABLE], service="Black Forest Labs", page=KEY_PAGE)
        self._headers = {"x-key": secret}
        self._regions: dict[str, Http] = {}
        self._portraits = Portraits()
        self._sent: dict[int, tuple[str, datetime]] = {}
        self._samples: dict[str, str] = {}
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The word under which manifests record this provider."""
        return NAME

    def capabilities(self) -> Capabilities:
        """What the registry says of the chosen model."""
        return self._card.capabilities()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for http in self._regions.values():
                http.close()

    def payload(self, request: EditRequest) -> dict[str, object]:
        """The request's body with the portrait as its digest, and what is sent otherwise than asked."""
        body = self._input(request, self._portraits.of(request).digest())
        facts: dict[str, object] = {"method": "POST", "path": f"/v1/{self._card.id}", "body": body}
        return facts | {"clamped": clamped(request, self._card)}

    def submit(self, request: EditRequest) -> str:
        """Create a job. Raises ProviderRefused before anything is sent when the model cannot do it."""
        body = self._input(request, self._portraits.of(request).data_url().partition(",")[2])
        home = urlsplit(self._base).netloc
        facts = self._at(home).post(f"/v1/{self._card.id}", body, submit=True).facts()
        address = str(facts.get("polling_url") or self._base)
        try:
            host = urlsplit(address).netloc
        except ValueError:
            host = ""
        job_id = f"{facts.get('id')}@{host}"
        if not facts.get("id") or not re.fullmatch(_JOB, job_id) or not self._is_ours(host):
            raise SubmitUnknown(
                "Black Forest Labs accepted a submission but named no job that can be polled",
                remedy="it may be paid: see the dashboard before the slot is cast again",
            )
        with self._lock:
            self._sent[request.seed] = job_id, datetime.now(UTC)
        return job_id

    def poll(self, job_id: str) -> JobStatus:
        """State of a job; moderated ones are `flagged`."""
        with self._lock:
            if job_id in self._cancelled:
                return JobStatus(state="cancelled")
        http, facts = self._ask(job_id)
        word = str(facts.get("status"))
        if word in _WAITING:
            return JobStatus(state="running" if _WAITING[word] == "running" else "queued")
        if word == "Ready":
            if self._sample(job_id, facts) is None:
                return JobStatus(
                    state="failed", code="no-output", message="ready without an image", transient=True
                )
            return JobStatus(state="succeeded", billed=True)
        if word in _MODERATED:
            reasons = facts.get("details")
            message = http.say(f"{word}: {reasons}" if reasons else word)
            # a request that is stopped at the door costs nothing, a picture that is held back does
            return JobStatus(
                state="failed", code=word.lower().replace(" ", "-"), message=message, flagged=True,
                billed=word == "Content Moderated",
            )  # fmt: skip
        if word in ("Error", "Failed"):
            message = http.say(facts.get("result") or facts.get("details") or word)
            return JobStatus(state="failed", code="error", message=message, transient=True)
        raise ProviderUnreachable(f"Black Forest Labs says {word[:40]!r} of job {job_id}: not understood")

    def fetch(self, job_id: str) -> bytes:
        """Download the image. Raises ResultExpired ten minutes after it was made."""
        with self._lock:
            if job_id in self._cancelled:
                raise ProviderError(f"job {job_id} was cancelled", remedy="submit the request again")
            sample = self._samples.get(job_id)
        http, facts = self._ask(job_id) if sample is None else (self._home(job_id), {})
        sample = sample or self._sample(job_id, facts)
        if sample is None:
            raise ProviderError(
                f"job {job_id} has no image: it is {str(facts.get('status'))[:40]!r}",
                remedy="poll it until it has succeeded",
            )
        return checked_image(http.download(sample), service="Black Forest Labs")

    def cancel(self, job_id: str) -> None:
        """Give a job up: the API cannot stop it, so it is charged, and only its picture is left alone."""
        self._ask(job_id)
        with self._lock:
            self._cancelled.add(job_id)

    def find(self, seed: int, *, since: datetime | None = None) -> str | None:
        """The job of this object with this seed; other processes' jobs cannot be listed."""
        with self._lock:
            job_id, at = self._sent.get(seed, (None, None))
        return job_id if at is not None and (since is None or at >= since) else None

    def _input(self, request: EditRequest, portrait: object) -> dict[str, object]:
        card = self._card
        check_request(request, card, service="Black Forest Labs", options=_OPTIONS)
        body: dict[str, object] = dict(card.fixed)
        body |= {"prompt": request.prompt, "seed": request.seed, card.input["portrait"]: portrait}
        if card.input.get("size") == "pixels":
            body["width"], body["height"] = near_size(request.aspect, request.long_side, multiple=16)
        else:
            body["aspect_ratio"] = request.aspect
        for name in ("output_format", "prompt_upsampling"):
            if name in request.options:
                text = request.options[name]
                body[name] = {"true": True, "false": False}.get(text, text)
        safety = card.clamp_safety(safety_asked(request))
        return body if safety is None else body | {SAFETY: safety}

    def _ask(self, job_id: str) -> tuple[Http, dict[str, object]]:
        """The job as its region shows it. Raises ResultExpired for one it does not know (any more)."""
        http = self._home(job_id)
        gone = ResultExpired(
            f"Black Forest Labs has no job {job_id!r}", remedy="images are kept for ten minutes: cast again"
        )

        def judge(answer: Answer) -> ProviderError | None:
            known = answer.status != 404 and answer.facts().get("status") != _GONE
            return None if known else gone

        return http, http.get("/v1/get_result", params={"id": job_id.partition("@")[0]}, judge=judge).facts()

    def _sample(self, job_id: str, facts: dict[str, object]) -> str | None:
        result = facts.get("result")
        sample = result.get("sample") if isinstance(result, dict) else None
        if facts.get("status") != "Ready" or not isinstance(sample, str) or not sample:
            return None
        with self._lock:
            self._samples[job_id] = sample
        return sample

    def _home(self, job_id: str) -> Http:
        check_id(job_id, service="Black Forest Labs", pattern=_JOB)
        host = job_id.partition("@")[2]
        if not self._is_ours(host):
            raise ProviderError(
                f"job {job_id!r} names a host that is not asked", remedy="check the endpoint it was made at"
            )
        return self._at(host)

    def _is_ours(self, host: str) -> bool:
        return host == urlsplit(self._base).netloc or (
            not is_loopback(self._base) and _HOSTS.fullmatch(host) is not None
        )

    def _at(self, host: str) -> Http:
        """The connections to one region."""
        base = self._base if host == urlsplit(self._base).netloc else f"https://{host}"
        with self._lock:
            if host not in self._regions:
                service = Service("Black Forest Labs", base, KEY_VARIABLE, KEY_PAGE)
                self._regions[host] = Http(service, headers=self._headers)
            return self._regions[host]
