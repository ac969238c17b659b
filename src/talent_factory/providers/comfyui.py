"""ComfyUI: jobs on a server of the user's own, through our workflows or theirs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from talent_factory.core.errors import (
    ConfigError,
    ProviderError,
    ProviderRefused,
    SubmitUnknown,
)
from talent_factory.providers.address import endpoint
from talent_factory.providers.asking import check_id, check_request
from talent_factory.providers.http import Answer, Http, Service
from talent_factory.providers.models import model_card
from talent_factory.providers.pictures import Portraits, checked_image
from talent_factory.providers.port import Capabilities, EditRequest, JobStatus
from talent_factory.providers.sizing import cover_size, cut_to_aspect

NAME = "comfyui"
BASE_VARIABLE = "COMFYUI_URL"
_BASE = "http://127.0.0.1:8188"
# The portrait goes over a local network at most: no need to make it small.
_PORTRAIT_BYTES = 16 << 20
_MAX_WORKFLOW = 4 << 20
_MULTIPLE = 16
_LAST = 400  # entries of the history that are searched for a seed
_JOB = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MARK = "talent_factory"
NEEDED = ("prompt", "portrait", "seed")
PLACES = (*NEEDED, "width", "height")


class ComfyUI:
    """An `ImageEditor` on a ComfyUI server.

    The address comes from `base_url` or COMFYUI_URL (http://127.0.0.1:8188 unless told). `workflow` is a file
    that ComfyUI saved with "Export (API)" in which {{prompt}}, {{portrait}}, {{seed}} and, if wanted,
    {{width}} and {{height}} stand where those go; without it the model's own workflow is used, with the file
    names of the weights that ComfyUI's documentation gives. Seed and time travel with each job, so that one
    whose answer was lost is found again.

    Raises ConfigError for a workflow that cannot work.
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        workflow: Path | None = None,
        base_url: str | None = None,
        models_file: Path | None = None,
    ) -> None:
        if workflow is None and model is not None and model.endswith(".json"):
            workflow, model = Path(model), None
        card = model_card(NAME, model, own=models_file)
        if workflow is None:
            file = resources.files("talent_factory.providers") / "workflows" / f"{card.id}.json"
            self._graph = _graph(file.read_bytes(), card.id)
        else:
            self._graph = _graph(_file(workflow), workflow.name)
            card = card.model_copy(update={"name": workflow.stem})
        self._card = card
        base = endpoint(base_url, variables=[BASE_VARIABLE], default=_BASE)
        self._http = Http(Service("ComfyUI", base), timeout_s=30.0)
        self._portraits = Portraits(max_bytes=_PORTRAIT_BYTES)
        self._uploaded: dict[str, str] = {}
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The word under which manifests record this provider."""
        return NAME

    def capabilities(self) -> Capabilities:
        """Reads the prompt, makes any aspect, costs nothing; the server works off its queue one by one."""
        return self._card.capabilities()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def payload(self, request: EditRequest) -> dict[str, object]:
        """The workflow as it is sent, with the portrait's digest beside it."""
        picture = self._portraits.of(request)
        check_request(request, self._card, service="ComfyUI")
        graph = self._filled(request, _upload_name(picture.data, picture.kind))
        return {"method": "POST", "path": "/prompt", "body": {"prompt": graph}, "portrait": picture.digest()}

    def submit(self, request: EditRequest) -> str:
        """Queue the workflow. Raises ProviderRefused when the server lacks a node or the weights it names."""
        picture = self._portraits.of(request)
        check_request(request, self._card, service="ComfyUI")
        graph = self._filled(request, self._upload(picture.data, picture.kind))
        at = datetime.now(UTC).isoformat()
        mark = {"seed": request.seed, "slot": request.slot, "aspect": request.aspect, "at": at}
        body = {"prompt": graph, "client_id": "talent-factory", "extra_data": {_MARK: mark}}
        answer = self._http.post("/prompt", body, submit=True, judge=self._refusal)
        job_id = answer.facts().get("prompt_id")
        if not isinstance(job_id, str) or not job_id:
            raise SubmitUnknown(
                "ComfyUI accepted a workflow but named no prompt_id", remedy="resume looks for it by its seed"
            )
        check_id(job_id, service="ComfyUI", pattern=_JOB)
        return job_id

    def poll(self, job_id: str) -> JobStatus:
        """State of a job. One that the server forgot failed, and may be made again: nothing is paid."""
        check_id(job_id, service="ComfyUI", pattern=_JOB)
        with self._lock:
            if job_id in self._cancelled:
                return JobStatus(state="cancelled", billed=False)
        # a job moves from the queue to the history, so the history is asked once more when both miss it
        for ask in (self._ended, self._waiting, self._ended):
            status = ask(job_id)
            if status is not None:
                return status
        # queue and history live in the server's memory
        message = "the server has forgotten the job: it restarted, or its history was cleared"
        return JobStatus(state="failed", code="forgotten", message=message, transient=True, billed=False)

    def fetch(self, job_id: str) -> bytes:
        """Download the first picture that the workflow saved, cut to the aspect that was asked for."""
        status = self.poll(job_id)
        if status.state != "succeeded":
            raise ProviderError(
                f"job {job_id} has no image: it is {status.state}", remedy="poll it until it has succeeded"
            )
        entry = self._history(job_id)
        place = _saved(entry)
        if place is None:
            raise ProviderError(f"job {job_id} saved no image", remedy="the workflow needs a SaveImage node")
        data = checked_image(self._http.download("/view", params=place), service="ComfyUI")
        # sizes are whole multiples of 16, aspects are not; the job itself remembers what was wanted
        aspect = _mark(entry.get("prompt")).get("aspect")
        return cut_to_aspect(data, aspect) if isinstance(aspect, str) else data

    def cancel(self, job_id: str) -> None:
        """Take a job from the queue, or interrupt it."""
        status = self.poll(job_id)
        if status.state == "queued":
            self._http.post("/queue", {"delete": [job_id]})
        # it may have begun in between; newer servers interrupt the named job only
        if status.state in ("queued", "running") and job_id in dict(self._queue()).get("running", {}):
            self._http.post("/interrupt", {"prompt_id": job_id})
        with self._lock:
            self._cancelled.add(job_id)

    def find(self, seed: int, *, since: datetime | None = None) -> str | None:
        """The newest job with this seed in the server's queue or its history."""
        entries: dict[str, Mapping[str, object]] = {}
        history = self._http.get("/history", params={"max_items": str(_LAST)}).facts()
        for job_id, entry in history.items():
            if isinstance(entry, Mapping):
                entries[job_id] = _mark(entry.get("prompt"))
        for _, jobs in self._queue():
            entries |= jobs
        best: tuple[datetime, str] | None = None
        for job_id, mark in entries.items():
            at = _moment(mark.get("at"))
            if mark.get("seed") != seed or at is None or (since is not None and at < since):
                continue
            best = max(best, (at, job_id)) if best is not None else (at, job_id)
        return best[1] if best is not None else None

    def _filled(self, request: EditRequest, portrait: str) -> dict[str, object]:
        width, height = cover_size(request.aspect, request.long_side, multiple=_MULTIPLE)
        values: dict[str, object] = {
            "prompt": request.prompt,
            "portrait": portrait,
            "seed": request.seed,
            "width": width,
            "height": height,
        }
        filled = _fill(self._graph, values)
        assert isinstance(filled, dict)
        return filled

    def _upload(self, data: bytes, kind: str) -> str:
        """The portrait's place among the server's inputs, uploaded at its first use."""
        name = _upload_name(data, kind)
        with self._lock:  # held through the upload: all threads want the same portrait at once
            if name not in self._uploaded:
                folder, _, file = name.rpartition("/")
                answer = self._http.post_form(
                    "/upload/image",
                    files=[("image", (file, data, kind))],
                    data={"subfolder": folder, "type": "input", "overwrite": "true"},
                ).facts()
                kept, where = str(answer.get("name") or file), str(answer.get("subfolder") or "")
                self._uploaded[name] = f"{where}/{kept}" if where else kept
            return self._uploaded[name]

    def _refusal(self, answer: Answer) -> ProviderError | None:
        """A 400 of ComfyUI says node by node what is missing."""
        if answer.status != 400:
            return None
        facts = answer.facts()
        reasons = list(_reasons(facts)) or [str(answer.text)]
        return ProviderRefused(
            f"ComfyUI refused the workflow: {self._http.say('; '.join(reasons))}",
            remedy="put the weights it names into ComfyUI's models folder, or give a workflow of your own",
        )

    def _history(self, job_id: str) -> Mapping[str, object]:
        entry = self._http.get(f"/history/{job_id}").facts().get(job_id)
        return entry if isinstance(entry, Mapping) else {}

    def _ended(self, job_id: str) -> JobStatus | None:
        entry = self._history(job_id)
        if not entry:
            return None
        said = entry.get("status")
        status = said if isinstance(said, Mapping) else {}
        if status.get("status_str") != "error":
            if _saved(entry) is None:
                return JobStatus(
                    state="failed", code="no-output", message="the workflow saved no image", billed=False
                )
            return JobStatus(state="succeeded", billed=False)
        events = dict(_events(status))
        if "execution_interrupted" in events:
            return JobStatus(state="cancelled", billed=False)
        error = events.get("execution_error", {})
        message = f"{error.get('node_type', 'the workflow')}: {error.get('exception_message', 'failed')}"
        code = str(error.get("exception_type", "error")).rpartition(".")[2]
        return JobStatus(state="failed", code=code[:60], message=self._http.say(message), billed=False)

    def _waiting(self, job_id: str) -> JobStatus | None:
        for state, jobs in self._queue():
            if job_id in jobs:
                return JobStatus(state="running" if state == "running" else "queued")
        return None

    def _queue(self) -> list[tuple[str, dict[str, Mapping[str, object]]]]:
        """Jobs that have not ended, by ("running", "pending"), with the marks they were sent with."""
        facts = self._http.get("/queue").facts()
        found = []
        for state in ("running", "pending"):
            items = facts.get(f"queue_{state}")
            jobs = (
                {
                    str(item[1]): _mark(item)
                    for item in items or []
                    if isinstance(item, list) and len(item) > 3
                }
                if isinstance(items, list)
                else {}
            )
            found.append((state, jobs))
        return found


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the workflow {path}: {error.strerror}", remedy="check the path"
        ) from None


