"""Hand a kit's weights to the programs that draw with them: one file, its card and its preview."""

from __future__ import annotations

import shutil
from pathlib import Path

from talent_factory.core.files import atomic_path, json_text, write_text
from talent_factory.kits.manifest import PREVIEW_FILE, WEIGHTS_FILE, read_manifest

_VERSIONS = {"1.5": "SD1", "xl": "SDXL"}


def export_lora(kit: Path, folder: Path, *, name: str) -> list[Path]:
    """Write `folder/name.safetensors`, its card `name.json` and preview `name.png`; returns what was written.

    The card has the words that AUTOMATIC1111, Forge and InvokeAI read beside a LoRA: what wakes it, how
    strongly to use it, what to avoid. Existing files of those names are replaced. Raises KitError for a
    folder that is no kit.
    """
    manifest = read_manifest(kit)
    metadata = manifest.metadata
    target = folder / f"{name}.safetensors"
    with atomic_path(target) as path:
        shutil.copyfile(kit / WEIGHTS_FILE, path)
    card = {
        "description": (metadata.description or "") if metadata else "",
        "sd version": _VERSIONS[manifest.sdx_version],
        "activation text": manifest.token or "",
        "preferred weight": manifest.default_weight,
        "negative text": manifest.negatives or "",
        "notes": f"{manifest.id}, trained for {manifest.base_model}",
    }
    write_text(folder / f"{name}.json", json_text(card))
    written = [target, folder / f"{name}.json"]
    if (kit / PREVIEW_FILE).is_file():
        with atomic_path(folder / f"{name}.png") as path:
            shutil.copyfile(kit / PREVIEW_FILE, path)
        written.append(folder / f"{name}.png")
    return written
