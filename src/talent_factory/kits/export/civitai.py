"""What Civitai asks for when a LoRA is uploaded, filled in from the kit, and a page for its maker."""

from __future__ import annotations

from typing import Any

from talent_factory.kits.consent import cautions, subject_of
from talent_factory.kits.export.cards import (
    civitai_base,
    description_of,
    negatives_of,
    tags_of,
    words_of,
)
from talent_factory.kits.export.weights import Weights
from talent_factory.kits.manifest import PromptSet, TalentManifest
from talent_factory.kits.words import talent_name

FACTS_FILE = "civitai.json"
NOTES_FILE = "README.txt"
_COMMERCIAL = {"cc0-1.0", "mit", "apache-2.0", "unlicense", "cc-by-4.0", "cc-by-sa-4.0", "wtfpl", "0bsd"}
_NO_CREDIT = {"cc0-1.0", "unlicense", "wtfpl", "0bsd"}


def civitai_facts(
    manifest: TalentManifest, prompts: PromptSet, weights: Weights, *, stem: str
) -> dict[str, Any]:
    """Return the fields of the upload form; hashes as the site computes them (AutoV2, AutoV3, SHA256)."""
    terms = ((manifest.metadata.license or "") if manifest.metadata else "").strip().casefold()
    subject = subject_of(manifest)
    free = terms in _COMMERCIAL and not (subject and subject.real_person)
    file_hash = weights.piece.sha256
    return {
        "name": talent_name(manifest).replace("_", " "),
        "type": "LORA",
        "baseModel": civitai_base(manifest),
        "category": "character" if manifest.is_identity else "style",
        "description": description_of(manifest),
        "trainedWords": list(words_of(manifest)),
        "tags": list(tags_of(manifest)),
        "file": f"{stem}.safetensors",
        "hashes": {
            "SHA256": file_hash.upper(),
            "AutoV2": file_hash[:10].upper(),
            "AutoV3": weights.tensors_sha256[:12].upper(),
        },
        "settings": {"strength": manifest.default_weight},
        "negativePrompt": negatives_of(manifest, prompts),
        "allowNoCredit": terms in _NO_CREDIT,
        "allowCommercialUse": ["Image", "Video"] if free else [],
        "allowDerivatives": free,
        "allowDifferentLicense": terms in _NO_CREDIT and free,
        "poi": bool(subject and subject.real_person),
        "minor": False,
        "license": terms,
    }


def civitai_notes(manifest: TalentManifest, *, stem: str) -> str:
    """Return the page that people read before they upload."""
    lines = [
        f"{manifest.id}",
        "",
        f"1. Create a model of type LORA and upload {stem}.safetensors.",
        f"2. Copy the fields of {FACTS_FILE} into the form: base model, trigger words, permissions.",
        "3. Upload the pictures in images/: the site reads their prompts and finds the LoRA by its hash.",
    ]
    if civitai_base(manifest) == "Other":
        lines.append("The site has no base called like this kit's; choose Other.")
    subject = subject_of(manifest)
    if subject and subject.real_person:
        lines.append(
            "This kit shows a real person. The site's rules of 2025 forbid such models, with consent too:"
            " read them before you upload."
        )
    return "\n".join([*lines, "", *cautions(manifest)]).rstrip() + "\n"
