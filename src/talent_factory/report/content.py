"""What a report page shows, as frozen records: paths of pictures and plain facts, no layout."""

from __future__ import annotations

from pathlib import Path

from talent_factory.core.records import Record
from talent_factory.training.likeness.records import Report, Score


class CastPicture(Record):
    """One training image; `augmentation` says that it is the portrait itself, reframed or relit."""

    path: Path
    slot: str
    medium: str
    method: str
    augmentation: bool


class Pair(Record):
    """The same prompt and seed, by the untrained base and with the kit."""

    title: str
    prompt: str
    seed: int
    base: Path
    trained: Path


class MixCell(Record):
    """One picture of a mix and the weights that made it."""

    label: str
    path: Path


class MixRow(Record):
    """One prompt and seed under rising style weight."""

    title: str
    prompt: str
    cells: tuple[MixCell, ...]


class LossPoint(Record):
    """The loss of one optimiser step."""

    step: int
    loss: float


class Timing(Record):
    """How long one stage worked, in seconds."""

    stage: str
    seconds: float


class NamedText(Record):
    """A fact (name and value) or a command (title and line)."""

    name: str
    text: str


class SheetCell(Record):
    """One picture on a sheet of many; `box` is left, top, right, bottom in pixels."""

    sheet: Path
    box: tuple[int, int, int, int]
    text: str


class ChoiceRow(Record):
    """One checkpoint, or one strength: its score, what sets it apart, and its pictures."""

    score: Score
    tags: tuple[str, ...] = ()
    cells: tuple[SheetCell, ...]


class ChoiceContent(Record):
    """How a run chose its checkpoint; `prompts` head the columns, the last one has no trigger in it."""

    run: str
    reason: str
    by_person: bool
    step: int
    weight: float
    prompts: tuple[str, ...]
    rows: tuple[ChoiceRow, ...]
    sweep: tuple[ChoiceRow, ...] = ()
    report: Report | None = None
    judges: tuple[str, ...] = ()
    held_out: bool
    references: int
    pictures: int
    command: str
    loss: tuple[LossPoint, ...] = ()
    validation: tuple[LossPoint, ...] = ()


class ReportContent(Record):
    """One page. Every text may come from a user and is escaped when the page is written."""

    token: str
    title: str
    lead: str
    portrait: Path
    hero: Path | None = None
    cast: tuple[CastPicture, ...] = ()
    pairs: tuple[Pair, ...] = ()
    mixes: tuple[MixRow, ...] = ()
    style_name: str = ""
    loss: tuple[LossPoint, ...] = ()
    validation: tuple[LossPoint, ...] = ()
    """The loss on images that were held out, where there were any."""
    choice: ChoiceContent | None = None
    highlights: tuple[NamedText, ...] = ()
    facts: tuple[NamedText, ...] = ()
    reasons: tuple[str, ...] = ()
    timings: tuple[Timing, ...] = ()
    commands: tuple[NamedText, ...] = ()
    version: str
