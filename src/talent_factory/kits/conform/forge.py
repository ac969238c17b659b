"""How Forge reads a LoRA: ComfyUI's names, and a refusal when more than twelve tensors find no place.

Facts from its `extensions-builtin/sd_forge_lora/networks.py` and `backend/patcher/lora.py`.
"""

from __future__ import annotations

from talent_factory.kits.conform import comfyui
from talent_factory.kits.conform.a1111 import alias, name_remarks
from talent_factory.kits.conform.family import Family
from talent_factory.kits.conform.lora import LoraFile, first_names, match
from talent_factory.kits.conform.report import ToolReport, Verdict

MOST_UNMATCHED = 12
_ARCHITECTURES = {"stable-diffusion-v1/lora": "SD1", "stable-diffusion-xl-v1-base/lora": "SDXL"}


def judge(file: LoraFile, model: Family) -> ToolReport:
    """Return what Forge makes of `file` when a base of `model` is loaded."""
    found = match(file, split=comfyui.split, find=comfyui.key_map(model.name).get)
    refused = not found.modules or len(found.unmatched) > MOST_UNMATCHED
    verdict: Verdict = "refused" if refused else "partial" if found.unmatched else "full"
    taken_for = _ARCHITECTURES.get(file.words.get("modelspec.architecture", ""), "Unknown")
    remarks = list(name_remarks(file))
    if len(found.unmatched) > MOST_UNMATCHED:
        remarks.append(f"more than {MOST_UNMATCHED} tensors without a place: version mismatch, not loaded")
    if file.dora == "output" and verdict == "full":
        verdict = "wrong"
        remarks.append("DoRA lengths of rows are divided by the base's rows there, not by the adapted ones")
    expected = {"sd15": "SD1", "sdxl": "SDXL"}[model.name]
    if taken_for != expected:
        remarks.append(f"listed under {taken_for}, for want of modelspec.architecture of {expected}")
    return ToolReport(
        tool="forge",
        verdict=verdict,
        matched=0 if refused else len(found.modules),
        unmatched=len(found.unmatched),
        unmatched_names=first_names(found.unmatched),
        taken_for=taken_for,
        called=f"<lora:{alias(file)}:1>",
        remarks=tuple(remarks),
    )
