"""The groups of a training config: small frozen records, each handed to the one part that obeys it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from talent_factory.core.records import Record

Share = Annotated[float, Field(ge=0.0, le=1.0)]
# Below 1e-9 a step changes nothing that half precision could hold.
Rate = Annotated[float, Field(ge=1e-9, le=1.0)]

OptimizerName = Literal["adamw", "adamw8bit", "prodigy", "adamw-schedulefree"]
Targets = Literal["attention", "transformer", "transformer+conv"]
LossKind = Literal["l2", "huber", "smooth-l1"]
HuberSchedule = Literal["constant", "exponential", "snr"]
Weighting = Literal["none", "min-snr", "debiased"]


class CaptionKeys(Record):
    """What happens to captions during training; every outcome is one of finitely many texts, encoded once."""

    dropout: Share = Field(0.05, description="Share of captions replaced by nothing, for guidance.")
    tag_dropout: Share = Field(0.0, description="Share of comma-separated tags left out of a caption.")
    shuffle: bool = Field(False, description="Put the comma-separated tags in another order each time.")
    keep_tokens: int = Field(1, ge=0, le=64, description="Tags at the front that are never moved or dropped.")
    variants: int = Field(
        8, ge=1, le=256, description="Different shuffled or thinned texts a caption may become."
    )

    @property
    def varies(self) -> bool:
        """Whether a caption can become anything but itself or nothing."""
        return self.shuffle or self.tag_dropout > 0.0


class NoiseKeys(Record):
    """How the noise is drawn that the model learns to predict."""

    offset: float = Field(
        0.0, ge=0.0, le=1.0, description="Strength of noise shared by all pixels of a channel."
    )
    zero_terminal_snr: bool = Field(
        False, description="Rescale the schedule so that the last step is pure noise; needs v-prediction."
    )


class LossKeys(Record):
    """What a step makes small."""

    kind: LossKind = Field("l2", description="l2, or huber / smooth-l1, which outliers pull less.")
    huber_c: float = Field(
        0.1, ge=1e-4, le=10.0, description="Error at which huber turns from square to linear."
    )
    huber_schedule: HuberSchedule = Field(
        "snr",
        description="How that error goes over the timesteps: smaller where there is more noise, or not.",
    )
    weighting: Weighting = Field("min-snr", description="How timesteps are weighed against each other.")
    min_snr_gamma: float = Field(5.0, ge=0.01, le=1e6, description="The gamma of min-snr.")
    mask: Literal["none", "file", "face"] = Field(
        "none", description="Weigh pixels: by NAME.mask.png beside each image, or by the face that is found."
    )
    outside: Share = Field(0.1, description="Weight of pixels outside the mask; those inside have 1.")


class OptimizerKeys(Record):
    """Who moves the weights."""

    name: OptimizerName = Field(
        "adamw", description="Prodigy and schedule-free come with the optimizers extra."
    )
    weight_decay: Share = Field(0.01, description="Decoupled weight decay.")
    beta1: float = Field(0.9, ge=0.0, le=0.9999, description="Memory of the first moment.")
    beta2: float = Field(
        0.99,
        ge=0.0,
        le=0.9999,
        description="Memory of the second; a few hundred steps are too few for 0.999.",
    )
    epsilon: float = Field(
        1e-8, ge=1e-16, le=1e-2, description="Keeps the division by the second moment finite."
    )
    lora_plus: float = Field(
        1.0, ge=1.0, le=64.0, description="LoRA+: times the learning rate for the up matrices."
    )

    @model_validator(mode="after")
    def _averages_something(self) -> OptimizerKeys:
        if self.name == "adamw-schedulefree" and self.beta1 == 0.0:
            raise ValueError(
                "adamw-schedulefree averages weights with beta1, and 0 leaves it nothing: write beta1: 0.9"
            )
        return self


class NetworkKeys(Record):
    """The shape of the low-rank layers beyond rank, alpha and targets."""

    conv_rank: int | None = Field(
        None, ge=1, le=128, description="Rank of 3 x 3 convolutions; lora_rank if unset."
    )
    conv_alpha: float | None = Field(
        None, ge=0.01, le=1024, description="Their alpha; scaled as lora_alpha if unset."
    )
    rslora: bool = Field(False, description="Scale by alpha / sqrt(rank); written as a plain alpha.")
    dora: bool = Field(False, description="Train the length of each input's weights too (DoRA as kohya).")


class ValidationKeys(Record):
    """Loss on images that are never trained on, at noise that is always the same."""

    share: float = Field(0.0, ge=0.0, le=0.5, description="Share of the images held out; 0 none.")
    every: int | None = Field(None, ge=1, description="Steps between measurements; each checkpoint if unset.")


class ChooseKeys(Record):
    """How the checkpoint that becomes the kit is chosen; see docs/choosing.md."""

    measure: bool = Field(
        False, description="Measure each checkpoint on fixed prompts and ship the one that is best."
    )
    every: int | None = Field(
        None,
        ge=1,
        description="Steps between measured checkpoints, whole checkpoints; an eighth of a run if unset.",
    )
    prompts: int = Field(8, ge=2, le=64, description="Prompts drawn at each measured checkpoint.")
    seeds: int = Field(2, ge=1, le=16, description="Seeds of each prompt.")
    steps: int = Field(12, ge=2, le=100, description="Sampling steps of these pictures.")
    encoder: str = Field(
        "auto", max_length=500, description="probe, or dinov2:, clip:, arcface: or ccip: and a local folder."
    )
    adherence: str = Field(
        "auto", max_length=500, description="Who judges obedience to the prompt: probe, clip:FOLDER or none."
    )
    report: str = Field(
        "auto",
        max_length=500,
        description="Who reports the figures: another encoder than the one that chooses.",
    )
    confidence: float = Field(
        0.55,
        gt=0.5,
        lt=1.0,
        description="An earlier checkpoint stands while the best beats it in a smaller share of resamples.",
    )
    patience: int | None = Field(
        None, ge=1, le=100, description="Stop after so many checkpoints without a better one; null never."
    )
    weights: tuple[float, ...] = Field(
        (0.6, 0.8, 1.0, 1.2), max_length=12, description="Strengths tried for default_weight at the end."
    )
