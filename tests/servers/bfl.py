"""A server that speaks Black Forest Labs' API on loopback, and can misbehave.

Faults are planned per kind of request: `server.faults.plan("submit", "reset-after")`.

submit    402  403  422  429  500-before  500-after  reset-before  reset-after  html
          no-polling-url  strange-host
          moderated-request  moderated-content  error  no-output (accepted; the job ends so)
poll      500  reset  odd
download  truncated  403
"""

from __future__ import annotations

import base64
import re
import threading
import uuid
from collections import Counter
from dataclasses import dataclass

from servers.forms import image_size, paint
from servers.loopback import Exchange, Faults, Loopback

KEY = "bfl-loopback-key-0123456789"
_COMMON = {"prompt", "input_image", "seed", "output_format", "safety_tolerance"}
MODELS: dict[str, set[str]] = {
    "flux-kontext-pro": _COMMON | {"aspect_ratio", "prompt_upsampling"},
    "flux-kontext-max": _COMMON | {"aspect_ratio", "prompt_upsampling"},
    "flux-2-pro": _COMMON | {"width", "height"},
    "flux-2-klein-4b": _COMMON | {"width", "height"},
    "flux-2-max": _COMMON | {"width", "height"},
}
_ENDS = {
    "moderated-request": "Request Moderated",
    "moderated-content": "Content Moderated",
    "error": "Error",
}


@dataclass
class Job:
    """One task: what was asked and how it ends."""

    id: str
    model: str
    input: dict[str, object]
    fate: str
    polls: int = 0


class FakeBfl(Loopback):
    """The service; a task is pending at its first two polls."""

    def __init__(self, *, faults: Faults | None = None) -> None:
        super().__init__(self._answer)
        self.faults = faults or Faults()
        self.busy_s = 3
        self.jobs: dict[str, Job] = {}
        self.counts: Counter[str] = Counter()
        self.downloads: list[dict[str, str]] = []
        self._guard = threading.RLock()

    def _answer(self, ask: Exchange) -> None:
        with self._guard:
            sample = re.fullmatch(r"/delivery/([a-f0-9-]+)/sample\.(jpeg|png)", ask.path)
            if sample:
                self._download(ask, self.jobs[sample[1]])
            elif ask.headers.get("x-key") != KEY:
                ask.json(403, {"detail": "Not authenticated - Invalid Authentication"})
            elif ask.method == "POST" and ask.path.startswith("/v1/"):
                self._submit(ask, ask.path.removeprefix("/v1/"))
            elif ask.path == "/v1/get_result":
                self._poll(ask)
            else:
                ask.json(404, {"detail": "Not Found"})

    def _submit(self, ask: Exchange, model: str) -> None:
        fault = self.faults.take("submit")
        self.counts["submit"] += 1
        body = ask.data()
        problem = _problem(model, body)
        if fault in ("402", "403", "422"):
            ask.json(int(fault), {"detail": "Insufficient credits" if fault == "402" else "Refused"})
        elif fault == "429":
            ask.json(429, {"detail": "Too many active tasks", "retry_after": self.busy_s})
        elif fault == "500-before":
            ask.json(500, {"detail": "Internal Server Error"})
        elif fault == "reset-before":
            ask.reset()
        elif fault == "html":
            ask.page()
        elif problem:
            ask.json(422, {"detail": [{"loc": ["body"], "msg": problem, "type": "value_error"}]})
        else:
            fate = fault if fault in (*_ENDS, "no-output") else "ok"
            job = Job(str(uuid.uuid4()), model, body, fate)
            self.jobs[job.id] = job
            poll = f"{self.url}/v1/get_result?id={job.id}"
            if fault == "500-after":
                ask.json(500, {"detail": "Internal Server Error"})
            elif fault == "reset-after":
                ask.reset()
            elif fault == "no-polling-url":
                ask.json(200, {"id": job.id})
            elif fault == "strange-host":
                ask.json(200, {"id": job.id, "polling_url": "https://elsewhere.example/v1/get_result?id=1"})
            else:
                ask.json(
                    200, {"id": job.id, "polling_url": poll, "cost": 4.0, "input_mp": 1.0, "output_mp": 1.0}
                )

    def _poll(self, ask: Exchange) -> None:
        self.counts["poll"] += 1
        fault = self.faults.take("poll")
        job = self.jobs.get(ask.query.get("id", ""))
        if fault == "500":
            ask.json(500, {"detail": "Internal Server Error"})
        elif fault == "reset":
            ask.reset()
        elif fault == "odd":
            ask.json(200, {"id": "x", "status": "Dreaming", "result": None})
        elif job is None:
            ask.json(404, {"id": ask.query.get("id"), "status": "Task not found", "result": None})
        else:
            job.polls += 1
            ended = job.polls > 2
            status = _ENDS.get(job.fate, "Ready") if ended else "Pending"
            kind = str(job.input.get("output_format", "jpeg"))
            sample = f"{self.url}/delivery/{job.id}/sample.{kind}"
            result = {"sample": sample, "seed": job.input["seed"]} if status == "Ready" else None
            if job.fate == "no-output":
                result = {}
            details = {"Moderation Reasons": ["Safety Filter"]} if "Moderated" in status else None
            ask.json(
                200, {"id": job.id, "status": status, "result": result if ended else None, "details": details}
            )

    def _download(self, ask: Exchange, job: Job) -> None:
        self.counts["download"] += 1
        self.downloads.append(ask.headers)
        fault = self.faults.take("download")
        if fault == "403":
            ask.send(403, b"Signature expired", "text/plain")
            return
        if "width" in job.input:
            width, height = int(str(job.input["width"])), int(str(job.input["height"]))
        else:
            across, down = (int(part) for part in str(job.input["aspect_ratio"]).split(":"))
            width, height = across * 96 // max(across, down), down * 96 // max(across, down)
        kind = str(job.input.get("output_format", "jpeg"))
        data = paint(f"{job.input['seed']}/{job.input['prompt']}", width, height, kind)
        ask.send(200, data, f"image/{kind}", cut=len(data) // 2 if fault == "truncated" else 0)


def _problem(model: str, body: dict[str, object]) -> str:
    """Why an input is not valid, or ""."""
    if model not in MODELS:
        return f"no model {model}"
    unknown = set(body) - MODELS[model]
    if unknown:
        return f"unknown field {min(unknown)}"
    most = 6 if "kontext" in model else 5
    safety = body.get("safety_tolerance", 2)
    if not isinstance(safety, int) or not 0 <= safety <= most:
        return f"safety_tolerance must be 0 to {most}"
    try:
        portrait = base64.b64decode(str(body.get("input_image")), validate=True)
    except ValueError:
        return "input_image is no base64"
    if image_size(portrait) is None:
        return "input_image is no image"
    sides = [body.get(name, 64) for name in ("width", "height")]
    if any(not isinstance(side, int) or side < 64 or side % 16 for side in sides):
        return "width and height are whole multiples of 16 from 64 on"
    return "" if body.get("prompt") else "prompt is required"
