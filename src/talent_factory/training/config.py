"""What a training is told: the keys of its YAML file, their limits and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from talent_factory.core.config import load_yaml, parse
from talent_factory.core.errors import UsageError
from talent_factory.core.records import Record
from talent_factory.core.workspace import Workspace, check_id, check_token
from talent_factory.quality import Quality
from talent_factory.training.options import (
    CaptionKeys,
    ChooseKeys,
    LossKeys,
    NetworkKeys,
    NoiseKeys,
    OptimizerKeys,
    Rate,
    Targets,
    ValidationKeys,
)
from talent_factory.training.presets import Preset

LearningRateCurve = Literal["cosine", "linear", "constant"]
Mode = Literal["crop", "letterbox", "bucket"]
Precision = Literal["fp32", "bf16", "fp16", "fp8"]
Device = Literal["auto", "cpu", "cuda", "mps"]

# The share of the UNet's learning rate that a text encoder takes when nothing else is said.
_TEXT_SHARE = 0.1
# Below this a learning rate was meant for another optimiser, not as a factor of Prodigy's own estimate.
_LEAST_FACTOR = 0.01


class TrainConfig(Record):
    """One training, complete and frozen; a run keeps a copy and refuses to go on with another one."""

    id: str = Field(
        description="Talent id: avatar.identity.NAME for a character, avatar.style.NAME for a style."
    )
    kind: Literal["lora"] = Field(description="What is trained; always lora.")
    sdx_version: Literal["1.5", "xl"] = Field(
        description='Generation of the base, "1.5" (also for mini) or "xl".'
    )
    base_model: str = Field(
        min_length=1,
        description="mini, a folder in diffusers form, a .safetensors checkpoint, or an id of the hub.",
    )
    train_data_dir: str = Field(
        min_length=1, description="Folder of images with .txt captions beside them, or a prepared dataset."
    )
    resolution: int = Field(
        ge=64, le=2048, multiple_of=8, description="Side of the training images, in pixels."
    )
    lora_rank: int = Field(ge=1, le=128, description="Width of the low-rank layers.")
    max_train_steps: int = Field(ge=1, le=1_000_000, description="Optimiser steps.")
    learning_rate: Rate = Field(description="Peak learning rate of the UNet's layers.")
    batch_size: int = Field(ge=1, le=64, description="Images that go through the model at once.")

    token: str | None = Field(None, description="The word that calls the subject; an identity needs one.")
    class_noun: str = Field(
        "person", min_length=1, max_length=40, description="What the subject is: woman, robot."
    )
    negatives: tuple[str, ...] = Field((), description="Words for the negative prompt of the finished kit.")
    description: str = Field("", max_length=2000, description="One or two sentences for the kit.")
    tags: tuple[str, ...] = Field((), description="Words to find the kit by.")
    author: str = Field("", max_length=200, description="Who made it.")
    license: str = Field(
        "", max_length=200, description="Licence of the kit, as an SPDX name where there is one."
    )

    consent: Literal["self", "written"] | None = Field(
        None,
        description="A real person is shown who agreed, self or written; unset says nothing, and "
        "`talent kit subject` says it later.",
    )

    lora_alpha: float | None = Field(
        None, ge=0.01, le=1024, description="Scale times rank; equal to lora_rank if unset."
    )
    targets: Targets = Field("transformer", description="Layers to adapt; transformer is what kohya adapts.")
    train_text_encoder: bool = Field(False, description="Adapt the text encoder too.")
    text_encoder_lr: Rate | None = Field(
        None, description="Its peak learning rate; a tenth of the UNet's if unset."
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="All randomness is a function of this seed and the step."
    )
    scheduler: LearningRateCurve = Field(
        "cosine", description="How the learning rate falls after the warm-up."
    )
    warmup_steps: int = Field(0, ge=0, description="Steps over which the learning rate rises.")
    max_grad_norm: float = Field(
        1.0, ge=1e-4, le=1e9, description="Gradients are scaled down to this norm; 1e6 never acts."
    )
    accumulation: int = Field(1, ge=1, le=4096, description="Batches whose gradients make one step.")
    ema: float | None = Field(
        None,
        gt=0.0,
        le=0.9999,
        description="Ship a moving average of the weights with this memory, such as 0.99.",
    )
    flip: bool = Field(False, description="Mirror half of the images; off keeps one-sided marks in place.")
    prior_weight: float = Field(
        0.0, ge=0.0, le=100.0, description="Pull towards the base on prompts without token."
    )
    prior_batch: int | None = Field(
        None, ge=1, le=64, description="Such prompts in a step; half a batch if unset."
    )
    prior_prompts: tuple[str, ...] = Field((), description="Those prompts; the base's own list if empty.")
    regular_weight: float = Field(
        1.0,
        ge=0.0,
        le=100.0,
        description="How much pictures of the class in general count (reg folders).",
    )
    mode: Mode = Field("crop", description="How images of other shapes are made to fit.")

    sample_every: int | None = Field(
        None, ge=0, description="Steps between sample images; a quarter if unset, 0 none."
    )
    sample_prompts: tuple[str, ...] = Field(
        (), max_length=8, description="Prompts of the samples; captions if empty."
    )
    checkpoint_every: int = Field(50, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, le=100, description="Newest checkpoints to keep.")
    tensorboard: bool = Field(False, description="Also write TensorBoard files; needs the tensorboard extra.")
    wandb: str | None = Field(
        None, max_length=200, description="Also write to this W&B project (WANDB_MODE=offline works)."
    )
    precision: Precision = Field(
        "fp32", description="Of the frozen model; the LoRA is always fp32. fp8 stores, bf16 computes."
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice to keep fewer: less memory, about a third slower."
    )
    attention: Literal["auto", "plain"] = Field(
        "auto", description="auto takes torch's fused attention; plain is the reference formula."
    )
    fast: bool = Field(
        True, description="On a GPU: replay the step as one captured graph; false computes it op by op."
    )
    device: Device = Field("auto", description="Where to train.")
    quiet: bool | None = Field(
        None,
        description="Four threads and, on an Apple GPU, low memory watermarks; there it is on if unset.",
    )
    preset: Preset | None = Field(
        None, description="standard, fast or quality: values for the keys that are not written here."
    )
    quality: Quality | None = Field(
        None, description="draft, standard or best: steps, rank and rates from the number of images."
    )
    profile: Literal["auto", "off"] | None = Field(
        None,
        description="auto derives batch, precision and memory from the device; auto with preset or quality.",
    )

    captions: CaptionKeys = Field(CaptionKeys(), description="What happens to captions.")
    noise: NoiseKeys = Field(NoiseKeys(), description="How noise is drawn.")
    loss: LossKeys = Field(LossKeys(), description="What a step makes small.")
    optimizer: OptimizerKeys = Field(OptimizerKeys(), description="Who moves the weights.")
    network: NetworkKeys = Field(NetworkKeys(), description="The low-rank layers in detail.")
    validation: ValidationKeys = Field(ValidationKeys(), description="Loss on held-out images.")
    choose: ChooseKeys = Field(ChooseKeys(), description="Which checkpoint becomes the kit.")

    @property
    def subject(self) -> Literal["identity", "style"]:
        """What the id says the LoRA is about."""
        return "identity" if self.id.startswith("avatar.identity.") else "style"

    @property
    def alpha(self) -> float:
        """The alpha that goes into the file."""
        return float(self.lora_rank) if self.lora_alpha is None else self.lora_alpha

    @property
    def text_rate(self) -> float:
        """Peak learning rate of the text encoder; prodigy finds one for all layers."""
        if self.text_encoder_lr is not None:
            return self.text_encoder_lr
        return self.learning_rate * (1.0 if self.optimizer.name == "prodigy" else _TEXT_SHARE)

    @property
    def sample_interval(self) -> int:
        """Steps between samples, 0 for none."""
        return max(1, self.max_train_steps // 4) if self.sample_every is None else self.sample_every

    @property
    def preservation_batch(self) -> int:
        """Prompts without token in a step, 0 when nothing is preserved."""
        if self.prior_weight == 0.0:
            return 0
        wanted = (self.batch_size + 1) // 2 if self.prior_batch is None else self.prior_batch
        return min(wanted, self.batch_size)

    @field_validator("sdx_version", mode="before")
    @classmethod
    def _version_is_text(cls, value: Any) -> Any:
        # `sdx_version: 1.5` without quotes is a number in YAML
        return str(value) if isinstance(value, float) else value

    @field_validator("negatives", "tags", "sample_prompts", "prior_prompts", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("id")
    @classmethod
    def _id_is_safe(cls, value: str) -> str:
        return _checked(check_id, value)

    @field_validator("token")
    @classmethod
    def _token_is_safe(cls, value: str | None) -> str | None:
        return None if value is None else _checked(check_token, value)

    @model_validator(mode="after")
    def _identity_has_a_token(self) -> TrainConfig:
        if self.subject == "identity" and self.token is None:
            raise ValueError(
                "missing key 'token': an identity needs the word that calls it, such as dot_kairo"
            )
        return self

    @model_validator(mode="after")
    def _optimizer_can_do_it(self) -> TrainConfig:
        name = self.optimizer.name
        if name == "prodigy" and self.learning_rate < _LEAST_FACTOR:
            raise ValueError(
                "optimizer.name prodigy finds the rate itself and multiplies it by learning_rate "
                f"{self.learning_rate:g}: write learning_rate: 1"
            )
        text_differs = self.train_text_encoder and self.text_rate != self.learning_rate
        if name == "prodigy" and (text_differs or self.optimizer.lora_plus != 1.0):
            raise ValueError(
                "optimizer.name prodigy finds one rate for all layers: write optimizer.lora_plus: 1 and no "
                "text_encoder_lr"
            )
        if name == "adamw-schedulefree" and self.ema is not None:
            raise ValueError("optimizer.name adamw-schedulefree averages the weights itself: write ema: null")
        return self


# Keys that change what is shown or kept, never a number that training computes: a run may go on with others.
NEUTRAL_KEYS = frozenset(
    {
        "train_data_dir", "negatives", "description", "tags", "author", "license", "consent", "sample_every",
        "sample_prompts", "checkpoint_every", "keep_checkpoints", "tensorboard", "wandb", "quiet", "preset",
        "quality", "profile",
    }
)  # fmt: skip


def load_train_config(
    path: Path, *, choices: Mapping[str, str] | None = None, place: Workspace | None = None
) -> TrainConfig:
    """Read a YAML config and fill the keys that its `preset`, `quality` and `profile` stand for.

    `choices` takes the place of what the file says of those three; a relative folder of images is looked for
    in `place` too. Raises ConfigError that names every unknown, missing or impossible key at once.
    """
    return explained_config(path, choices=choices, place=place)[0]


def explained_config(
    path: Path, *, choices: Mapping[str, str] | None = None, place: Workspace | None = None
) -> tuple[TrainConfig, tuple[str, ...]]:
    """The same config, and why each filled key has its value."""
    from talent_factory.training.filling import filled

    chosen = filled({**load_yaml(path), **(choices or {})}, source=str(path), place=place)
    return parse(TrainConfig, chosen.values, source=str(path)), chosen.reasons


def _checked(check: Any, value: str) -> str:
    try:
        return str(check(value))
    except UsageError as error:
        raise ValueError(f"{error.message}: {error.remedy}") from None
