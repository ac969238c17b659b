"""The one door to every image provider: submit a request, poll it, fetch the image."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field

from talent_factory.core.records import Record

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]

Aspect = Annotated[str, Field(pattern=r"^[1-9]\d{0,2}:[1-9]\d{0,2}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,60}$")]


class EditRequest(Record):
    """One image to make: the portrait, what to make of it, and the numbers that pin the result.

    `portrait` is the normalised picture (PNG or JPEG, sRGB); `long_side` is in pixels; `aspect` is
    width:height. `prompt` is for providers that read words, `medium` for those that know media by name.
    `seed` is unique within a cast, so that `find` can recover a job whose id was lost.
    """

    portrait: Path
    slot: Name
    medium: Name
    prompt: str = ""
    aspect: Aspect = "16:9"
    seed: int = Field(ge=0, lt=2**63)
    long_side: int = Field(default=1360, ge=64, le=4096)
    options: dict[str, str] = Field(default_factory=dict)


class JobStatus(Record):
    """What a provider says of a job. `code` and `message` explain a failure ("E005"); `flagged` marks one by
    the safety filter, `transient` one that may be tried again; `billed` is None where nobody says.
    """

    state: JobState
    code: str = ""
    message: str = ""
    flagged: bool = False
    transient: bool = False
    billed: bool | None = None


class Capabilities(Record):
    """What a provider can do and what it costs, known before anything is submitted.

    `methods` names the method behind each medium ("xdog-hatch-1"), for provenance. A medium in
    `augmentations` is the portrait itself in another light or place, never a newly generated photograph; a
    manifest must say so. `safety` is the range of `safety_tolerance` that is taken together with an image.
    `recoverable` says that `find` and `poll` work from another process (a job survives ours); `resumable`
    that `poll` and `fetch` do, given the id, where nothing can be found by its seed. `max_seed` is the
    greatest seed that is taken. `result_ttl_s` is how long a finished image is kept, in seconds.
    """

    model: str = ""
    media: tuple[str, ...] = ()
    any_medium: bool = False
    aspects: tuple[str, ...] = ()
    any_aspect: bool = False
    price_usd: float = Field(default=0.0, ge=0)
    price_as_of: str = ""
    max_in_flight: int = Field(default=1, ge=1)
    seed: bool = False
    max_seed: int = 2**31 - 1
    network: bool = True
    recoverable: bool = False
    resumable: bool = False
    safety: tuple[int, int] | None = None
    result_ttl_s: float | None = None
    methods: dict[str, str] = Field(default_factory=dict)
    augmentations: frozenset[str] = frozenset()


class ImageEditor(Protocol):
    """An image provider, safe to use from several threads; no method blocks longer than one image takes.

    Every method may raise ProviderError; the kinds in `core.errors` (ProviderBusy, SubmitUnknown, ...) tell
    the caller what is safe to do next. ProviderUnreachable from poll, fetch or cancel is worth another try.
    """

    @property
    def name(self) -> str:
        """Short id for manifests, such as "embedded" or "replicate"."""
        ...

    def capabilities(self) -> Capabilities:
        """What this provider can do; constant over the object's life."""
        ...

    def payload(self, request: EditRequest) -> dict[str, object]:
        """What `submit` would send, for records: pictures as {"sha256", "bytes"}, never a key."""
        ...

    def submit(self, request: EditRequest) -> str:
        """Accept a request and return its job id; refused requests raise and leave no job.

        A provider that answers with the image at once returns when it is made, and keeps it for `fetch`.
        """
        ...

    def poll(self, job_id: str) -> JobStatus:
        """State of a job; `succeeded` means that `fetch` may be called."""
        ...

    def fetch(self, job_id: str) -> bytes:
        """The finished image (PNG, JPEG or WebP bytes); the same bytes however often it is called."""
        ...

    def cancel(self, job_id: str) -> None:
        """Give a job up; cancelling twice is no error."""
        ...

    def find(self, seed: int, *, since: datetime | None = None) -> str | None:
        """The job submitted with this seed (since a moment, UTC), or None: recovers an id that was lost."""
        ...
