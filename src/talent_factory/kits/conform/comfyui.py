"""How ComfyUI reads a LoRA: a map from every accepted name to a weight, and a log line for the rest.

Facts from its `comfy/lora.py` and `comfy/weight_adapter/lora.py`. Names that are not in the map are logged
and have no effect, so a file may load and do nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from talent_factory.kits.conform.family import Family, family
from talent_factory.kits.conform.lora import LoraFile, Part, first_names, match
from talent_factory.kits.conform.report import ToolReport, Verdict
from talent_factory.kits.keys import ModuleShape

# Longest first: `.lora_up.weight` must not be mistaken for what ends alike.
_ENDINGS: tuple[tuple[str, Part], ...] = (
    (".lora_linear_layer.down.weight", "down"),
    (".lora_linear_layer.up.weight", "up"),
    (".lora_down.weight", "down"),
    ("_lora.down.weight", "down"),
    (".lora.down.weight", "down"),
    (".lora_mid.weight", "mid"),
    (".lora_up.weight", "up"),
    ("_lora.up.weight", "up"),
    (".lora.up.weight", "up"),
    (".lora_A.weight", "down"),
    (".lora_B.weight", "up"),
    (".dora_scale", "dora"),
    (".alpha", "alpha"),
)


def judge(file: LoraFile, model: Family) -> ToolReport:
    """Return what ComfyUI makes of `file` when a base of `model` is loaded."""
    table = key_map(model.name)
    found = match(file, split=split, find=table.get)
    verdict: Verdict = "refused" if not found.modules else "partial" if found.unmatched else "full"
    remarks = []
    if file.dora == "output" and verdict == "full":
        verdict = "wrong"
        remarks.append("DoRA lengths of rows are divided by the base's rows there, not by the adapted ones")
    if not found.modules:
        remarks.append("nothing matches: it is taken without an error and changes nothing")
    return ToolReport(
        tool="comfyui",
        verdict=verdict,
        matched=len(found.modules),
        unmatched=len(found.unmatched),
        unmatched_names=first_names(found.unmatched),
        taken_for="whatever base is loaded",
        called=file.path.name,
        remarks=tuple(remarks),
    )


def split(name: str) -> tuple[str, Part] | None:
    """Cut a known ending off; None for a name with another one."""
    for ending, part in _ENDINGS:
        if name.endswith(ending):
            return name.removesuffix(ending), part
    return None


@functools.cache
def key_map(name: str) -> Mapping[str, ModuleShape]:
    """Return every accepted name of a module of "sd15" or "sdxl" with the module's shape."""
    model = family("sdxl" if name == "sdxl" else "sd15")
    table: dict[str, ModuleShape] = {}
    for flat, shape in (*model.stability.items(), *model.unet.items()):
        table[f"lora_unet_{flat}"] = shape
    for flat, shape in model.unet.items():
        table[f"lycoris_{flat}"] = shape
    for path, shape in model.dotted.items():
        # the oldest diffusers form; PEFT's `unet.….to_q` of today is not in the map
        old = path.replace(".to_", ".processor.to_").removesuffix(".0" if path.endswith("to_out.0") else "")
        table[old] = table[f"unet.{old}"] = shape
    prefixes = (("lora_te_", "lora_te1_", "text_encoder."), ("lora_te2_", "text_encoder_2."))
    for texts, names in zip(model.texts, prefixes, strict=False):
        for flat, shape in texts.items():
            for prefix in names:
                table[prefix + (_dotted_text(flat) if prefix.endswith(".") else flat)] = shape
    return table


def _dotted_text(flat: str) -> str:
    """text_model_encoder_layers_0_self_attn_q_proj with its dots."""
    _, _, rest = flat.partition("text_model_encoder_layers_")
    layer, _, part = rest.partition("_")
    for group in ("self_attn", "mlp"):
        if part.startswith(group):
            return f"text_model.encoder.layers.{layer}.{group}.{part.removeprefix(group + '_')}"
    return f"text_model.encoder.layers.{layer}.{part}"
