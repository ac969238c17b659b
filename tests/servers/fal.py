"""A server that speaks fal's queue and its list of requests on loopback, and can misbehave.

Faults are planned per kind of request: `server.faults.plan("submit", "reset-after")`.

submit    401  403-balance  429  500-before  500-after  reset-before  reset-after  html  garbage (accepted)
          policy  invalid  runner-500  nsfw  no-output (accepted; the job ends so)
poll      500  reset  odd
list      500
download  truncated  404
"""

from __future__ import annotations

import re
import threading
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from servers.forms import paint
from servers.loopback import Exchange, Faults, Loopback

KEY = "fal-loopback-key:0123456789abcdef"
# What each model takes besides prompt, seed, output_format, sync_mode and safety_tolerance.
MODELS: dict[str, set[str]] = {
    "fal-ai/flux-pro/kontext": {"image_url", "aspect_ratio", "num_images", "guidance_scale"},
    "fal-ai/flux-pro/kontext/max": {"image_url", "aspect_ratio", "num_images", "guidance_scale"},
    "fal-ai/flux-2-pro/edit": {"image_urls", "image_size"},
}
_COMMON = {"prompt", "seed", "output_format", "sync_mode", "safety_tolerance"}
_ENDED = {
    "policy": (422, "content_policy_violation", "The content could not be processed: it was flagged."),
    "invalid": (422, "value_error", "aspect_ratio: unexpected value"),
    "runner-500": (500, "internal_server_error", "The runner failed"),
}


@dataclass
class Job:
    """One request: what was asked and how it ends."""

    id: str
    model: str
    input: dict[str, object]
    fate: str
    at: datetime
    polls: int = 0
    cancelled: bool = False


