"""Which layers a LoRA adapts, and what they are called in the form that kohya made the common one.

Source: kohya-ss/sd-scripts networks/lora.py, for the names and for what `transformer` means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import nn

from talent_factory.training.options import Targets

Namer = Callable[[str, str], str]
"""Path of a module and prefix of its model to the flat name in the file."""

UNET_PREFIX = "lora_unet"
TEXT_PREFIX = "lora_te"

# By path, because diffusers' paths are what the names are made of. Text encoder layers match all three.
_TEXT = r"(?:^|\.)encoder\.layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])$"
_ATTENTION = r"(?:^|\.)attentions\.\d+\..*\.attn[12]\.to_(?:q|k|v|out\.0)$"
_TRANSFORMER = rf"{_ATTENTION}|(?:^|\.)attentions\.\d+\.(?:proj_in|proj_out|.*\.ff\.net\.\d+(?:\.proj)?)$"
_CONV = r"(?:^|\.)(?:resnets|downsamplers|upsamplers)\.\d+\.(?:conv\d?|conv_shortcut|time_emb_proj)$"
_PATTERNS: Mapping[Targets, re.Pattern[str]] = {
    "attention": re.compile(f"{_TEXT}|{_ATTENTION}"),
    "transformer": re.compile(f"{_TEXT}|{_TRANSFORMER}"),
    "transformer+conv": re.compile(f"{_TEXT}|{_TRANSFORMER}|{_CONV}"),
}


def kohya_name(path: str, prefix: str) -> str:
    """The flat name of a module path, as diffusers' paths are named.

    Text encoders keep `text_model_` in it whether or not this version of transformers has that level:
    readers match on it.
    """
    if prefix != UNET_PREFIX:
        path = "text_model." + path.removeprefix("text_model.")
    return f"{prefix}_{path.replace('.', '_')}"


def target_paths(module: nn.Module, targets: Targets) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """The layers that `targets` selects, with their paths, in the model's order."""
    pattern = _PATTERNS[targets]
    return [
        (path, layer)
        for path, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and pattern.search(path)
    ]


def target_layers(
    module: nn.Module,
    *,
    prefix: str = UNET_PREFIX,
    targets: Targets = "transformer+conv",
    name: Namer = kohya_name,
) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """The layers that `targets` selects, with their names in the file, in the model's order."""
    return [(name(path, prefix), layer) for path, layer in target_paths(module, targets)]
