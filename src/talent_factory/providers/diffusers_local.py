"""Open editing models on this machine's own accelerator, through diffusers: no key, no cost, no network."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from talent_factory.core.errors import ProviderError, ProviderRefused, UsageError
from talent_factory.providers import qwen_words
from talent_factory.providers.port import Capabilities, EditRequest, JobState, JobStatus
from talent_factory.providers.sizing import cover_size, cut_image, png

DEFAULT_MODEL = "black-forest-labs/FLUX.2-klein-4B"
# Finished pictures that are kept for a second fetch; older ones are computed anew from their seed.
_KEPT = 4
# References beyond this area (pixels) are shrunk: the models were trained at about one megapixel.
_REFERENCE_AREA = 1024 * 1024


@dataclass(frozen=True)
class Family:
    """How one diffusers pipeline is called. `multiple`: sizes are whole multiples of it, in pixels."""

    steps: int
    guidance: float
    guidance_name: str = "guidance_scale"
    multiple: int = 16
    fixed: Mapping[str, object] = field(default_factory=dict)
    area_name: str = ""


# Steps and guidance as the makers of the weights give them for their distilled or plain checkpoints.
FAMILIES: dict[str, Family] = {
    "Flux2KleinPipeline": Family(steps=4, guidance=1.0),
    "FluxKontextPipeline": Family(
        steps=28, guidance=2.5, fixed={"_auto_resize": False}, area_name="max_area"
    ),
    "QwenImageEditPipeline": Family(
        steps=50, guidance=4.0, guidance_name="true_cfg_scale", fixed={"negative_prompt": " "}
    ),
    "QwenImageEditPlusPipeline": Family(
        steps=40, guidance=4.0, guidance_name="true_cfg_scale", fixed={"negative_prompt": " "}
    ),
}


@dataclass
class _Job:
    request: EditRequest
    portrait_sha256: str
    state: JobState = "succeeded"
    message: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))


class LocalDiffusers:
    """A diffusers editing pipeline as an `ImageEditor`.

    `model` is a folder with a `model_index.json` or a hub id; hub files are taken from the local cache unless
    `download` is set. Only safetensors weights are read. `submit` writes the request down, `fetch` makes the
    picture in the caller's thread, one at a time. Noise comes from the seed on the CPU, so that a seed means
    the same picture on every device of one kind.

    Raises ProviderRefused when the model is not there or not an editing pipeline known here.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        device: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        offload: bool | None = None,
        download: bool = False,
    ) -> None:
        if steps is not None and steps < 1:
            raise UsageError(f"{steps} steps make no image", remedy="ask for 1 or more")
        self._model, self._download = str(model), download
        self._index = _index(self._model, download=download)
        self._family_name = str(self._index.get("_class_name", ""))
        family = FAMILIES.get(self._family_name)
        if family is None:
            raise ProviderRefused(
                f"{_short(self._model)} is a {self._family_name or 'model'} that cannot edit pictures here",
                remedy="give a model of " + ", ".join(FAMILIES),
            )
        self._family = family
        self._steps = steps if steps is not None else family.steps
        self._guidance = guidance if guidance is not None else family.guidance
        self._device, self._offload = device, offload
        self._jobs: dict[str, _Job] = {}
        self._made: OrderedDict[str, bytes] = OrderedDict()
        self._pipe: Any = None
        self._lock = threading.Lock()
        self._machine = threading.Lock()  # one picture at a time: weights fill the accelerator

    @property
    def name(self) -> str:
        """The word under which manifests record this provider."""
        return "diffusers"

    def capabilities(self) -> Capabilities:
        """Reads the prompt, makes any aspect, costs nothing, works off one picture at a time."""
        return Capabilities(
            model=_short(self._model), any_medium=True, any_aspect=True, seed=True, max_seed=2**63 - 1,
            max_in_flight=1, network=False,
        )  # fmt: skip

    def payload(self, request: EditRequest) -> dict[str, object]:
        """What the pipeline is called with."""
        data = _read(request)
        width, height = self._size(request)
        return {
            "model": _short(self._model),
            "pipeline": self._family_name,
            "prompt": request.prompt,
            "image": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
            "width": width,
            "height": height,
            "seed": request.seed,
            "num_inference_steps": self._steps,
            self._family.guidance_name: self._guidance,
        }

    def submit(self, request: EditRequest) -> str:
        """Raises ProviderError for an unreadable portrait, an empty prompt or an aspect beyond 4:1."""
        if not request.prompt.strip():
            raise ProviderError(
                f"slot {request.slot}: {self.name} needs a prompt", remedy="name one in the recipe"
            )
        portrait = _open(_read(request), request)
        portrait.close()
        facts = self.payload(request) | {"slot": request.slot, "options": dict(request.options)}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        job_id = f"diffusers-{digest[:24]}"
        with self._lock:
            known = self._jobs.get(job_id)
            if known is None or known.state in ("cancelled", "failed"):
                self._jobs[job_id] = _Job(request, hashlib.sha256(_read(request)).hexdigest())
        return job_id

    def poll(self, job_id: str) -> JobStatus:
        """`succeeded` from the start: `fetch` makes the picture; `failed` once that went wrong."""
        job = self._job(job_id)
        return JobStatus(state=job.state, message=job.message, billed=False)

    def fetch(self, job_id: str) -> bytes:
        """Make the picture (PNG). Raises ProviderError when cancelled, out of memory or not finite."""
        job = self._job(job_id)
        with self._machine:
            if job.state == "cancelled":
                raise ProviderError(f"job {job_id} was cancelled", remedy="submit the request again")
            if job_id in self._made:
                return self._made[job_id]
            try:
                data = self._make(job)
            except ProviderError as error:
                self._failed(job, error)
                raise
            self._made[job_id] = data
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
            return data

    def cancel(self, job_id: str) -> None:
        """Give the job up; a picture in the making stops after its current step."""
        self._job(job_id).state = "cancelled"

    def find(self, seed: int, *, since: datetime | None = None) -> str | None:
        """The first job of this object that was submitted with `seed` (since a moment)."""
        with self._lock:
            for job_id, job in self._jobs.items():
                if job.request.seed == seed and (since is None or job.since >= since):
                    return job_id
        return None

    def _job(self, job_id: str) -> _Job:
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise ProviderError(f"{self.name} has no job {job_id!r}", remedy="submit the request first")
        return job

    def _failed(self, job: _Job, error: ProviderError) -> None:
        # a cancelled job stays one, whatever its last step ended in
        with self._lock:
            if job.state != "cancelled":
                job.state, job.message = "failed", error.message

    def _size(self, request: EditRequest) -> tuple[int, int]:
        return cover_size(request.aspect, request.long_side, multiple=self._family.multiple)

    def _make(self, job: _Job) -> bytes:
        import torch

        request = job.request
        data = _read(request)
        if hashlib.sha256(data).hexdigest() != job.portrait_sha256:
            raise ProviderError(
                f"slot {request.slot}: the portrait changed after the job was submitted",
                remedy="submit the request again",
            )
        width, height = self._size(request)
        pipe = self._loaded()

        def stop_if_cancelled(pipeline: Any, *_: object) -> dict[str, Any]:
            if job.state == "cancelled":
                pipeline._interrupt = True
            return {}

        arguments = dict(self._family.fixed) | {self._family.guidance_name: self._guidance}
        if self._family.area_name:
            arguments[self._family.area_name] = width * height
        try:
            made = pipe(
                image=_reference(_open(data, request), self._family.multiple),
                prompt=request.prompt,
                width=width,
                height=height,
                num_inference_steps=self._steps,
                generator=torch.Generator("cpu").manual_seed(request.seed),
                output_type="pt",
                callback_on_step_end=stop_if_cancelled,
                **arguments,
            ).images[0]
        except torch.OutOfMemoryError:
            raise ProviderError(
                f"{_short(self._model)} does not fit the memory of this device at {width} x {height}",
                remedy="ask for a smaller long side, or a smaller or quantised model",
            ) from None
        except (RuntimeError, ValueError, ArithmeticError) as error:
            raise ProviderError(
                f"slot {request.slot}: {self._family_name} failed: {' '.join(str(error).split())[:240]}",
                remedy="try other steps, another size, or --debug for the whole story",
            ) from error
        if job.state == "cancelled":
            raise ProviderError(f"slot {request.slot}: cancelled while it was made", remedy="submit it again")
        if not bool(torch.isfinite(made).all()):
            raise ProviderError(
                f"slot {request.slot}: {_short(self._model)} made numbers that are no picture",
                remedy="use a device with bfloat16, or the CPU",
            )
        pixels_HWC = (made.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return png(cut_image(Image.fromarray(pixels_HWC), request.aspect))

    def _loaded(self) -> Any:
        """The pipeline, loaded at first use and kept."""
        if self._pipe is None:
            self._pipe = _load(
                self._model,
                self._family_name,
                device=self._device,
                offload=self._offload,
                download=self._download,
            )
        return self._pipe


def _load(model: str, family: str, *, device: str | None, offload: bool | None, download: bool) -> Any:
    import diffusers
    import torch

    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = getattr(diffusers, family, None)
    if kind is None:
        raise ProviderRefused(
            f"this diffusers ({diffusers.__version__}) has no {family}", remedy="pip install -U diffusers"
        )
    parts: dict[str, Any] = {}
    folder = Path(model).expanduser()
    # half precision only where the machine multiplies it quickly
    precision = {_dtype_word(): torch.float32 if target == "cpu" else torch.bfloat16}
    try:
        if qwen_words.needed(_index(model, download=download)):
            folder = folder if folder.is_dir() else Path(kind.download(model, local_files_only=not download))
            parts["processor"] = qwen_words.reader(folder)
        pipe = kind.from_pretrained(
            model,
            **precision,
            **parts,
            local_files_only=not download,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ProviderRefused(
            f"{_short(model)} cannot be loaded: {' '.join(str(error).split())[:300]}",
            remedy="check that the folder is complete and holds safetensors weights",
        ) from None
    # one picture is one step of the caller's own bar
    pipe.set_progress_bar_config(disable=True)
    if target.startswith("cuda") and (offload if offload is not None else not _fits(pipe, target)):
        pipe.enable_model_cpu_offload(device=target)
    else:
        pipe.to(target)
    return pipe


def _dtype_word() -> str:
    """What this diffusers calls the precision: newer ones warn of the old word, older ones ignore the new."""
    from diffusers.utils import deprecation_utils

    return "dtype" if hasattr(deprecation_utils, "_resolve_dtype") else "torch_dtype"


def _fits(pipe: Any, device: str) -> bool:
    """Whether all weights fit the device's free memory with a quarter to spare for activations."""
    import torch

    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    need = sum(tensor.numel() * tensor.element_size() for part in parts for tensor in part.parameters())
    free, _ = torch.cuda.mem_get_info(device)
    return need * 1.25 < free


def _index(model: str, *, download: bool) -> dict[str, object]:
    """The pipeline's `model_index.json`, from a folder or from the hub's local cache."""
    path = Path(model).expanduser() / "model_index.json"
    if not path.is_file():
        path = _hub_file(model, "model_index.json", download=download)
    try:
        index = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ProviderRefused(
            f"{_short(model)}: model_index.json cannot be read ({type(error).__name__})",
            remedy="fetch the model again",
        ) from None
    return dict(index) if isinstance(index, dict) else {}


def _hub_file(model: str, name: str, *, download: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(hf_hub_download(model, name, local_files_only=not download))
    except (OSError, ValueError, HFValidationError) as error:
        raise ProviderRefused(
            f"no model {_short(model)!r}: no folder with {name}, and not in the hub's cache "
            f"({type(error).__name__})",
            remedy=f"fetch it first: hf download {DEFAULT_MODEL}, or give the path of its folder",
        ) from None


def _short(model: str) -> str:
    """A model's name without the path of this machine."""
    return Path(model).name if Path(model).expanduser().exists() else model


def _read(request: EditRequest) -> bytes:
    try:
        return request.portrait.read_bytes()
    except OSError as error:
        raise ProviderError(
            f"slot {request.slot}: cannot read the portrait {request.portrait}: {error.strerror}",
            remedy="check the path",
        ) from error


def _open(data: bytes, request: EditRequest) -> Image.Image:
    try:
        image = Image.open(BytesIO(data))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ProviderError(
            f"slot {request.slot}: {request.portrait} is no readable picture ({type(error).__name__})",
            remedy="normalise the portrait first, or save it as PNG or JPEG",
        ) from None
    return image.convert("RGB")


def _reference(image: Image.Image, multiple: int) -> Image.Image:
    """The portrait at no more than one megapixel, its sides whole multiples."""
    scale = min(1.0, (_REFERENCE_AREA / (image.width * image.height)) ** 0.5)
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in image.size)
    return image if (width, height) == image.size else image.resize((width, height), Image.Resampling.LANCZOS)
