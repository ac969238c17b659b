"""What calls a kit in a prompt, and what other programs may call its file."""

from __future__ import annotations

import re

from talent_factory.core.errors import UsageError
from talent_factory.kits.manifest import TalentManifest

# Names that readers of LoRA files keep for themselves, or that every folder of kits would hold.
_TAKEN = {"weights", "pytorch_lora_weights", "none", "addams", "lora", "model", "adapter_model"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}


def talent_name(manifest: TalentManifest) -> str:
    """Return the id without its kind: `dot_kairo` of avatar.identity.dot_kairo."""
    return manifest.id.split(".", 2)[2]


def class_noun(manifest: TalentManifest) -> str:
    """Return what the subject is, such as "woman"; "" where the kit does not say."""
    for facts in (manifest.training_config, manifest.metadata):
        found = (facts.model_extra or {}).get("class_noun") if facts else None
        if isinstance(found, str) and found.strip():
            return " ".join(found.split())[:40]
    return ""


def wake_phrase(manifest: TalentManifest) -> str:
    """Return the words that wake the kit as its captions had them: `dot_kairo woman`; "" where none do."""
    triggers = (manifest.metadata.triggers if manifest.metadata else None) or ()
    first = " ".join((triggers[0] if triggers else manifest.token or "").split())
    noun = class_noun(manifest) if manifest.is_identity else ""
    if not first or not noun or noun.casefold() in first.casefold().split():
        return first
    return f"{first} {noun}"


def file_stem(manifest: TalentManifest) -> str:
    """Return the name of the kit's file in other programs: `dot_kairo_lora`, from its token, else its id."""
    name = manifest.token or talent_name(manifest).replace(".", "_")
    return f"{name}_lora"


def check_stem(name: str) -> str:
    """Return `name` when a file may be called so in every program.

    Raises UsageError for others: what is no plain name on every system, or is one of those that collide.
    """
    plain = _NAME.fullmatch(name) and not name.endswith(".") and ".." not in name
    if not plain or name.lower().partition(".")[0] in _RESERVED or name.lower() in _TAKEN:
        raise UsageError(
            f"{name[:80]!r} cannot be the name of an exported file",
            remedy="use letters, digits, _ and -, such as peter_lora",
        )
    return name
