"""Write the kit that a LoRA file becomes: manifest, prompts, licence and pictures around its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pydantic import ValidationError

from talent_factory.core.files import json_text, sha256_file
from talent_factory.kits.images import clean_png
from talent_factory.kits.intake.adopt import Lora
from talent_factory.kits.intake.bases import MODELS
from talent_factory.kits.intake.refusal import IntakeRefused
from talent_factory.kits.lora_file import safetensors_bytes
from talent_factory.kits.manifest import (
    BASE_FILE,
    CONTROLS_FOLDER,
    EXAMPLES_FOLDER,
    LICENSE_FILE,
    MANIFEST_FILE,
    PREVIEW_FILE,
    PROMPTS_FILE,
    WEIGHTS_FILE,
    PromptSet,
    TalentManifest,
    TrainingFacts,
    field_problems,
)
from talent_factory.kits.pack import CONTROLS_NOTE, PREVIEW_SIDE
from talent_factory.kits.validate import base_text

# Words of the old header that are no longer true, or that stand elsewhere in the kit.
_DROPPED = ("lora_adapter_metadata", "ssmd_cover_images", "modelspec.thumbnail", "format")
_VERSIONS = {"sd15": "sd_v1", "sdxl": "sdxl_base_v1-0", "mini": "talent_mini"}
_ARCHITECTURES = {
    "sd15": "stable-diffusion-v1/lora",
    "sdxl": "stable-diffusion-xl-v1-base/lora",
    "mini": "talent-factory-mini/lora",
}
_SYNTAX = re.compile(r"<(lora|lyco|hypernet):[^<>]*>")
_SAID = ("ss_sd_model_name", "ss_network_module", "modelspec.implementation", "modelspec.architecture")


def compose(lora: Lora, folder: Path, *, talent_id: str, model: str | None) -> TalentManifest:
    """Write all files of the kit `talent_id` into the empty `folder` and return its manifest.

    `model` is the name of the base model where the user named another than the base's own. Raises
    IntakeRefused when what is known makes no manifest.
    """
    for name in (EXAMPLES_FOLDER, CONTROLS_FOLDER):
        (folder / name).mkdir()
    _write_weights(lora, folder / WEIGHTS_FILE, talent_id)
    (folder / PROMPTS_FILE).write_text(json_text(_prompts(lora).model_dump(mode="json")), "utf-8")
    (folder / LICENSE_FILE).write_text(_license(lora, talent_id), "utf-8")
    (folder / CONTROLS_FOLDER / "README.txt").write_text(CONTROLS_NOTE, "utf-8")
    if lora.picture is not None:
        (folder / EXAMPLES_FOLDER / "01.png").write_bytes(lora.picture[1])
        (folder / PREVIEW_FILE).write_bytes(clean_png(lora.picture[1], side=PREVIEW_SIDE))
    manifest = _manifest(lora, talent_id, model, size=(folder / WEIGHTS_FILE).stat().st_size)
    (folder / BASE_FILE).write_text(base_text(manifest), "utf-8")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    document = manifest.model_dump(mode="json", exclude_none=True)
    document["metadata"]["digests"] = {name: sha256_file(folder / name) for name in names}
    (folder / MANIFEST_FILE).write_text(json_text(document), "utf-8")
    return manifest


def _write_weights(lora: Lora, path: Path, talent_id: str) -> None:
    if lora.reshaped.tensors:
        path.write_bytes(safetensors_bytes(lora.reshaped.tensors, _words(lora, talent_id)))
        return
    with path.open("wb") as out:
        for piece in lora.raw():
            out.write(piece)


def _words(lora: Lora, talent_id: str) -> dict[str, str]:
    """The old header's words with those corrected that the new form makes untrue."""
    base, size = lora.choice.base, lora.reshaped.size
    kept = {
        key: text for key, text in lora.header.metadata.items() if key not in _DROPPED and len(text) < 1 << 20
    }
    return {
        **kept,
        "ss_v2": "False",
        "ss_base_model_version": _VERSIONS[base],
        "ss_network_module": kept.get("ss_network_module", "networks.lora"),
        "ss_network_dim": str(size.rank),
        "ss_network_alpha": repr(float(size.alpha)),
        "ss_output_name": talent_id,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": _ARCHITECTURES[base],
        "modelspec.implementation": kept.get("modelspec.implementation", "diffusers"),
        "modelspec.title": kept.get("modelspec.title") or talent_id,
    }


