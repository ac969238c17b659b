"""How AUTOMATIC1111's web UI reads a LoRA: regular expressions from diffusers' names to Stability's.

Facts from its `extensions-builtin/Lora` (networks.py, network.py), version 1.10.
"""

from __future__ import annotations

import re

from talent_factory.kits.conform.family import Family
from talent_factory.kits.conform.lora import (
    LoraFile,
    Matches,
    first_names,
    match,
    split_at_first_dot,
)
from talent_factory.kits.conform.report import ToolReport, Verdict
from talent_factory.kits.keys import ModuleShape

_FORBIDDEN_ALIASES = {"none", "addams"}
_BLOCK = re.compile(r"(down|up)_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)")
_MIDDLE = re.compile(r"mid_block_(attentions|resnets)_(\d+)_(.+)")
_DOWNSAMPLER = re.compile(r"down_blocks_(\d+)_downsamplers_0_conv")
_UPSAMPLER = re.compile(r"up_blocks_(\d+)_upsamplers_0_conv")
_RESIDUAL = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
}
_EDGES = {
    "conv_in": "input_blocks_0_0",
    "conv_out": "out_2",
    "time_embedding_linear_1": "time_embed_0",
    "time_embedding_linear_2": "time_embed_2",
}


def judge(file: LoraFile, family: Family) -> ToolReport:
    """Return what the web UI makes of `file` when a base of `family` is loaded."""
    found = match(file, split=split_at_first_dot, find=lambda name: _slot(name, family))
    # embeddings bundled with a LoRA are a feature of its own there
    found.unmatched = [name for name in found.unmatched if not name.startswith("bundle_emb.")]
    return ToolReport(
        tool="a1111",
        verdict=_verdict(file, found),
        matched=len(found.modules),
        unmatched=len(found.unmatched),
        unmatched_names=first_names(found.unmatched),
        taken_for=taken_for(file),
        called=f"<lora:{alias(file)}:1>",
        remarks=(*_remarks(file, family), *name_remarks(file)),
    )


def taken_for(file: LoraFile) -> str:
    """The generation of base by the header: any header that names no other is taken for SD1."""
    if file.words.get("ss_base_model_version", "").startswith("sdxl_"):
        return "SDXL"
    if file.words.get("ss_v2") == "True":
        return "SD2"
    return "SD1" if file.words else "Unknown"


def alias(file: LoraFile) -> str:
    """The name in a prompt: the header's, unless it is forbidden there."""
    stated = file.words.get("ss_output_name", file.stem)
    return file.stem if stated.lower() in _FORBIDDEN_ALIASES else stated


def name_remarks(file: LoraFile) -> tuple[str, ...]:
    """What to know about its name where networks are listed by the stem of their file."""
    if file.stem == "weights":
        return ("files of one name hide each other there: rename it before you copy it",)
    return ()


def _verdict(file: LoraFile, found: Matches) -> Verdict:
    if not found.modules:
        return "refused"
    if found.unmatched:
        return "partial"
    return "wrong" if file.dora == "output" else "full"


def _remarks(file: LoraFile, family: Family) -> tuple[str, ...]:
    remarks = []
    expected = {"sd15": "SD1", "sdxl": "SDXL"}[family.name]
    if taken_for(file) != expected:
        remarks.append(f"listed under {taken_for(file)}: hidden while a base of {expected} is loaded")
    if file.dora == "output":
        remarks.append("DoRA lengths belong to columns there, these belong to rows")
    if "ss_tag_frequency" not in file.words:
        remarks.append("no ss_tag_frequency: no trigger words to click")
    return tuple(remarks)


def _slot(name: str, family: Family) -> ModuleShape | None:
    """The module of its model that a flat name reaches."""
    if name.startswith("lora_unet_"):
        path = name.removeprefix("lora_unet_")
        # SDXL files carry Stability's names already
        return family.stability.get(_stability(path)) or family.stability.get(path)
    number = {"lora_te_": 0, "lora_te1_": 0, "lora_te2_": 1}
    for prefix, index in number.items():
        if name.startswith(prefix):
            if prefix == "lora_te_" and family.name == "sdxl":
                return None
            texts = family.texts[index] if index < len(family.texts) else {}
            return texts.get(name.removeprefix(prefix))
    return None


def _stability(path: str) -> str:
    """Its own translation of a diffusers path; the path itself where no expression fits."""
    if path in _EDGES:
        return _EDGES[path]
    if found := _BLOCK.fullmatch(path):
        side, level, kind, index, rest = found.groups()
        block = int(level) * 3 + int(index)
        place = f"input_blocks_{block + 1}" if side == "down" else f"output_blocks_{block}"
        return f"{place}_{_inner(kind, rest)}"
    if found := _MIDDLE.fullmatch(path):
        kind, index, rest = found.groups()
        number = 1 if kind == "attentions" else 2 * int(index)
        return f"middle_block_{number}_{_RESIDUAL.get(rest, rest) if kind == 'resnets' else rest}"
    if found := _DOWNSAMPLER.fullmatch(path):
        return f"input_blocks_{3 + 3 * int(found[1])}_0_op"
    if found := _UPSAMPLER.fullmatch(path):
        level = int(found[1])
        return f"output_blocks_{2 + 3 * level}_{2 if level else 1}_conv"
    return path


def _inner(kind: str, rest: str) -> str:
    return f"1_{rest}" if kind == "attentions" else f"0_{_RESIDUAL.get(rest, rest)}"
