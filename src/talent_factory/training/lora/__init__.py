"""LoRA: names, low-rank layers in the place of a model's own, and merging into its weights."""

from __future__ import annotations

from talent_factory.training.lora.merge import (
    Merged,
    fitting_layers,
    low_rank_delta,
    merge_into,
    whole_change,
)
from talent_factory.training.lora.names import (
    TEXT_PREFIX,
    UNET_PREFIX,
    Namer,
    kohya_name,
    target_layers,
)
from talent_factory.training.lora.network import LoraLayer, LoraNetwork, attach

__all__ = [
    "TEXT_PREFIX",
    "UNET_PREFIX",
    "LoraLayer",
    "LoraNetwork",
    "Merged",
    "Namer",
    "attach",
    "fitting_layers",
    "kohya_name",
    "low_rank_delta",
    "merge_into",
    "target_layers",
    "whole_change",
]
