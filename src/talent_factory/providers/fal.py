"""fal: jobs in a queue that keeps them, found again through the account's list of requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from talent_factory.core.errors import ProviderError, ProviderUnreachable, SubmitUnknown
from talent_factory.providers.address import api_key, endpoint
from talent_factory.providers.asking import SAFETY, check_id, check_request, clamped, safety_asked
from talent_factory.providers.http import Answer, Http, Judge, Service
from talent_factory.providers.models import model_card
from talent_factory.providers.pictures import Portraits, checked_image
from talent_factory.providers.port import Capabilities, EditRequest, JobState, JobStatus
from talent_factory.providers.sizing import near_size

NAME = "fal"
KEY_VARIABLE = "FAL_KEY"
BASE_VARIABLE = "FAL_BASE_URL"
KEY_PAGE = "https://fal.ai/dashboard/keys"
_QUEUE = "https://queue.fal.run"
_PLATFORM = "https://api.fal.ai"
_OPTIONS = {SAFETY, "output_format", "guidance_scale"}
_STATES: dict[str, JobState] = {"IN_QUEUE": "queued", "IN_PROGRESS": "running"}
# owner/app/requests/id: with the host before it, this is all that status, result and cancel need
_JOB = r"[A-Za-z0-9_-]{1,60}/[A-Za-z0-9_.-]{1,60}/requests/[A-Za-z0-9_-]{1,80}"
_MARGIN = timedelta(minutes=1)
_PAGE, _MAX_PAGES = 50, 20


class _Failed(ProviderError):
    """A job whose result is an error, with the status that says so."""

    def __init__(self, status: JobStatus) -> None:
        super().__init__(status.message)
        self.status = status


class FalEditor:
    """An `ImageEditor` on fal's queue.

    The key comes from `key` or FAL_KEY, the address from `base_url` or FAL_BASE_URL. Jobs wait in fal's queue
    as long as it takes and survive this process. A job whose answer was lost is looked for among the
    account's requests, which fal lists once they have ended. Options of a request: safety_tolerance (6 unless
    told, which fal really takes), output_format (jpeg, png), guidance_scale.
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
        base = endpoint(base_url, variables=[BASE_VARIABLE], default=_QUEUE)
        secret = api_key(key, variables=[KEY_VARIABLE], service="fal", page=KEY_PAGE)
        headers = {"authorization": f"Key {secret}"}
        self._http = Http(Service("fal", base, KEY_VARIABLE, KEY_PAGE), headers=headers)
        # a moved queue (a proxy, a test) is taken to answer for the list of requests as well
        platform = _PLATFORM if base == _QUEUE else base
        self._platform = Http(Service("fal", platform, KEY_VARIABLE, KEY_PAGE), headers=headers)
        self._portraits = Portraits()
        self._sent: dict[int, tuple[str, datetime]] = {}
        self._outputs: dict[str, str] = {}
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
        self._http.close()
        self._platform.close()

    def payload(self, request: EditRequest) -> dict[str, object]:
        """The request's body with the portrait as its digest, and what is sent otherwise than asked."""
        body = self._input(request, self._portraits.of(request).digest())
        facts: dict[str, object] = {"method": "POST", "path": f"/{self._card.id}", "body": body}
        return facts | {"clamped": clamped(request, self._card)}

    def submit(self, request: EditRequest) -> str:
        """Queue a job. Raises ProviderRefused before anything is sent when the model cannot do it."""
        body = self._input(request, self._portraits.of(request).data_url())
        facts = self._http.post(f"/{self._card.id}", body, submit=True).facts()
        job_id = self._job_id(facts)
        if job_id is None:
            raise SubmitUnknown(
                "fal accepted a submission but named no request", remedy="resume looks for it first"
            )
        with self._lock:
            self._sent[request.seed] = job_id, datetime.now(UTC)
        return job_id

    def poll(self, job_id: str) -> JobStatus:
        """State of a job; a completed one is asked for its result, which may be an error."""
        check_id(job_id, service="fal", pattern=_JOB)
        with self._lock:
            if job_id in self._cancelled:
                return JobStatus(state="cancelled")
            if job_id in self._outputs:
                return JobStatus(state="succeeded", billed=True)
        facts = self._http.get(f"/{job_id}/status", judge=self._judge(job_id)).facts()
        word = str(facts.get("status"))
        if word in _STATES:
            return JobStatus(state=_STATES[word])
        if word != "COMPLETED":
            raise ProviderUnreachable(f"fal says {word[:40]!r} of job {job_id}: not understood")
        if "cancel" in str(facts.get("error_type")).lower():
            return JobStatus(state="cancelled")
        try:
            self._result(job_id)
        except _Failed as failed:
            return failed.status
        return JobStatus(state="succeeded", billed=True)

    def fetch(self, job_id: str) -> bytes:
        """Download the image."""
        check_id(job_id, service="fal", pattern=_JOB)
        with self._lock:
            if job_id in self._cancelled:
                raise ProviderError(f"job {job_id} was cancelled", remedy="submit the request again")
            url = self._outputs.get(job_id)
        return checked_image(self._http.download(url or self._result(job_id)), service="fal")

    def cancel(self, job_id: str) -> None:
        """Give a job up: free while it waits; one that runs may be charged all the same."""
        check_id(job_id, service="fal", pattern=_JOB)
        with suppress(_Failed):  # it has ended already: nothing is left to give up
            self._http.put(f"/{job_id}/cancel", judge=self._judge(job_id))
        with self._lock:
            self._cancelled.add(job_id)

    def find(self, seed: int, *, since: datetime | None = None) -> str | None:
        """The job with this seed: one of ours, else the newest in the account's list of ended requests."""
        with self._lock:
            job_id, at = self._sent.get(seed, (None, None))
        if job_id is not None and at is not None and (since is None or at >= since):
            return job_id
        params = {"endpoint_id": self._card.id, "expand": "payloads", "limit": str(_PAGE)}
        if since is not None:
            params["start"] = (since - _MARGIN).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for _ in range(_MAX_PAGES):
            facts = self._platform.get("/v1/models/requests/by-endpoint", params=params).facts()
            items = facts.get("items")
            if not isinstance(items, list):
                raise ProviderUnreachable("fal's list of requests is not understood")
            for item in items:
                given = item.get("json_input") if isinstance(item, Mapping) else None
                if isinstance(given, Mapping) and given.get("seed") == seed:
                    return self._job_id(item)
            cursor = facts.get("next_cursor")
            if not facts.get("has_more") or not isinstance(cursor, str):
                return None
            params["cursor"] = cursor
        return None

    def _job_id(self, facts: Mapping[str, object]) -> str | None:
        """owner/app/requests/id, from the address that fal gives or the parts it is made of."""
        address = facts.get("response_url")
        path = urlsplit(address).path.strip("/") if isinstance(address, str) else ""
        if not re.fullmatch(_JOB, path):
            owner, app = self._card.id.split("/")[:2]
            path = f"{owner}/{app}/requests/{facts.get('request_id')}"
        return path if re.fullmatch(_JOB, path) and facts.get("request_id") else None

    def _input(self, request: EditRequest, portrait: object) -> dict[str, object]:
        card = self._card
        check_request(request, card, service="fal", options=_OPTIONS)
        body: dict[str, object] = dict(card.fixed)
        body |= {"prompt": request.prompt, "seed": request.seed}
        body[card.input["portrait"]] = [portrait] if card.input.get("portraits") == "list" else portrait
        if card.input.get("size") == "pixels":
            width, height = near_size(request.aspect, request.long_side, multiple=16)
            body["image_size"] = {"width": width, "height": height}
        else:
            body["aspect_ratio"] = request.aspect
        for name in ("output_format", "guidance_scale"):
            if name in request.options:
                text = request.options[name]
                body[name] = float(text) if re.fullmatch(r"\d{1,3}(\.\d+)?", text) else text
        safety = card.clamp_safety(safety_asked(request))
        return body if safety is None else body | {SAFETY: str(safety)}

    def _result(self, job_id: str) -> str:
        """The image's address. Raises _Failed when the result is an error or was flagged."""
        facts = self._http.get(f"/{job_id}", judge=self._judge(job_id)).facts()
        flags, images = facts.get("has_nsfw_concepts"), facts.get("images")
        if isinstance(flags, list) and any(flags):
            message = "the picture was flagged by fal's safety filter"
            raise _Failed(JobStatus(state="failed", code="nsfw", message=message, flagged=True, billed=True))
        first = images[0] if isinstance(images, list) and images else None
        url = first.get("url") if isinstance(first, Mapping) else None
        if not isinstance(url, str) or not url:
            message = "completed without an image"
            raise _Failed(JobStatus(state="failed", code="no-output", message=message, transient=True))
        with self._lock:
            self._outputs[job_id] = url
        return url

    def _judge(self, job_id: str) -> Judge:
        def judge(answer: Answer) -> ProviderError | None:
            if answer.status == 404:
                return ProviderError(f"fal has no job {job_id!r}", remedy="check the account of the key")
            kinds, message = _said(answer)
            # an error of the model comes under the job's own address, with a body that names its kind
            if answer.status in (400, 422) or (answer.status >= 500 and kinds):
                return _Failed(
                    JobStatus(
                        state="failed",
                        code=(kinds or [f"http-{answer.status}"])[0][:60],
                        message=f"HTTP {answer.status}: {self._http.say(message)}",
                        flagged=any("content_policy" in kind for kind in kinds),
                        transient=answer.status >= 500,
                        billed=False if answer.status >= 500 else None,
                    )
                )
            return None

        return judge


def _said(answer: Answer) -> tuple[list[str], str]:
    """The kinds of error that a body names, and its words."""
    detail = answer.facts().get("detail")
    parts = [part for part in detail if isinstance(part, Mapping)] if isinstance(detail, list) else []
    kinds = [str(part.get("type")) for part in parts if part.get("type")]
    header = answer.headers.get("x-fal-error-type")
    words = "; ".join(str(part.get("msg")) for part in parts) if parts else str(detail or answer.text)
    return kinds + ([header] if header else []), words
