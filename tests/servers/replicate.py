"""A server that speaks Replicate's HTTP API on loopback, counts what it was paid for, and fails on request.

Faults are planned per kind of request: `server.faults.plan("submit", "429", "reset-after")`.

submit    429  429-header  402  401  422  500-before  500-after  503-before  hang-before  hang-after
          reset-before  reset-after  html  garbage (accepted, answer damaged)
          E005  E1000  E6716  aborted  no-output (accepted; the job ends so)
poll      500  reset  html  429  hang
list      500  reset
download  truncated  truncated-open (no length given)  not-image  404  500  reset
"before" means that no job came to be; "after" that it did and is paid, but the client does not hear of it.

In its own process, so that it outlives a client that is killed:
`python tests/servers/replicate.py --journal FILE` prints its address and appends one JSON line an event.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import secrets
import signal
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from PIL import Image

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from servers.loopback import Exchange, Faults, Loopback

TOKEN = "r8_loopback_token_0123456789"
MODELS = {
    "black-forest-labs/flux-kontext-pro": ("input_image", 2),
    "black-forest-labs/flux-kontext-max": ("input_image", 2),
    "black-forest-labs/flux-2-pro": ("input_images", 5),
}
_FIELDS = {"prompt", "aspect_ratio", "output_format", "safety_tolerance", "seed"}
_OWN_FIELDS = {
    "input_image": {"input_image", "prompt_upsampling"},
    "input_images": {"input_images", "resolution", "output_quality", "width", "height"},
}
_FAILURES = {
    "E005": "The input or output was flagged as sensitive. Please try again with different inputs. (E005)",
    "E1000": "Unknown error while running the model (E1000)",
    "E6716": "Timed out while starting the prediction (E6716)",
}


@dataclass
class Job:
    """One prediction: what was asked, and how and when it ends."""

    id: str
    model: str
    input: dict[str, object]
    created: float
    latency_s: float
    fate: str
    polls: int = 0
    cancelled: float | None = None
    secret: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def seed(self) -> int | None:
        """The seed that was sent, if any."""
        seed = self.input.get("seed")
        return seed if isinstance(seed, int) else None


@dataclass(frozen=True)
class Behaviour:
    """How the server is. Times are in seconds before scaling by `time_scale`.

    Latency is log-normal with this median and sigma (0.604: mean 30 for median 25), drawn from the job's
    seed. `after_polls` ends a job at its so-manieth poll instead, whatever the clock says. `per_minute` and
    `burst` limit submissions, `queue_share` is the part of the latency spent in "starting". `listing_lag_s`
    hides new jobs from the list for a while. Prompts that hold a word of `flagged` end in E005.
    """

    median_s: float = 0.0
    sigma: float = 0.604
    time_scale: float = 1.0
    after_polls: int | None = None
    per_minute: float | None = None
    burst: int = 1
    queue_share: float = 0.2
    retention_s: float = 3600.0
    listing_lag_s: float = 0.0
    page_size: int = 100
    long_side: int = 192
    flagged: tuple[str, ...] = ()


class FakeReplicate(Loopback):
    """The service; `url` is what REPLICATE_BASE_URL is set to (with or without /v1)."""

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        port: int = 0,
        journal: Path | None = None,
        faults: Faults | None = None,
        token: str = TOKEN,
        skew_s: float = 0.0,
    ) -> None:
        super().__init__(self._answer, port=port, skew_s=skew_s)
        self.behaviour = behaviour or Behaviour()
        self.faults = faults or Faults()
        self.jobs: dict[str, Job] = {}
        self.files: dict[str, bytes] = {}
        self.events: list[dict[str, object]] = []
        self.counts: Counter[str] = Counter()
        self.most_in_flight = 0
        self._token = token
        self._journal = journal
        self._guard = threading.RLock()
        self._allowance = float(self.behaviour.burst)
        self._refilled = self.clock()

    def paid(self) -> Counter[int | None]:
        """How many jobs were accepted and charged, by seed; aborted ones are free."""
        with self._guard:
            return Counter(job.seed for job in self.jobs.values() if job.fate != "aborted")

    def delivered(self) -> Counter[int | None]:
        """How many images left this server whole, by seed."""
        with self._guard:
            return Counter(self.jobs[str(e["id"])].seed for e in self.events if e["event"] == "delivered")

    def _note(self, event: str, **facts: object) -> None:
        with self._guard:
            line = {"event": event, "at": self.clock(), **facts}
            self.events.append(line)
            if self._journal is not None:
                with open(self._journal, "a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line) + "\n")

    def _answer(self, ask: Exchange) -> None:
        path = ask.path
        file = re.fullmatch(r"/out/([a-z0-9]+)/([a-f0-9]+)\.(jpg|png|webp)", path)
        if file and ask.method == "GET":
            self._download(ask, file[1], file[2], file[3])
            return
        if ask.headers.get("authorization") != f"Bearer {self._token}":
            detail = "You did not pass a valid authentication token"
            ask.json(401, {"title": "Unauthenticated", "detail": detail, "status": 401})
            return
        create = re.fullmatch(r"/v1/models/([a-z0-9-]+/[a-z0-9.-]+)/predictions", path)
        one = re.fullmatch(r"/v1/predictions/([a-z0-9]+)(/cancel)?", path)
        if create and ask.method == "POST":
            self._submit(ask, create[1])
        elif one and one[2] and ask.method == "POST":
            self._cancel(ask, one[1])
        elif one and not one[2] and ask.method == "GET":
            self._poll(ask, one[1])
        elif path == "/v1/predictions" and ask.method == "GET":
            self._list(ask)
        elif path == "/v1/files" and ask.method == "POST":
            self._keep_file(ask)
        else:
            ask.json(404, {"detail": "The requested resource could not be found.", "status": 404})

    def _submit(self, ask: Exchange, model: str) -> None:
        fault = self.faults.take("submit")
        self.counts["submit"] += 1
        wait = self._throttle()
        if wait is not None:
            detail = f"Request was throttled. Your rate limit resets in ~{wait:.1f}s."
            ask.json(429, {"detail": detail, "status": 429, "retry_after": wait})
        elif not self._refuse(ask, fault):
            problem = _problem(model, ask.data())
            if problem:
                ask.json(422, {"title": "Input validation failed", "detail": problem, "status": 422})
                return
            job = self._accept(model, ask.data(), fault)
            if fault == "500-after":
                ask.json(500, {"detail": "Internal server error", "status": 500})
            elif fault == "hang-after":
                ask.hang()
            elif fault == "reset-after":
                self._note("cut", id=job.id)
                ask.reset()
            elif fault == "garbage":
                ask.send(201, json.dumps(self._view(job)).encode()[:40], "application/json")
            else:
                ask.json(201, self._view(job))

    def _refuse(self, ask: Exchange, fault: str) -> bool:
        """Answer a fault that leaves no job; False when it is another fault."""
        wait = 2.0 * self.behaviour.time_scale
        if fault == "429":
            ask.json(429, {"detail": "Request was throttled.", "status": 429, "retry_after": wait})
        elif fault == "429-header":
            ask.json(429, {"detail": "Request was throttled."}, {"Retry-After": "1"})
        elif fault == "402":
            ask.json(402, {"title": "Insufficient credit", "detail": "You have insufficient credit."})
        elif fault == "401":
            ask.json(401, {"title": "Unauthenticated", "detail": "Invalid token."})
        elif fault == "422":
            ask.json(422, {"title": "Input validation failed", "detail": "- input.prompt: too strange"})
        elif fault in ("500-before", "503-before"):
            ask.json(int(fault[:3]), {"detail": "Service is not available", "status": int(fault[:3])})
        elif fault == "html":
            ask.page()
        elif fault == "hang-before":
            ask.hang()
        elif fault == "reset-before":
            ask.reset()
        else:
            return False
        self._note("refused", fault=fault)
        return True

    def _throttle(self) -> float | None:
        """Seconds to wait when the allowance is used up; else takes one from it."""
        if self.behaviour.per_minute is None:
            return None
        rate = self.behaviour.per_minute / 60 / self.behaviour.time_scale
        with self._guard:
            now = self.clock()
            self._allowance = min(self.behaviour.burst, self._allowance + (now - self._refilled) * rate)
            self._refilled = now
            if self._allowance < 1:
                return (1 - self._allowance) / rate
            self._allowance -= 1
            return None

    def _accept(self, model: str, body: dict[str, object], fault: str) -> Job:
        given = body["input"]
        assert isinstance(given, dict)
        seed, prompt = given.get("seed"), str(given.get("prompt"))
        fate = fault if fault in (*_FAILURES, "aborted", "no-output") else "succeeded"
        if any(word in prompt for word in self.behaviour.flagged):
            fate = "E005"
        with self._guard:
            job = Job(
                id=secrets.token_hex(13),
                model=model,
                input=given,
                created=self.clock(),
                latency_s=self._latency(seed),
                fate=fate,
            )
            self.jobs[job.id] = job
            running = sum(self._state(other) in ("starting", "processing") for other in self.jobs.values())
            self.most_in_flight = max(self.most_in_flight, running)
            self._note("accepted", id=job.id, seed=seed, model=model, prompt=prompt, fate=fate)
        return job

    def _latency(self, seed: object) -> float:
        if not self.behaviour.median_s:
            return 0.0
        draw = random.Random(f"latency/{seed}").gauss(0.0, self.behaviour.sigma)
        return self.behaviour.median_s * math.exp(draw) * self.behaviour.time_scale

    def _state(self, job: Job) -> str:
        passed = self.clock() - job.created
        if job.cancelled is not None:
            return "canceled"
        if self.behaviour.after_polls is not None:
            if job.polls < self.behaviour.after_polls:
                return "processing" if job.polls else "starting"
        elif passed < job.latency_s:
            return "starting" if passed < job.latency_s * self.behaviour.queue_share else "processing"
        if job.fate in ("aborted", "succeeded"):
            return job.fate
        return "succeeded" if job.fate == "no-output" else "failed"

    def _removed(self, job: Job) -> bool:
        kept = self.behaviour.retention_s * self.behaviour.time_scale
        return self.clock() - job.created - job.latency_s > kept

    def _view(self, job: Job) -> dict[str, object]:
        """A prediction as the API shows it."""
        state, removed = self._state(job), self._removed(job)
        kind = str(job.input.get("output_format", "png"))
        done = state == "succeeded" and job.fate != "no-output" and not removed
        base = f"{self.url}/v1/predictions/{job.id}"
        ended = state not in ("starting", "processing")
        return {
            "id": job.id,
            "model": job.model,
            "version": "hidden",
            "input": {} if removed else job.input,
            "output": f"{self.url}/out/{job.id}/{job.secret}.{kind}" if done else None,
            "error": _FAILURES.get(job.fate) if state == "failed" else None,
            "status": state,
            "data_removed": removed,
            "created_at": _iso(job.created),
            "completed_at": _iso(job.created + job.latency_s) if ended else None,
            "urls": {"get": base, "cancel": f"{base}/cancel"},
        }

    def _poll(self, ask: Exchange, job_id: str) -> None:
        self.counts["poll"] += 1
        fault = self.faults.take("poll")
        if fault == "500":
            ask.json(500, {"detail": "Internal server error"})
        elif fault == "reset":
            ask.reset()
        elif fault == "hang":
            ask.hang()
        elif fault == "html":
            ask.page(200)
        elif fault == "429":
            ask.json(429, {"detail": "Request was throttled.", "retry_after": self.behaviour.time_scale})
        else:
            with self._guard:
                job = self.jobs.get(job_id)
                if job is not None:
                    job.polls += 1
            if job is None:
                ask.json(404, {"detail": "The requested resource could not be found.", "status": 404})
            else:
                ask.json(200, self._view(job))

    def _cancel(self, ask: Exchange, job_id: str) -> None:
        with self._guard:
            job = self.jobs.get(job_id)
            if job is not None and self._state(job) in ("starting", "processing"):
                job.cancelled = self.clock()
                self._note("cancelled", id=job_id)
        if job is None:
            ask.json(404, {"detail": "The requested resource could not be found.", "status": 404})
        else:
            ask.json(200, self._view(job))

    def _list(self, ask: Exchange) -> None:
        self.counts["list"] += 1
        fault = self.faults.take("list")
        if fault == "500":
            ask.json(500, {"detail": "Internal server error"})
            return
        if fault == "reset":
            ask.reset()
            return
        lag = self.behaviour.listing_lag_s * self.behaviour.time_scale
        with self._guard:
            seen = [job for job in self.jobs.values() if self.clock() - job.created >= lag]
        # the cursor names the last job that was shown: new ones in front do not shift the pages
        seen.reverse()
        ids = [job.id for job in seen]
        start = ids.index(ask.query["cursor"]) + 1 if ask.query.get("cursor") in ids else 0
        page = seen[start : start + self.behaviour.page_size]
        more = start + len(page) < len(seen)
        following = f"https://api.replicate.com/v1/predictions?cursor={page[-1].id}" if more else None
        ask.json(200, {"results": [self._view(job) for job in page], "next": following, "previous": None})

    def _keep_file(self, ask: Exchange) -> None:
        head, _, rest = ask.body.partition(b"\r\n\r\n")
        if b'name="content"' not in head:
            ask.json(422, {"detail": "content is required"})
            return
        mark = ask.headers.get("content-type", "").partition("boundary=")[2].encode()
        file_id = secrets.token_hex(10)
        self.files[file_id] = rest.partition(b"\r\n--" + mark)[0]
        self._note("file", id=file_id, bytes=len(self.files[file_id]))
        ask.json(201, {"id": file_id, "urls": {"get": f"https://api.replicate.com/v1/files/{file_id}"}})

    def _download(self, ask: Exchange, job_id: str, secret: str, kind: str) -> None:
        self.counts["download"] += 1
        fault = self.faults.take("download")
        job = self.jobs.get(job_id)
        if job is None or job.secret != secret or self._removed(job) or fault == "404":
            ask.send(404, b"not found", "text/plain")
            return
        data = picture(job.seed or 0, str(job.input["aspect_ratio"]), self.behaviour.long_side, kind)
        media = {"jpg": "image/jpeg"}.get(kind, f"image/{kind}")
        if fault == "truncated":
            ask.send(200, data, media, cut=len(data) // 2)
        elif fault == "truncated-open":
            ask.send(200, data[: len(data) // 2], media)
        elif fault == "not-image":
            ask.page(200)
        elif fault == "500":
            ask.send(500, b"oops", "text/plain")
        elif fault == "reset":
            ask.reset()
        else:
            ask.send(200, data, media)
            self._note("delivered", id=job_id, seed=job.seed)


@lru_cache(maxsize=1024)
def picture(seed: int, aspect: str, long_side: int, kind: str) -> bytes:
    """Soft patches of colour, others for every seed, as JPEG, PNG or WebP bytes."""
    across, down = (int(part) for part in aspect.split(":")) if ":" in aspect else (1, 1)
    scale = long_side / max(across, down)
    size = max(8, round(across * scale)), max(8, round(down * scale))
    noise = random.Random(f"picture/{seed}").randbytes(8 * 6 * 3)
    image = Image.frombytes("RGB", (8, 6), noise).resize(size, Image.Resampling.BICUBIC)
    stream = BytesIO()
    image.save(stream, {"jpg": "JPEG"}.get(kind, kind.upper()), **({"quality": 90} if kind == "jpg" else {}))
    return stream.getvalue()


def _problem(model: str, body: dict[str, object]) -> str:
    """Why an input is not valid, or ""."""
    given = body.get("input")
    if model not in MODELS:
        return f"- model: {model} does not exist"
    if not isinstance(given, dict) or not given.get("prompt"):
        return "- input: prompt is required"
    picture_field, most = MODELS[model]
    unknown = set(given) - _FIELDS - _OWN_FIELDS[picture_field]
    if unknown:
        return f"- input: Additional property {min(unknown)} is not allowed"
    pictures = given.get(picture_field)
    first = pictures[0] if isinstance(pictures, list) and pictures else pictures
    if not str(first).startswith(("https://", "data:image/")):
        return f"- input.{picture_field}: Does not match format 'uri'"
    if not 0 <= int(str(given.get("safety_tolerance", 2))) <= most:
        return f"- input.safety_tolerance: Must be less than or equal to {most}"
    if not re.fullmatch(r"\d+:\d+|match_input_image", str(given.get("aspect_ratio", "match_input_image"))):
        return "- input.aspect_ratio: must be one of the following"
    return ""


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Replicate's API on loopback, with faults.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--token", default=TOKEN)
    parser.add_argument(
        "--median", type=float, default=25.0, help="median latency in seconds, before scaling"
    )
    parser.add_argument("--sigma", type=float, default=0.604)
    parser.add_argument("--time-scale", type=float, default=0.02)
    parser.add_argument("--per-minute", type=float)
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--listing-lag", type=float, default=0.0)
    parser.add_argument("--long-side", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0, help="of the faults that happen by chance")
    parser.add_argument("--rate", action="append", default=[], metavar="KIND:FAULT=P")
    parser.add_argument("--life", type=float, default=3600.0, help="seconds until it ends by itself")
    given = parser.parse_args()
    rates = {name: float(value) for name, _, value in (text.partition("=") for text in given.rate)}
    behaviour = Behaviour(
        median_s=given.median,
        sigma=given.sigma,
        time_scale=given.time_scale,
        per_minute=given.per_minute,
        burst=given.burst,
        listing_lag_s=given.listing_lag,
        long_side=given.long_side,
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    faults = Faults(seed=given.seed, rates=rates)
    with FakeReplicate(
        behaviour, port=given.port, journal=given.journal, faults=faults, token=given.token
    ) as server:
        print(server.url, flush=True)
        ended.wait(given.life)


if __name__ == "__main__":
    _main()