def _graph(data: bytes, where: str) -> dict[str, object]:
    """A workflow in ComfyUI's API format with every place that is needed."""
    remedy = 'save it in ComfyUI with "Export (API)"'
    try:
        graph = json.loads(data) if len(data) <= _MAX_WORKFLOW else None
    except (ValueError, RecursionError):
        graph = None
    if not isinstance(graph, dict) or not graph:
        raise ConfigError(f"workflow {where} is not JSON of a sensible size", remedy=remedy)
    if not all(isinstance(node, dict) and "class_type" in node for node in graph.values()):
        raise ConfigError(f"workflow {where} is not in the API format", remedy=remedy)
    text = data.decode("utf-8", "replace")
    missing = [f"{{{{{place}}}}}" for place in NEEDED if f"{{{{{place}}}}}" not in text]
    if missing:
        raise ConfigError(
            f"workflow {where} has no place for {', '.join(missing)}",
            remedy="write these marks as values of the inputs that take them",
        )
    return graph


def _fill(value: object, values: Mapping[str, object]) -> object:
    """The same tree with the marks replaced; a string that is one mark becomes a value of its own type."""
    if isinstance(value, dict):
        return {name: _fill(part, values) for name, part in value.items()}
    if isinstance(value, list):
        return [_fill(part, values) for part in value]
    if not isinstance(value, str) or "{{" not in value:
        return value
    if value.startswith("{{") and value.endswith("}}") and value[2:-2] in values:
        return values[value[2:-2]]
    # one pass over the places, the prompt last: marks inside a prompt stay what they are
    for name in sorted(values, key=lambda name: name == "prompt"):
        value = value.replace(f"{{{{{name}}}}}", str(values[name]))
    return value


