"""The one dial of `talent run`: a quality word becomes every number of the run, each with its reason."""

from __future__ import annotations

from typing import Literal, get_args

from talent_factory.core.errors import UsageError
from talent_factory.core.records import Record

Quality = Literal["draft", "standard", "best"]


class Dials(Record):
    """Every number a run needs that a user has not given; pixels, optimiser steps and image counts."""

    quality: str
    cast_long_side: int
    """Long side of a training image as painted, in pixels; the dataset scales it to the base's own size."""
    include_portrait: bool = True
    """Whether the portrait itself is among the training images, beside those made from it."""
    lora_rank: int
    lora_alpha: float
    train_steps: int
    learning_rate: float
    batch_size: int
    targets: Literal["attention", "transformer", "transformer+conv"] = "transformer"
    train_text_encoder: bool = False
    prior_weight: float
    """Strength of base preservation: how hard prompts without the token are held at the base's own answer."""
    seeds_per_scene: int
    """Renders made of each evaluation scene, by the base and by the kit alike."""
    render_steps: int
    measure: bool = False
    """Whether checkpoints are measured and the best one ships, rather than the last."""
    reasons: tuple[str, ...]


_STEPS: dict[str, int] = {"draft": 200, "standard": 600, "best": 1200}
_RANK: dict[str, int] = {"draft": 8, "standard": 16, "best": 32}
_SEEDS: dict[str, int] = {"draft": 1, "standard": 2, "best": 4}
_RENDER_STEPS: dict[str, int] = {"draft": 12, "standard": 20, "best": 28}
_BATCH = 4


def derive_dials(quality: str, *, readable: bool = True) -> Dials:
    """Numbers for `draft`, `standard` or `best`; a pure function, so a plan can be shown before any work.

    `readable` says whether pictures of the base can be judged without further models, as those of the
    embedded base can; only then `best` measures checkpoints. Raises UsageError for any other word.
    """
    if quality not in get_args(Quality):
        raise UsageError(
            f"quality {quality!r} is not known", remedy=f"use one of {', '.join(get_args(Quality))}"
        )
    steps, rank, measure = _STEPS[quality], _RANK[quality], quality == "best" and readable
    seen = steps * _BATCH // 17
    return Dials(
        quality=quality,
        cast_long_side=640,
        lora_rank=rank,
        lora_alpha=float(rank),
        train_steps=steps,
        learning_rate=8e-4,
        batch_size=_BATCH,
        targets="transformer+conv",
        prior_weight=0.1,
        seeds_per_scene=_SEEDS[quality],
        render_steps=_RENDER_STEPS[quality],
        measure=measure,
        reasons=(
            "640 px paintings: five times the base's 128 px, so a line keeps its shape when scaled down",
            f"rank {rank} with alpha {rank}: the update is applied at scale 1",
            f"{steps} steps of {_BATCH}: each of 17 images about {seen} times, colour more often",
            "learning rate 8e-4: eight times the usual rate for SD 1.5, as the base is small",
            "convolutions too: small marks are a matter of the finest layers",
            "base preservation 0.1: each step also holds plain prompts where they were",
            "all timesteps weigh alike: min-SNR would neglect the late ones, where small marks are drawn",
            f"{_RENDER_STEPS[quality]} sampling steps of DPM++ 2M at the guidance that suits the base",
            *_shipping(quality, measure),
        ),
    )


def _shipping(quality: str, measure: bool) -> tuple[str, ...]:
    """Which weights ship, where the quality has a say in it."""
    if quality != "best":
        return ()
    if not measure:
        return ("the last step ships: checkpoints of this base are measured by models that a config names",)
    return ("checkpoints are measured on fixed prompts; the earliest that is as good as the best ships",)
