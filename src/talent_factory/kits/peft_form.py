"""Write a LoRA in the form that diffusers and PEFT save: a folder with `pytorch_lora_weights.safetensors`.

That form has no alpha of its own, and readers disagree about where to look for one. So alpha / rank is
multiplied into lora_B, and alpha = rank, which all of them assume, is the truth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import KitError
from talent_factory.core.files import write_bytes
from talent_factory.core.unet_names import stability_names
from talent_factory.kits.keys import unet_config, unet_paths
from talent_factory.kits.lora_file import Tensors, lora_bytes

PEFT_FILE = "pytorch_lora_weights.safetensors"
_TEXT = re.compile(r"(lora_te[12]?)_text_model_encoder_layers_(\d+)_(self_attn|mlp)_(\w+)")
_ENCODERS: Mapping[str, str] = {
    "lora_te": "text_encoder",
    "lora_te1": "text_encoder",
    "lora_te2": "text_encoder_2",
}


def write_peft_folder(
    folder: Path,
    tensors: Tensors,
    *,
    base: Literal["sd15", "sdxl"],
    precision: Literal["fp16", "fp32"] = "fp16",
) -> Path:
    """Write kohya `tensors` as the folder `folder` and return the file in it; raises as `peft_tensors`."""
    path = folder / PEFT_FILE
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(
        path, lora_bytes(peft_tensors(tensors, base=base), precision=precision, words={"format": "pt"})
    )
    return path


def peft_tensors(tensors: Tensors, *, base: Literal["sd15", "sdxl"]) -> dict[str, NDArray[Any]]:
    """Return kohya tensors under PEFT's names, with alpha / rank inside lora_B.

    Raises KitError for a module that the base does not have, half a pair, and for DoRA, whose lengths belong
    to inputs in kohya's form and to outputs in PEFT's.
    """
    unet = _unet_names(base)
    found: dict[str, NDArray[Any]] = {}
    for key, down in tensors.items():
        if key.endswith(".dora_scale"):
            raise KitError(
                "PEFT has no form for this DoRA", remedy="ship kohya's file, or train without dora"
            )
        if not key.endswith(".lora_down.weight"):
            continue
        name = key.removesuffix(".lora_down.weight")
        up = tensors.get(f"{name}.lora_up.weight")
        path = unet.get(name) or _text_name(name)
        if up is None or path is None:
            wrong = "has no lora_up" if up is None else f"is no module of {base}"
            raise KitError(f"{name} {wrong}", remedy="talent kit validate")
        alpha = tensors.get(f"{name}.alpha")
        scale = 1.0 if alpha is None else float(alpha) / down.shape[0]
        found[f"{path}.lora_A.weight"] = np.asarray(down, np.float32)
        found[f"{path}.lora_B.weight"] = np.asarray(up, np.float32) * np.float32(scale)
    if not found:
        raise KitError("no lora_down among the tensors", remedy="talent kit validate")
    return found


def _unet_names(base: Literal["sd15", "sdxl"]) -> dict[str, str]:
    """kohya's name -> PEFT's; SDXL's modules may stand under either of their names."""
    config = unet_config(base)
    rename = stability_names(config)
    found = {}
    for path, _ in unet_paths(config):
        for spelling in (rename(path), path):
            found["lora_unet_" + spelling.replace(".", "_")] = f"unet.{path}"
    return found


def _text_name(name: str) -> str | None:
    """text_encoder.text_model.encoder.layers.0.self_attn.q_proj of lora_te_text_model_…; None for others."""
    found = _TEXT.fullmatch(name)
    if found is None:
        return None
    prefix, layer, block, part = found.groups()
    return f"{_ENCODERS[prefix]}.text_model.encoder.layers.{layer}.{block}.{part}"