def _manifest(lora: Lora, talent_id: str, model: str | None, *, size: int) -> TalentManifest:
    facts, shape = lora.facts, lora.reshaped.size
    inside, outside = _training(facts.training)
    one = lora.reshaped.one_alpha
    metadata = {
        "description": facts.description or facts.title,
        "tags": list(facts.tags),
        "author": facts.author,
        "license": facts.license,
        "triggers": list(facts.triggers),
        "alpha": shape.alpha if one else None,
        "conv_rank": shape.conv_rank,
        "conv_alpha": shape.conv_alpha if one else None,
        "text_encoder": lora.reshaped.text_encoder,
        "subject": _subject(lora),
        "provenance": _provenance(lora),
        "training": outside,
    }
    fields = {
        "id": talent_id,
        "category": "Presence/Avatar",
        "kind": "lora",
        "sdx_version": "xl" if lora.choice.base == "sdxl" else "1.5",
        "base_model": model or MODELS[lora.choice.base],
        "lora_rank": shape.rank,
        "default_weight": facts.weight,
        "size_mb": max(0.1, round(size / 2**20, 2)),
        "token": facts.token,
        "negatives": facts.negatives,
        "created_at": facts.created_at.isoformat() if facts.created_at else None,
        "training_config": inside,
        "metadata": _filled(metadata),
    }
    try:
        return TalentManifest.model_validate(_filled(fields))
    except ValidationError as error:
        raise IntakeRefused(f"talent.json: {field_problems(error)[0]}", code="manifest-field") from error


def _subject(lora: Lora) -> dict[str, Any] | None:
    """Whom the kit shows, where its source tells of it; to say that nobody real is shown is for people."""
    facts = lora.facts
    if facts.kind == "identity" and not facts.real_person and not facts.minor:
        return None
    return {"real_person": facts.real_person, "consent": "none", "minor": facts.minor}


def _provenance(lora: Lora) -> dict[str, Any]:
    said = {key: _nameless(lora.header.metadata[key]) for key in _SAID if lora.header.metadata.get(key)}
    return _filled(
        {
            "imported_from": lora.path.name,
            "source_sha256": lora.digest,
            "source_form": lora.form,
            "changes": list(lora.reshaped.changes),
            "inferred": {reason.field: reason.why for reason in lora.facts.reasons},
            "header": said,
            "images": lora.facts.images,
            "title": lora.facts.title,
        }
    )


def _training(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What version 1 of the manifest has room for, and the rest."""
    inside: dict[str, Any] = {}
    for name, value in values.items():
        try:
            TrainingFacts.model_validate({name: value})
        except ValidationError:
            continue
        inside[name] = value
    return inside, {name: value for name, value in values.items() if name not in inside}


def _prompts(lora: Lora) -> PromptSet:
    facts = lora.facts
    texts = [" ".join(_SYNTAX.sub("", text).split()).strip(" ,") for text in facts.prompts]
    word = facts.triggers[0] if facts.triggers else facts.token or ""
    if facts.kind == "identity":
        usual: tuple[str, ...] = (
            f"portrait of {word}, white background",
            f"full body of {word}, standing in a park",
        )
    else:
        usual = tuple(
            ", ".join(filter(None, (scene, word)))
            for scene in ("a castle by the sea", "a woman reading in a garden")
        )
    negatives = (facts.negatives,) if facts.negatives else ()
    prompts = tuple(text for text in texts if text) or usual
    return PromptSet(positive_prompts=prompts, negative_prompts=negatives)


def _license(lora: Lora, talent_id: str) -> str:
    lines = [talent_id, f"Imported from: {_nameless(lora.path.name)}", f"sha256 of that file: {lora.digest}"]
    lines += [f"Author: {lora.facts.author}"] if lora.facts.author else []
    return "\n".join([*lines, f"License: {lora.facts.license}", ""])


def _nameless(text: str) -> str:
    """The last part of a path: a kit tells nothing about its maker's folders."""
    return (
        PurePosixPath(PureWindowsPath(text[:400]).as_posix()).name[:200]
        if "/" in text or "\\" in text
        else text[:200]
    )


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}