def _upload_name(data: bytes, kind: str) -> str:
    suffix = kind.partition("/")[2].replace("jpeg", "jpg")
    return f"talent/{hashlib.sha256(data).hexdigest()[:24]}.{suffix}"


def _mark(item: object) -> Mapping[str, object]:
    """Our own facts inside a queue entry: [number, id, workflow, extra data, …]."""
    extra = item[3] if isinstance(item, list) and len(item) > 3 else None
    mark = extra.get(_MARK) if isinstance(extra, Mapping) else None
    return mark if isinstance(mark, Mapping) else {}


def _saved(entry: Mapping[str, object]) -> dict[str, str] | None:
    """Where the first picture of a job lies; saved ones before previews."""
    outputs = entry.get("outputs")
    images = [
        image
        for node in (outputs.values() if isinstance(outputs, Mapping) else ())
        if isinstance(node, Mapping) and isinstance(node.get("images"), list)
        for image in node["images"]
        if isinstance(image, Mapping) and isinstance(image.get("filename"), str)
    ]
    images.sort(key=lambda image: image.get("type") != "output")
    if not images:
        return None
    return {name: str(images[0].get(name) or "") for name in ("filename", "subfolder", "type")}


def _events(status: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    messages = status.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, list) and len(message) == 2 and isinstance(message[1], Mapping):
            yield str(message[0]), message[1]


def _reasons(facts: Mapping[str, object]) -> Iterator[str]:
    nodes = facts.get("node_errors")
    for node in nodes.values() if isinstance(nodes, Mapping) else ():
        if not isinstance(node, Mapping):
            continue
        errors = node.get("errors")
        for error in errors if isinstance(errors, list) else ():
            if isinstance(error, Mapping):
                yield f"{node.get('class_type')}: {error.get('message')}: {error.get('details')}"
    error = facts.get("error")
    if isinstance(error, Mapping):
        yield f"{error.get('message')} {error.get('details') or ''}".strip()


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
