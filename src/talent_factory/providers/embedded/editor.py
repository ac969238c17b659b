"""The painter behind the image-provider port: no network, no key, no cost, and honest about what it made."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

import cv2
import numpy as np

from talent_factory.core.errors import ProviderError
from talent_factory.providers.embedded.framing import canvas_size
from talent_factory.providers.embedded.painter import MEDIA, paint
from talent_factory.providers.embedded.raster import U8
from talent_factory.providers.embedded.stylist import STYLE_MEDIA, SUBJECTS, paint_style
from talent_factory.providers.port import Capabilities, EditRequest, JobState, JobStatus

# Small and quick: the pictures are noisy, so a higher level costs seconds and gains little.
_PNG_LEVEL = 3


@dataclass
class _Job:
    request: EditRequest
    portrait_sha256: str
    state: JobState = "succeeded"
    message: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    lock: threading.Lock = field(default_factory=threading.Lock)


class EmbeddedPainter:
    """Classical image stylisation as an `ImageEditor`.

    `submit` only writes the request down; `fetch` paints, in the caller's thread, and may be called from many
    at once. Job ids follow from the request and the portrait's bytes, so the same request is the same job
    everywhere.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The word under which manifests record this provider."""
        return "embedded"

    def capabilities(self) -> Capabilities:
        """Every medium of `MEDIA`, any aspect, free of charge, as many at once as there are cores."""
        return Capabilities(
            media=(*MEDIA, *STYLE_MEDIA),
            any_aspect=True,
            max_in_flight=os.cpu_count() or 1,
            seed=True,
            max_seed=2**63 - 1,
            network=False,
            methods={medium: recipe.method for medium, recipe in MEDIA.items()} | STYLE_MEDIA,
            augmentations=frozenset(medium for medium, recipe in MEDIA.items() if recipe.augmentation),
        )

    def payload(self, request: EditRequest) -> dict[str, object]:
        """The request itself, the portrait as its digest."""
        data = _read(request)
        digest: dict[str, object] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        return request.model_dump(mode="json", exclude={"portrait"}) | {"portrait": digest}

    def submit(self, request: EditRequest) -> str:
        """Raises ProviderError for a medium or aspect the painter cannot do, or a portrait that cannot be
        read.
        """
        if request.medium not in MEDIA and request.medium not in STYLE_MEDIA:
            raise ProviderError(
                f"slot {request.slot}: the embedded painter knows no medium {request.medium!r}",
                remedy="one of " + ", ".join(MEDIA),
            )
        canvas_size(request.aspect, request.long_side)
        portrait_sha256 = hashlib.sha256(_read(request)).hexdigest()
        facts = request.model_dump(mode="json", exclude={"portrait"}) | {"portrait": portrait_sha256}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        job_id = f"embedded-{digest[:24]}"
        with self._lock:
            known = self._jobs.get(job_id)
            if known is None or known.state in ("cancelled", "failed"):
                self._jobs[job_id] = _Job(request, portrait_sha256)
        return job_id

    def poll(self, job_id: str) -> JobStatus:
        """`succeeded` from the start, since painting waits for nobody; `failed` once a fetch has failed."""
        job = self._job(job_id)
        return JobStatus(state=job.state, message=job.message, billed=False)

    def fetch(self, job_id: str) -> bytes:
        """Paint and encode. Raises ProviderError when the job was cancelled or its portrait changed since."""
        job = self._job(job_id)
        if job.state == "cancelled":
            raise ProviderError(f"job {job_id} was cancelled", remedy="submit the request again")
        with job.lock:
            try:
                return _encode(_paint(job))
            except ProviderError as error:
                job.state, job.message = "failed", error.message
                raise

    def cancel(self, job_id: str) -> None:
        """Refuse to paint this job from now on, until it is submitted again."""
        self._job(job_id).state = "cancelled"

    def find(self, seed: int, *, since: datetime | None = None) -> str | None:
        """The first job of this object that was submitted with `seed` (since a moment)."""
        with self._lock:
            fitting = (
                job_id
                for job_id, job in self._jobs.items()
                if job.request.seed == seed and (since is None or job.since >= since)
            )
            return next(fitting, None)

    def _job(self, job_id: str) -> _Job:
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise ProviderError(
                f"the embedded painter has no job {job_id!r}", remedy="submit the request first"
            )
        return job


def _read(request: EditRequest) -> bytes:
    try:
        return request.portrait.read_bytes()
    except OSError as error:
        raise ProviderError(
            f"slot {request.slot}: cannot read the portrait {request.portrait}: {error.strerror}",
            remedy="check the path",
        ) from error


def _paint(job: _Job) -> U8:
    request = job.request
    data = _read(request)
    if hashlib.sha256(data).hexdigest() != job.portrait_sha256:
        raise ProviderError(
            f"slot {request.slot}: the portrait {request.portrait} changed after the job was submitted",
            remedy="submit the request again",
        )
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if decoded is None:
        raise ProviderError(
            f"slot {request.slot}: {request.portrait} is not an image the painter can read",
            remedy="normalise the portrait first, or save it as PNG or JPEG",
        )
    portrait: U8 = np.asarray(decoded, np.uint8)
    if request.medium in STYLE_MEDIA:
        subjects = request.options.get(SUBJECTS, "")
        return paint_style(
            portrait,
            medium=request.medium,
            subjects=subjects,
            seed=request.seed,
            long_side=request.long_side,
        )
    painted = paint(
        portrait, medium=request.medium, seed=request.seed, aspect=request.aspect, long_side=request.long_side
    )
    return painted.image


def _encode(image_HWC: U8) -> bytes:
    ok, data = cv2.imencode(".png", image_HWC[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])
    if not ok:
        raise ProviderError(
            "the picture could not be encoded as PNG", remedy="report this with the portrait's size"
        )
    return data.tobytes()
