"""The one door to every image provider: submit a request, poll it, fetch PNG bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field

from talent_factory.core.records import Record

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]

Aspect = Annotated[str, Field(pattern=r"^[1-9]\d{0,2}:[1-9]\d{0,2}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,60}$")]


class EditRequest(Record):
    """One image to make: the portrait, what to make of it, and the numbers that pin the result.

    `long_side` is in pixels; `aspect` is width:height. `prompt` is for providers that read words, `medium`
    for those that know media by name. `seed` is unique within a cast, so that `find` can recover a job.
    """

    portrait: Path
    slot: Name
    medium: Name
    prompt: str = ""
    aspect: Aspect = "16:9"
    seed: int = Field(ge=0, lt=2**63)
    long_side: int = Field(default=1360, ge=64, le=4096)
    options: dict[str, str] = Field(default_factory=dict)


class Capabilities(Record):
    """What a provider can do and what it costs, known before anything is submitted.

    `methods` names the method behind each medium ("xdog-hatch-1"), for provenance. A medium in
    `augmentations` is the portrait itself in another light or place, never a newly generated photograph; a
    manifest must say so.
    """

    media: tuple[str, ...] = ()
    any_medium: bool = False
    aspects: tuple[str, ...] = ()
    any_aspect: bool = False
    price_usd: float = Field(default=0.0, ge=0)
    max_in_flight: int = Field(default=1, ge=1)
    seed: bool = False
    network: bool = True
    methods: dict[str, str] = Field(default_factory=dict)
    augmentations: frozenset[str] = frozenset()


class ImageEditor(Protocol):
    """An image provider. Every method may raise ProviderError; none blocks longer than one image takes."""

    @property
    def name(self) -> str:
        """Short id for manifests, such as "embedded"."""
        ...

    def capabilities(self) -> Capabilities:
        """What this provider can do; constant over the object's life."""
        ...

    def submit(self, request: EditRequest) -> str:
        """Accept a request and return its job id; refused requests raise ProviderError and leave no job."""
        ...

    def poll(self, job_id: str) -> JobState:
        """State of a job; `succeeded` means that `fetch` may be called."""
        ...

    def fetch(self, job_id: str) -> bytes:
        """The finished image as PNG bytes; the same bytes however often it is called."""
        ...

    def cancel(self, job_id: str) -> None:
        """Give a job up; cancelling twice is no error."""
        ...

    def find(self, seed: int) -> str | None:
        """The job submitted with this seed, or None: recovers an id lost before it was written down."""
        ...
