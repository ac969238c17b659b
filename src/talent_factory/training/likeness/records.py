"""What is measured of a checkpoint and what is chosen by it, as frozen records; read without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from talent_factory.core.records import Record


class Ask(Record):
    """What one prompt asks for; `background` is a whole phrase where the base is not the embedded one."""

    medium: str
    mood: str
    background: str


class Shot(Record):
    """One picture to draw. `prompt` holds the trigger; `plain` says the same without it, for judges."""

    prompt: str
    plain: str
    seed: int
    ask: Ask | None = None
    group: int = Field(ge=0, description="Number of the prompt; its pictures are resampled together.")


class MeasurePlan(Record):
    """All that is drawn and asked at every checkpoint of a run, fixed before the first step.

    `subject` are the pictures that choose, `unrelated` are prompts without the trigger, `report` are other
    prompts and seeds that nothing is chosen by. `references` are the images that the subject should look
    like, held out when `held_out`; `training` are those that it should not repeat. Files are relative to the
    dataset's folder. `size` is (height, width) in pixels.
    """

    version: Literal[1] = 1
    subject: tuple[Shot, ...] = Field(min_length=2)
    unrelated: tuple[Shot, ...] = Field(min_length=1)
    report: tuple[Shot, ...] = Field(min_length=2)
    references: tuple[str, ...] = Field(min_length=1)
    training: tuple[str, ...] = Field(min_length=1)
    held_out: bool
    size: tuple[int, int]
    steps: int
    guidance: float
    batch: int
    encoder: str
    """Who chooses by the look, as `encoders.open_encoder` takes it."""
    adherence: str
    """Who chooses by the prompt."""
    reporter: str
    """Who reports the look of what was chosen."""
    seed: int


class Yardstick(Record):
    """What real pictures measure, by the same encoders: the ends of the scales.

    `identity` is how alike real pictures of the subject are, `copy_limit` how near one comes to another
    (a drawn one that is nearer to a training image repeats it), `diversity` how different they are.
    """

    identity: float
    copy_limit: float
    diversity: float
    held_out: bool


class Measure(Record):
    """One checkpoint: raw values, one for each picture, so that every summary can be computed again.

    `groups` are the numbers of the prompts; `identity` the likeness to the references, `adherence` the
    obedience to the prompt, `nearest` the likeness to the nearest training image, all as the encoders give
    them. `drift` is how far each unrelated picture went, in layout or look, from what the base itself draws
    there, in units of the distance between two of the base's own pictures; empty at step 0. `diversity` is
    the mean distance between pictures of different prompts.
    """

    step: int = Field(ge=0)
    weight: float = 1.0
    groups: tuple[int, ...]
    identity: tuple[float, ...]
    adherence: tuple[float, ...]
    nearest: tuple[float, ...]
    drift: tuple[float, ...] = ()
    diversity: float
    yardstick: Yardstick


class Score(Record):
    """One checkpoint in shares of 1: of real pictures for `identity`, of the base for `adherence`.

    `score` is their harmonic mean after what is taken off for copies, for a collapse of diversity and for
    drift; `low` and `high` hold it in the given share of bootstrap resamples of the prompts.
    """

    step: int
    weight: float = 1.0
    identity: float
    adherence: float
    copied: float
    diversity: float
    drift: float
    score: float
    low: float
    high: float


class Reported(Record):
    """What the metric that chose nothing says of one state of the model, on prompts that chose nothing."""

    identity: float
    adherence: float
    harmonic: float


class Report(Record):
    """The figures to quote: `by` names who measured; `base` is the model without the LoRA."""

    by: str
    prompts: int
    pictures: int
    base: Reported
    chosen: Reported
    last: Reported


class Choice(Record):
    """choice.json: which checkpoint ships, at which strength, and why."""

    version: Literal[1] = 1
    step: int
    best_step: int
    last_step: int
    default_weight: float = Field(default=1.0, ge=0.0, le=2.0)
    measured_step: int
    """What the measures chose, whatever a person says; `sweep` and `report` are about this step."""
    measured_weight: float = 1.0
    chosen_by: Literal["measure", "person"] = "measure"
    confidence: float
    reason: str
    judges: dict[str, str] = Field(
        default_factory=dict, description="Who looked, with sha256 of the weights."
    )
    scores: tuple[Score, ...]
    sweep: tuple[Score, ...] = ()
    report: Report | None = None

    @property
    def chosen(self) -> Score | None:
        """The score of the step that ships, None for one that was never measured."""
        return next((score for score in self.scores if score.step == self.step), None)
