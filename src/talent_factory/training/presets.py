"""Named settings and the one quality dial: what they stand for, as keys of a training config."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

from talent_factory.core.config import nearest
from talent_factory.core.errors import ConfigError
from talent_factory.core.records import Record
from talent_factory.quality import Quality, derive_dials

Preset = Literal["standard", "fast", "quality"]

_PLAIN: Mapping[str, Any] = {
    "lora_rank": 16,
    "lora_alpha": 8.0,
    "learning_rate": 1e-4,
    "train_text_encoder": False,
    "scheduler": "cosine",
    "max_train_steps": 1200,
    "checkpoint_every": 400,
    "keep_checkpoints": 3,
    "precision": "fp32",
    "gradient_checkpointing": True,
    "batch_size": 1,
}
_STANDARD: Mapping[str, Any] = {**_PLAIN, "train_text_encoder": True, "text_encoder_lr": 5e-5}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "standard": _STANDARD,
    # images are always encoded once; without the text encoder, captions are too
    "fast": {**_PLAIN, "precision": "fp16", "gradient_checkpointing": False},
    "quality": {
        **_STANDARD,
        "lora_rank": 32,
        "lora_alpha": 16.0,
        "max_train_steps": 3000,
        "checkpoint_every": 500,
        "keep_checkpoints": 6,
    },
}

# How often each image is seen, and the least and most images that are seen in all.
_VIEWS: Mapping[str, tuple[int, int, int]] = {
    "draft": (15, 300, 900),
    "standard": (40, 1000, 2400),
    "best": (100, 3000, 6000),
}
_RANKS: Mapping[str, int] = {"draft": 8, "standard": 16, "best": 32}
_SAVES: Mapping[str, int] = {"draft": 3, "standard": 6, "best": 8}
# The set that the embedded base's dials were made for.
_CAST_IMAGES = 17


class Chosen(Record):
    """Keys with their values, and why each has it."""

    values: dict[str, Any]
    reasons: tuple[str, ...]


def preset_keys(name: str, *, images: int, given: Collection[str] = ()) -> Chosen:
    """What the preset `name` stands for; the reasons leave out keys that are `given` and so not filled.

    Raises ConfigError for a name that is none.
    """
    if name not in PRESETS:
        raise ConfigError(
            f"no preset called {name[:40]!r} (nearest: {nearest(name, list(PRESETS))!r})",
            remedy=f"write preset: {', '.join(PRESETS)}",
        )
    values = dict(PRESETS[name])
    why = [f"preset {name}: {_listed({key: value for key, value in values.items() if key not in given})}"]
    if name == "quality" and images > 30 and "max_train_steps" not in given:
        values["max_train_steps"] = 100 * images
        why.append(f"{values['max_train_steps']} steps: {images} images, each seen a hundred times")
    return Chosen(values=values, reasons=tuple(why))


def quality_keys(quality: str, *, images: int, images_per_step: int, mini: bool) -> Chosen:
    """Steps, rank, rates and checkpoints that suit `images` images; `mini` is the embedded base.

    Raises ConfigError for a word that is none of draft, standard and best.
    """
    if quality not in get_args(Quality):
        raise ConfigError(
            f"quality {quality[:40]!r} is not known", remedy=f"use one of {', '.join(get_args(Quality))}"
        )
    if mini:
        return _mini_keys(quality, images=images, images_per_step=images_per_step)
    each, least, most = _VIEWS[quality]
    views = min(max(each * images, least), most)
    steps = max(50, math.ceil(views / images_per_step))
    rank = _RANKS[quality]
    values: dict[str, Any] = {
        "max_train_steps": steps,
        "lora_rank": rank,
        "lora_alpha": rank / 2,
        "learning_rate": 1e-4,
        "scheduler": "cosine",
        "train_text_encoder": quality != "draft",
        **_checkpoints(quality, steps),
    }
    if quality != "draft":
        values["text_encoder_lr"] = 5e-5
    reasons = (
        f"{steps} steps: {images} images, each seen about {steps * images_per_step // max(1, images)} times",
        f"rank {rank} with alpha {rank // 2}: the scale that 1e-4 is known to suit",
        "text encoder too, at half the rate: it learns the new word"
        if quality != "draft"
        else "UNet only: a draft needs the look, not the last bit of the name",
    )
    return Chosen(values=values, reasons=reasons)


def _mini_keys(quality: str, *, images: int, images_per_step: int) -> Chosen:
    """The dials of the whole path, for another number of images."""
    dials = derive_dials(quality)
    views = dials.train_steps * dials.batch_size
    views = min(max(views * images // _CAST_IMAGES, views // 2), 2 * views)
    steps = max(20, math.ceil(views / images_per_step))
    values: dict[str, Any] = {
        "max_train_steps": steps,
        "lora_rank": dials.lora_rank,
        "lora_alpha": dials.lora_alpha,
        "learning_rate": dials.learning_rate,
        "targets": dials.targets,
        "prior_weight": dials.prior_weight,
        "loss": {"weighting": "none"},
        **({"choose": {"measure": True}} if dials.measure else {}),
        **_checkpoints(quality, steps),
    }
    seen = steps * images_per_step // max(1, images)
    reasons = (f"{steps} steps: {images} images, each seen about {seen} times", *dials.reasons[1:])
    return Chosen(values=values, reasons=tuple(reason for reason in reasons if "steps of" not in reason))


def _checkpoints(quality: str, steps: int) -> dict[str, Any]:
    saves = _SAVES[quality]
    return {"checkpoint_every": max(10, math.ceil(steps / saves / 10) * 10), "keep_checkpoints": saves}


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_shown(value)}" for key, value in values.items())


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
