"""What goes over the wire: requests, answers and events, shared by the server and its client."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from talent_factory.core.records import Record

State = Literal["queued", "running", "done", "failed", "cancelled"]
Family = Literal["mini", "sd15", "sdxl"]
FINAL: frozenset[str] = frozenset(("done", "failed", "cancelled"))

MAX_IMAGES = 256
# `ID:WEIGHT@BEGIN-END`: an id has at most 100 characters
KitText = Annotated[str, StringConstraints(min_length=1, max_length=160)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class MixAsk(Record):
    """Kits to use together, and how."""

    # what stands below a field is told in the description of the interface
    model_config = ConfigDict(use_attribute_docstrings=True)

    kits: tuple[KitText, ...] = Field(default=(), max_length=16)
    """Each as ID, ID:WEIGHT, ID:WEIGHT@BEGIN-END (shares of the steps) or ID:WEIGHT/BLOCK=FACTOR,..."""
    base: str = Field(default="mini", min_length=1, max_length=200)
    """The model they were trained on, by a name from GET /bases."""
    projection: float = Field(default=0.0, ge=0, le=1000)
    """Keep identities out of what styles read (NP-LoRA): 0 not at all, 0.5 as in the paper."""
    switch: bool = False
    """Let the kits take turns, one a step: for three and more."""


class RenderAsk(MixAsk):
    """Images to draw: each prompt with each seed, by kits or by a saved persona; at most 256 images a job."""

    persona: str | None = Field(default=None, max_length=100)
    """A saved persona, instead of kits: its own numbers hold wherever the request names none."""
    kind: Literal["hero", "full-body", "character-sheet", "expressions"] | None = None
    """A kind of introduction, which has prompts of its own."""
    prompts: tuple[Words, ...] = Field(default=(), max_length=MAX_IMAGES)
    """Without any, those of the first kit are used, or those of the kind."""
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1, max_length=MAX_IMAGES)
    negative: str = Field(default="", max_length=2000)
    """What is not wanted."""
    steps: int = Field(default=20, ge=1, le=150)
    guidance: float | None = Field(default=None, ge=0, le=50)
    """How closely to follow the prompt; the base's own when left out."""
    size: tuple[int, int] | None = None
    """Width and height in pixels, multiples of 8 from 64 to 2048; the base's own when left out."""
    batch: int = Field(default=4, ge=1, le=16)
    """How many images are drawn at a time: more need more memory."""
    preview: int = Field(default=0, ge=0, le=150)
    """A picture of the moment every so many steps; 0 shows none."""

    @model_validator(mode="after")
    def _not_both(self) -> RenderAsk:
        if self.persona and (self.kits or self.projection or self.switch):
            raise ValueError("a persona brings its own kits: leave kits, projection and switch out")
        if self.kind and (self.prompts or self.persona):
            raise ValueError("a kind has prompts of its own: leave prompts and persona out")
        if len(self.prompts) * len(self.seeds) > MAX_IMAGES:
            raise ValueError(f"prompts times seeds is at most {MAX_IMAGES}")
        return self


class BaseSummary(Record):
    """A base that requests may name; kits of its `family` fit it."""

    name: str
    family: Family


class KitUsed(Record):
    """One kit of a checked mix; `sha256` names its weights."""

    id: str
    sha256: str
    weight: float
    begin: float = 0.0
    end: float = 1.0


class PairFit(Record):
    """How two kits get along: 1 when they leave each other alone, 0 when one does what the other does."""

    first: str
    second: str
    score: float
    words: str


class MixAnswer(Record):
    """A mix that can be drawn: its kits, a remark about it, and how well every two of them get along."""

    base: str
    kits: tuple[KitUsed, ...]
    warning: str = ""
    pairs: tuple[PairFit, ...] = ()


class KitSummary(Record):
    """What a list shows of one kit; `base` is the model it was trained on, in its maker's words."""

    id: str
    kind: Literal["identity", "style"]
    token: str | None = None
    base: str
    family: Family
    default_weight: float
    description: str = ""
    tags: tuple[str, ...] = ()


class KitDetail(KitSummary):
    """One kit with its prompts; `manifest` is its talent.json."""

    rank: int
    size_mb: float
    prompts: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    has_preview: bool = False
    manifest: dict[str, Any]


class KitPage(Record):
    """Some of the kits, and how many there are in all."""

    kits: tuple[KitSummary, ...]
    total: int


class PersonaSummary(Record):
    """What a list shows of one persona."""

    id: str
    version: str
    kits: tuple[str, ...]


class PersonaPage(Record):
    """The personas that can be read, by id."""

    personas: tuple[PersonaSummary, ...]


class Job(Record):
    """One render job; `done` of `total` images are ready, at `/jobs/ID/images/1` and so on."""

    id: str
    state: State
    total: int
    done: int = 0
    created_at: datetime
    ended_at: datetime | None = None
    message: str = ""
    """Why it failed."""
    remedy: str = ""
    request: RenderAsk


class JobPage(Record):
    """Jobs, the newest first, and how many wait or run."""

    jobs: tuple[Job, ...]
    active: int


class Event(Record):
    """One line of a job's story: `id` from 1 on, `kind` progress, image, preview, message or a last state."""

    id: int
    kind: str
    data: dict[str, Any] = Field(default_factory=dict)


class Health(Record):
    """Whether the service works: `degraded` when no process is left that draws."""

    status: Literal["ok", "degraded"]
    version: str


class Fault(Record):
    """Why a request was refused: the kind of error, one line about it, and what to do."""

    kind: str
    message: str
    remedy: str = ""


class FaultAnswer(Record):
    """The body of every answer from 400 on."""

    error: Fault
