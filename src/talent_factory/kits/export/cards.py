"""The small files that programs read beside a LoRA: what wakes it, how strongly to use it, what to avoid."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from talent_factory.kits.export.weights import Weights
from talent_factory.kits.keys import base_of
from talent_factory.kits.manifest import PromptSet, TalentManifest
from talent_factory.kits.words import talent_name, wake_phrase

# How AUTOMATIC1111 and Civitai call the bases; no program but ours has the embedded one.
_A1111_BASES: Mapping[str, str] = {"sd15": "SD1", "sdxl": "SDXL", "mini": "Unknown"}
_CIVITAI_BASES: Mapping[str, str] = {"sd15": "SD 1.5", "sdxl": "SDXL 1.0", "mini": "Other"}


def civitai_base(manifest: TalentManifest) -> str:
    """Return what Civitai and the managers that follow it call the base."""
    return _CIVITAI_BASES[base_of(manifest.base_model, manifest.sdx_version)]


def description_of(manifest: TalentManifest) -> str:
    """Return the kit's own description, or "" ."""
    return (manifest.metadata.description or "") if manifest.metadata else ""


def negatives_of(manifest: TalentManifest, prompts: PromptSet) -> str:
    """Return what to write into the negative prompt, each tag once."""
    texts = [manifest.negatives or "", *prompts.negative_prompts]
    tags = (tag.strip() for text in texts for tag in text.split(","))
    return ", ".join(dict.fromkeys(tag for tag in tags if tag))


def words_of(manifest: TalentManifest) -> tuple[str, ...]:
    """Return every phrase that wakes the kit, the best first."""
    triggers = (manifest.metadata.triggers if manifest.metadata else None) or ()
    return tuple(dict.fromkeys(word for word in (wake_phrase(manifest), *triggers) if word))


def webui_card(manifest: TalentManifest, prompts: PromptSet) -> dict[str, Any]:
    """Return `<name>.json` as AUTOMATIC1111, Forge and InvokeAI read it."""
    return {
        "description": description_of(manifest),
        "sd version": _A1111_BASES[base_of(manifest.base_model, manifest.sdx_version)],
        "activation text": wake_phrase(manifest),
        "preferred weight": manifest.default_weight,
        "negative text": negatives_of(manifest, prompts),
        "notes": f"{manifest.id}, trained for {manifest.base_model}",
    }


def manager_card(
    manifest: TalentManifest, prompts: PromptSet, weights: Weights, *, stem: str, preview: bool
) -> dict[str, Any]:
    """Return `<name>.metadata.json` as ComfyUI's Lora-Manager reads it.

    Its reader needs every field without a default, paths included: they are given beside the file, and it
    replaces them by the place where it found the file.
    """
    strength = manifest.default_weight
    tips = {"strength": strength, "strength_min": round(strength / 2, 3), "strength_max": max(1.0, strength)}
    negative = negatives_of(manifest, prompts)
    return {
        "file_name": stem,
        "model_name": talent_name(manifest),
        "file_path": f"{stem}.safetensors",
        "size": weights.piece.size,
        "modified": manifest.created_at.timestamp() if manifest.created_at else 0.0,
        "sha256": weights.piece.sha256,
        "base_model": civitai_base(manifest),
        "preview_url": f"{stem}.png" if preview else "",
        "preview_nsfw_level": 0,
        "notes": f"{manifest.id}" + (f"; negative: {negative}" if negative else ""),
        "from_civitai": False,
        "civitai": {"trainedWords": list(words_of(manifest))},
        "tags": list(tags_of(manifest)),
        "modelDescription": description_of(manifest),
        "usage_tips": json.dumps(tips),
    }


def tags_of(manifest: TalentManifest) -> Sequence[str]:
    """Return the kit's tags."""
    return (manifest.metadata.tags or ()) if manifest.metadata else ()


def description_text(manifest: TalentManifest) -> str:
    """Return `<name>.description.txt`: a few lines that people read on a card."""
    lines = [
        description_of(manifest),
        f"Words: {', '.join(words_of(manifest))}" if words_of(manifest) else "",
    ]
    lines.append(f"Weight: {manifest.default_weight:g}")
    return "\n".join(line for line in lines if line) + "\n"
