"""How InvokeAI reads a LoRA: a probe of prefixes and widths, then diffusers' names.

Facts from its `backend/model_manager` (configs/lora.py, util/model_util.py) and `backend/patches`.
"""

from __future__ import annotations

from talent_factory.kits.conform.family import Family
from talent_factory.kits.conform.lora import LoraFile, first_names, match, split_at_first_dot
from talent_factory.kits.conform.report import ToolReport, Verdict
from talent_factory.kits.keys import ModuleShape

_PREFIXES = ("lora_te_", "lora_unet_", "lora_te1_", "lora_te2_", "lora_transformer_")
_WIDTHS = {768: "sd-1", 1024: "sd-2", 1280: "sdxl", 2048: "sdxl"}
_SDXL_PREFIXES = ("lora_unet_", "lora_te1_", "lora_te2_")


def judge(file: LoraFile, family: Family) -> ToolReport:
    """Return what InvokeAI makes of `file` when a base of `family` is used."""
    width = token_width(file)
    taken_for = _WIDTHS.get(width or 0, "")
    reason = _refusal(file, family, width)
    found = match(file, split=split_at_first_dot, find=lambda name: _slot(name, family))
    remarks = []
    if reason:
        verdict: Verdict = "refused"
        remarks.append(reason)
    elif found.unmatched:
        verdict = "partial"
    else:
        verdict = "wrong" if file.dora == "output" else "full"
    if file.dora == "output":
        remarks.append("DoRA lengths belong to columns there, these belong to rows")
    return ToolReport(
        tool="invokeai",
        verdict=verdict,
        matched=0 if reason else len(found.modules),
        unmatched=len(found.unmatched),
        unmatched_names=first_names(found.unmatched),
        taken_for=taken_for or "unknown",
        called=file.stem,
        remarks=tuple(remarks),
    )


def token_width(file: LoraFile) -> int | None:
    """The width that tells the base: of cross-attention's keys, else of the text encoders, first found."""
    texts: dict[str, int] = {}
    for name in sorted(file.shapes):
        shape, (module, _, part) = file.shapes[name], name.partition(".")
        if part != "lora_down.weight" or len(shape) < 2:
            continue
        if module.startswith("lora_unet_") and module.endswith(("_attn2_to_k", "_attn2_to_v")):
            return shape[1]
        if module.startswith("lora_unet_") and module.endswith("time_emb_proj"):
            return shape[1]
        if module.startswith("lora_te_") and "_self_attn_" in module:
            return shape[1]
        if module.startswith(("lora_te1_", "lora_te2_")) and "_self_attn_" in module:
            texts[module[:8]] = shape[1]
            if len(texts) == 2:
                return sum(texts.values())
    return None


def _refusal(file: LoraFile, family: Family, width: int | None) -> str:
    """Why it is not taken in, "" when it is."""
    if not any(name.startswith(_PREFIXES) for name in file.shapes):
        return "no name begins with lora_unet_ or lora_te: not recognised as a LoRA"
    expected = {"sd15": "sd-1", "sdxl": "sdxl"}[family.name]
    if _WIDTHS.get(width or 0) != expected:
        seen = "no cross-attention or text module" if width is None else f"a width of {width}"
        return f"{seen}: not recognised as {expected}"
    if family.name == "sdxl":
        odd = [name for name in file.shapes if not name.startswith(_SDXL_PREFIXES)]
        if odd:
            return f"unrecognised prefix: {odd[0][:80]}"
        names = {name.partition(".")[0] for name in file.shapes if name.startswith("lora_unet_")}
        converted = [name for name in names if _converted(name, family) is not None]
        if converted and len(converted) < len(names):
            return "mixes Stability's and diffusers' names"
    return ""


def _converted(name: str, family: Family) -> str | None:
    """The diffusers name of one in Stability's form; None for others."""
    return family.to_diffusers.get(name.removeprefix("lora_unet_"))


def _slot(name: str, family: Family) -> ModuleShape | None:
    if name.startswith("lora_unet_"):
        path = name.removeprefix("lora_unet_")
        if family.name == "sdxl":
            path = _converted(name, family) or path
        return family.unet.get(path)
    prefixes = ("lora_te_",) if family.name == "sd15" else ("lora_te1_", "lora_te2_")
    for prefix, texts in zip(prefixes, family.texts, strict=False):
        if name.startswith(prefix):
            return texts.get(name.removeprefix(prefix))
    return None
