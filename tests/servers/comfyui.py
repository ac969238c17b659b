"""A server that speaks ComfyUI's HTTP API on loopback: it checks workflows node by node and can misbehave.

Faults are planned per kind of request: `server.faults.plan("submit", "reset-after")`.

submit    500-before  500-after  reset-before  reset-after  html  garbage (accepted, answer damaged)
          error  oom  no-output (accepted; the job ends so)
poll      500  reset          (any question about the queue or the history)
download  truncated  404  reset
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import uuid
from collections import Counter
from dataclasses import dataclass, field

from servers.forms import image_size, paint, read_form
from servers.loopback import Exchange, Faults, Loopback

# Each node: the inputs that it needs and, for loaders, the files that this server has.
NODES: dict[str, dict[str, set[str] | None]] = {
    "UNETLoader": {
        "unet_name": {"flux-2-klein-4b.safetensors", "flux1-dev-kontext_fp8_scaled.safetensors"},
        "weight_dtype": {"default", "fp8_e4m3fn", "fp8_e5m2"},
    },
    "CLIPLoader": {"clip_name": {"qwen_3_4b.safetensors"}, "type": {"flux2", "qwen_image"}},
    "DualCLIPLoader": {
        "clip_name1": {"clip_l.safetensors"},
        "clip_name2": {"t5xxl_fp8_e4m3fn_scaled.safetensors"},
        "type": {"flux", "sdxl"},
    },
    "VAELoader": {"vae_name": {"flux2-vae.safetensors", "ae.safetensors"}},
    "LoadImage": {"image": None},
    "ImageScaleToTotalPixels": {"image": None, "upscale_method": {"lanczos"}, "megapixels": None},
    "FluxKontextImageScale": {"image": None},
    "VAEEncode": {"pixels": None, "vae": None},
    "VAEDecode": {"samples": None, "vae": None},
    "CLIPTextEncode": {"clip": None, "text": None},
    "ConditioningZeroOut": {"conditioning": None},
    "ReferenceLatent": {"conditioning": None},
    "FluxGuidance": {"conditioning": None, "guidance": None},
    "CFGGuider": {"model": None, "positive": None, "negative": None, "cfg": None},
    "KSamplerSelect": {"sampler_name": {"euler"}},
    "Flux2Scheduler": {"steps": None, "width": None, "height": None},
    "RandomNoise": {"noise_seed": None},
    "EmptyFlux2LatentImage": {"width": None, "height": None, "batch_size": None},
    "EmptySD3LatentImage": {"width": None, "height": None, "batch_size": None},
    "SamplerCustomAdvanced": {
        "noise": None, "guider": None, "sampler": None, "sigmas": None, "latent_image": None,
    },
    "KSampler": {
        "model": None, "positive": None, "negative": None, "latent_image": None, "seed": None, "steps": None,
        "cfg": None, "sampler_name": {"euler"}, "scheduler": {"simple"}, "denoise": None,
    },
    "SaveImage": {"images": None, "filename_prefix": None},
    "PreviewImage": {"images": None},
}  # fmt: skip
_WHOLE = ("seed", "noise_seed", "width", "height", "steps", "batch_size")


@dataclass
class Job:
    """One prompt in the queue or the history."""

    id: str
    number: int
    graph: dict[str, dict[str, object]]
    extra: dict[str, object]
    fate: str = "success"
    asked: int = 0
    interrupted: bool = False
    files: list[str] = field(default_factory=list)

    @property
    def entry(self) -> list[object]:
        """As the queue and the history show it."""
        return [self.number, self.id, self.graph, self.extra, ["save"]]


class FakeComfyUI(Loopback):
    """The service. A job waits at the first question about it, then runs, and ends after `after_polls`."""

    def __init__(self, *, after_polls: int = 2, faults: Faults | None = None) -> None:
        super().__init__(self._answer)
        self.after_polls = after_polls
        self.faults = faults or Faults()
        self.inputs: dict[str, bytes] = {}
        self.jobs: dict[str, Job] = {}
        self.counts: Counter[str] = Counter()
        self._guard = threading.RLock()

    def forget(self) -> None:
        """Lose queue, history and inputs, as a restart does."""
        with self._guard:
            self.jobs.clear()
            self.inputs.clear()

    def _answer(self, ask: Exchange) -> None:
        with self._guard:
            history = re.fullmatch(r"/history/([A-Za-z0-9-]+)", ask.path)
            if ask.path == "/upload/image" and ask.method == "POST":
                self._upload(ask)
            elif ask.path == "/prompt" and ask.method == "POST":
                self._submit(ask)
            elif ask.path == "/view" and ask.method == "GET":
                self._view(ask)
            elif ask.path == "/interrupt" and ask.method == "POST":
                for job in self.jobs.values():
                    if job.id == ask.data().get("prompt_id", job.id) and self._state(job) == "running":
                        job.interrupted = True
                ask.send(200, b"", "text/plain")
            elif ask.path == "/queue" and ask.method == "POST":
                gone = ask.data().get("delete")
                for job_id in gone if isinstance(gone, list) else ():
                    if job_id in self.jobs and self._state(self.jobs[job_id]) == "pending":
                        del self.jobs[job_id]
                ask.send(200, b"", "text/plain")
            elif self._broken(ask):
                return
            elif history and ask.method == "GET":
                self._ask_history(ask, history[1])
            elif ask.path == "/history":
                most = int(ask.query.get("max_items", "10000"))
                ended = [job for job in self.jobs.values() if self._state(job) == "ended"]
                ask.json(200, {job.id: self._record(job) for job in ended[-most:]})
            elif ask.path == "/queue":
                states = {"queue_running": "running", "queue_pending": "pending"}
                ask.json(
                    200,
                    {
                        name: [job.entry for job in self.jobs.values() if self._state(job) == state]
                        for name, state in states.items()
                    },
                )
            else:
                ask.send(404, b"404: Not Found", "text/plain")

    def _broken(self, ask: Exchange) -> bool:
        fault = self.faults.take("poll")
        if fault == "500":
            ask.send(500, b"500 Internal Server Error", "text/plain")
        elif fault == "reset":
            ask.reset()
        return fault != "ok"

    def _upload(self, ask: Exchange) -> None:
        self.counts["upload"] += 1
        form = read_form(ask)
        name, data = form["image"][0]
        folder = form.get("subfolder", [("", b"")])[0][1].decode()
        if ".." in folder or "/" in name or image_size(data) is None:
            ask.send(400, b"", "text/plain")
            return
        self.inputs[f"{folder}/{name}" if folder else name] = data
        ask.json(200, {"name": name, "subfolder": folder, "type": "input"})

    def _submit(self, ask: Exchange) -> None:
        fault = self.faults.take("submit")
        self.counts["submit"] += 1
        if fault == "500-before":
            ask.send(500, b"500 Internal Server Error", "text/plain")
        elif fault == "reset-before":
            ask.reset()
        elif fault == "html":
            ask.page()
        else:
            problems = self._problems(ask.data().get("prompt"))
            if problems:
                error = {
                    "type": "prompt_outputs_failed_validation",
                    "message": "Prompt outputs failed validation",
                }
                ask.json(400, {"error": error | {"details": "", "extra_info": {}}, "node_errors": problems})
                return
            job = self._accept(ask.data(), fault)
            if fault == "500-after":
                ask.send(500, b"500 Internal Server Error", "text/plain")
            elif fault == "reset-after":
                ask.reset()
            elif fault == "garbage":
                ask.send(200, b'{"prompt_id": "', "application/json")
            else:
                ask.json(200, {"prompt_id": job.id, "number": job.number, "node_errors": {}})

    def _accept(self, body: dict[str, object], fault: str) -> Job:
        extra = body.get("extra_data")
        facts = dict(extra) if isinstance(extra, dict) else {}
        graph = json.loads(json.dumps(body["prompt"]))
        fate = fault if fault in ("error", "oom", "no-output") else "success"
        job = Job(
            str(uuid.uuid4()), len(self.jobs), graph, facts | {"client_id": body.get("client_id")}, fate
        )
        self.jobs[job.id] = job
        return job

    def _problems(self, graph: object) -> dict[str, object]:
        """What does not fit, node by node, in ComfyUI's words."""
        found: dict[str, object] = {}
        if not isinstance(graph, dict):
            return {"0": {"class_type": "?", "errors": [{"message": "No prompt", "details": ""}]}}
        for name, node in graph.items():
            kind, inputs = str(node.get("class_type")), node.get("inputs", {})
            errors = []
            if kind not in NODES:
                errors.append({"message": "Node type not found", "details": kind})
            for need, allowed in NODES.get(kind, {}).items():
                value = inputs.get(need)
                if value is None:
                    errors.append({"message": "Required input is missing", "details": need})
                elif isinstance(value, list) and value[0] not in graph:
                    errors.append({"message": "Bad linked input", "details": need})
                elif need in _WHOLE and not isinstance(value, list | int):
                    errors.append(
                        {"message": "Failed to convert an input value to a INT value", "details": need}
                    )
                elif allowed is not None and value not in allowed:
                    errors.append(
                        {"message": "Value not in list", "details": f"{need}: '{value}' not in list"}
                    )
            if kind == "LoadImage" and inputs.get("image") not in self.inputs:
                details = f"image - Invalid image file: {inputs.get('image')}"
                errors.append({"message": "Custom validation failed for node", "details": details})
            if errors:
                found[name] = {"class_type": kind, "errors": errors, "dependent_outputs": ["save"]}
        return found

    def _state(self, job: Job) -> str:
        if job.interrupted or job.asked > self.after_polls:
            return "ended"
        return "running" if job.asked > 1 else "pending"

    def _ask_history(self, ask: Exchange, job_id: str) -> None:
        self.counts["poll"] += 1
        job = self.jobs.get(job_id)
        if job is None:
            ask.json(200, {})
            return
        job.asked += 1
        ask.json(200, {job_id: self._record(job)} if self._state(job) == "ended" else {})

    def _record(self, job: Job) -> dict[str, object]:
        start: list[object] = ["execution_start", {"prompt_id": job.id}]
        if job.interrupted:
            messages = [start, ["execution_interrupted", {"prompt_id": job.id, "node_type": "KSampler"}]]
            status = {"status_str": "error", "completed": False, "messages": messages}
        elif job.fate in ("error", "oom"):
            kind = "torch.OutOfMemoryError" if job.fate == "oom" else "RuntimeError"
            fault = {
                "node_type": "KSampler",
                "exception_type": kind,
                "exception_message": "the sampler failed",
            }
            status = {
                "status_str": "error",
                "completed": False,
                "messages": [start, ["execution_error", fault]],
            }
        else:
            status = {"status_str": "success", "completed": True, "messages": [start]}
        outputs: dict[str, object] = {}
        if status["completed"] and job.fate != "no-output":
            preview = {"filename": "ComfyUI_temp_0001_.png", "subfolder": "", "type": "temp"}
            saved = {"filename": f"cast_{job.number:05d}_.png", "subfolder": "talent", "type": "output"}
            outputs = {"a_preview": {"images": [preview]}, "save": {"images": [saved]}}
        return {"prompt": job.entry, "outputs": outputs, "status": status, "meta": {}}

    def _view(self, ask: Exchange) -> None:
        self.counts["download"] += 1
        fault = self.faults.take("download")
        found = re.fullmatch(r"cast_(\d{5})_\.png", ask.query.get("filename", ""))
        place = (ask.query.get("subfolder"), ask.query.get("type"))
        if not found or place != ("talent", "output") or fault == "404":
            ask.send(404, b"", "text/plain")
            return
        job = next(job for job in self.jobs.values() if job.number == int(found[1]))
        data = self._picture(job)
        if fault == "truncated":
            ask.send(200, data, "image/png", cut=len(data) // 2)
        elif fault == "reset":
            ask.reset()
        else:
            ask.send(200, data, "image/png")

    def _picture(self, job: Job) -> bytes:
        """Follows from seed, words and portrait, at the size of the empty latent."""
        key, size = "", (0, 0)
        for node in job.graph.values():
            inputs = node["inputs"]
            assert isinstance(inputs, dict)
            kind = node["class_type"]
            if kind == "LoadImage":
                key += hashlib.sha256(self.inputs[str(inputs["image"])]).hexdigest()
            elif kind == "CLIPTextEncode":
                key += str(inputs["text"])
            elif kind in ("KSampler", "RandomNoise"):
                key += f"/{inputs.get('seed', inputs.get('noise_seed'))}"
            elif str(kind).startswith("Empty"):
                size = int(inputs["width"]), int(inputs["height"])
        return paint(key, *size)