class FakeFal(Loopback):
    """The service; a job is queued, runs, and is done at its third poll. Only ended jobs are listed."""

    def __init__(self, *, faults: Faults | None = None, page_size: int = 50) -> None:
        super().__init__(self._answer)
        self.faults = faults or Faults()
        self.busy_s = 7
        self.page_size = page_size
        self.jobs: dict[str, Job] = {}
        self.counts: Counter[str] = Counter()
        self._guard = threading.RLock()

    def _answer(self, ask: Exchange) -> None:
        with self._guard:
            file = re.fullmatch(r"/files/([a-f0-9-]+)\.(jpeg|png)", ask.path)
            if file:
                self._download(ask, self.jobs[file[1]])
            elif ask.headers.get("authorization") != f"Key {KEY}":
                ask.json(401, {"detail": "Cannot access application. Authentication is required."})
            elif ask.path == "/v1/models/requests/by-endpoint":
                self._list(ask)
            elif ask.method == "POST" and ask.path.strip("/") in MODELS:
                self._submit(ask, ask.path.strip("/"))
            else:
                self._one(ask)

    def _submit(self, ask: Exchange, model: str) -> None:
        fault = self.faults.take("submit")
        self.counts["submit"] += 1
        if fault == "401":
            ask.json(401, {"detail": "Invalid key"})
        elif fault == "403-balance":
            ask.json(403, {"detail": "User is locked. Reason: Exhausted balance."})
        elif fault == "429":
            ask.json(429, {"detail": "Too many requests"}, {"Retry-After": str(self.busy_s)})
        elif fault == "500-before":
            ask.json(500, {"detail": "Internal Server Error"})
        elif fault == "reset-before":
            ask.reset()
        elif fault == "html":
            ask.page()
        else:
            body = ask.data()
            # the queue takes anything; what does not fit fails when it runs
            fits = set(body) <= _COMMON | MODELS[model] and str(body.get("safety_tolerance")) in "123456"
            fate = fault if fault in (*_ENDED, "nsfw", "no-output") else "ok" if fits else "invalid"
            job = Job(str(uuid.uuid4()), model, body, fate, datetime.now(UTC))
            self.jobs[job.id] = job
            base = f"{self.url}/{'/'.join(model.split('/')[:2])}/requests/{job.id}"
            if fault == "500-after":
                ask.json(500, {"detail": "Internal Server Error"})
            elif fault == "reset-after":
                ask.reset()
            elif fault == "garbage":
                ask.send(200, b'{"request_id": ', "application/json")
            else:
                answer = {"status": "IN_QUEUE", "request_id": job.id, "queue_position": 0}
                urls = {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}
                ask.json(200, answer | urls)

    def _one(self, ask: Exchange) -> None:
        found = re.fullmatch(
            r"/fal-ai/(flux-pro|flux-2-pro)/requests/([A-Za-z0-9-]+)(/status|/cancel)?", ask.path
        )
        job = self.jobs.get(found[2]) if found else None
        if found is None or job is None or job.model.split("/")[1] != found[1]:
            ask.json(404, {"detail": "Request not found"})
        elif found[3] == "/cancel":
            if ask.method != "PUT":
                ask.json(405, {"detail": "Method Not Allowed"})
            elif self._state(job) == "COMPLETED":
                ask.json(400, {"status": "ALREADY_COMPLETED"})
            else:
                job.cancelled = True
                ask.json(202, {"status": "CANCELLATION_REQUESTED"})
        elif found[3] == "/status":
            self._status(ask, job)
        else:
            self._result(ask, job)

    def _status(self, ask: Exchange, job: Job) -> None:
        self.counts["poll"] += 1
        fault = self.faults.take("poll")
        if fault == "500":
            ask.json(500, {"detail": "Internal Server Error"})
        elif fault == "reset":
            ask.reset()
        elif fault == "odd":
            ask.json(200, {"status": "DREAMING"})
        else:
            job.polls += 1
            state = self._state(job)
            extra = {"error": "cancelled", "error_type": "request_cancelled"} if job.cancelled else {}
            ask.json(200 if state == "COMPLETED" else 202, {"status": state, "request_id": job.id} | extra)

    def _state(self, job: Job) -> str:
        if job.cancelled or job.polls > 2:
            return "COMPLETED"
        return "IN_QUEUE" if job.polls <= 1 else "IN_PROGRESS"

    def _result(self, ask: Exchange, job: Job) -> None:
        self.counts["result"] += 1
        if self._state(job) != "COMPLETED":
            ask.json(400, {"detail": "Request is still in progress"})
        elif job.fate in _ENDED:
            status, kind, text = _ENDED[job.fate]
            detail = [{"loc": ["body", "prompt"], "msg": text, "type": kind}]
            ask.json(status, {"detail": detail}, {"X-Fal-Error-Type": kind})
        else:
            kind = str(job.input.get("output_format", "jpeg"))
            image = {"url": f"{self.url}/files/{job.id}.{kind}", "content_type": f"image/{kind}"}
            images = [] if job.fate == "no-output" else [image]
            ask.json(
                200, {"images": images, "has_nsfw_concepts": [job.fate == "nsfw"], "seed": job.input["seed"]}
            )

    def _list(self, ask: Exchange) -> None:
        self.counts["list"] += 1
        if self.faults.take("list") == "500":
            ask.json(500, {"error": {"message": "Internal"}})
            return
        assert ask.query["expand"] == "payloads"
        start = datetime.fromisoformat(ask.query.get("start", "2000-01-01T00:00:00Z"))
        ended = [
            job
            for job in reversed(self.jobs.values())
            if self._state(job) == "COMPLETED" and job.model == ask.query["endpoint_id"] and job.at >= start
        ]
        first = int(ask.query.get("cursor", "0"))
        page = ended[first : first + self.page_size]
        more = first + len(page) < len(ended)
        items = [{"request_id": job.id, "endpoint_id": job.model, "json_input": job.input} for job in page]
        ask.json(
            200, {"items": items, "has_more": more, "next_cursor": str(first + len(page)) if more else None}
        )

    def _download(self, ask: Exchange, job: Job) -> None:
        self.counts["download"] += 1
        fault = self.faults.take("download")
        assert "authorization" not in ask.headers or ask.headers["authorization"] == f"Key {KEY}"
        if fault == "404":
            ask.send(404, b"gone", "text/plain")
            return
        size = job.input.get("image_size")
        if isinstance(size, dict):
            width, height = int(size["width"]), int(size["height"])
        else:
            across, down = (int(part) for part in str(job.input["aspect_ratio"]).split(":"))
            width, height = across * 96 // max(across, down), down * 96 // max(across, down)
        kind = str(job.input.get("output_format", "jpeg"))
        data = paint(f"{job.input['seed']}/{job.input['prompt']}", width, height, kind)
        ask.send(200, data, f"image/{kind}", cut=len(data) // 2 if fault == "truncated" else 0)
