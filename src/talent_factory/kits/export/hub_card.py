"""The model card of a kit on the Hugging Face Hub: YAML front matter, then a page in Markdown.

Fields: https://huggingface.co/docs/hub/model-cards. The page is made from the kit alone, and what the kit's
maker wrote is shown as text, never as markup.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from talent_factory.kits.consent import cautions, subject_of
from talent_factory.kits.export.cards import description_of, negatives_of, tags_of, words_of
from talent_factory.kits.export.pictures import Picture
from talent_factory.kits.export.weights import Weights
from talent_factory.kits.keys import base_of
from talent_factory.kits.manifest import LICENSE_FILE, PromptSet, TalentManifest
from talent_factory.kits.peft_form import PEFT_FILE
from talent_factory.kits.words import talent_name, wake_phrase

PICTURES = "images"
# The licences that the Hub knows by these very names; all others are called `other`, with a name and a file.
_KNOWN = {
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "openrail++",
    "bigscience-bloom-rail-1.0", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "wtfpl",
    "unlicense", "agpl-3.0", "gpl-3.0", "lgpl-3.0", "mpl-2.0", "bsd-2-clause", "bsd-3-clause", "artistic-2.0",
}  # fmt: skip
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~$])")
_PIPELINES: Mapping[str, str] = {"sdxl": "StableDiffusionXLPipeline"}
_STEPS = ("max_train_steps", "learning_rate", "batch_size", "resolution")


def model_card(
    manifest: TalentManifest,
    prompts: PromptSet,
    weights: Weights,
    *,
    pictures: Sequence[Picture],
    stem: str,
    minimal: bool = False,
) -> str:
    """Return README.md of the folder that also holds PEFT_FILE, the pictures and the licence."""
    matter = yaml.safe_dump(
        front_matter(manifest, prompts, pictures=pictures),
        sort_keys=False, allow_unicode=True, default_flow_style=False, width=1000,
    )  # fmt: skip
    title = talent_name(manifest).replace("_", " ")
    parts = [f"# {as_text(title)}", "<Gallery />" if pictures else "", as_text(description_of(manifest))]
    parts += [_words(manifest, prompts), _usage(manifest, prompts, stem=stem)]
    parts += ["" if minimal else _making(manifest), _terms(manifest), _proof(weights)]
    return f"---\n{matter}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def front_matter(
    manifest: TalentManifest, prompts: PromptSet, *, pictures: Sequence[Picture]
) -> dict[str, Any]:
    """Return the fields that the Hub and its gallery read."""
    base = base_of(manifest.base_model, manifest.sdx_version)
    common = ["text-to-image", "diffusers", "lora", "template:sd-lora"]
    own = {"sd15": ["stable-diffusion"], "sdxl": ["stable-diffusion-xl", "stable-diffusion-xl-diffusers"]}
    tags = dict.fromkeys([*common, *own.get(base, []), "talent-kit", *map(plain, tags_of(manifest))])
    found: dict[str, Any] = {**_licence(manifest)}
    if repository := repository_of(manifest):
        found |= {"base_model": repository, "base_model_relation": "adapter"}
    if phrase := wake_phrase(manifest):
        found["instance_prompt"] = plain(phrase)
    if pictures:
        found["widget"] = [
            {"text": plain(picture.prompt) or "-", "output": {"url": f"{PICTURES}/{picture.name}"}}
            for picture in pictures
        ]
        found["thumbnail"] = f"{PICTURES}/{pictures[0].name}"
    found |= {"tags": list(tags), "library_name": "diffusers", "pipeline_tag": "text-to-image"}
    return found


def repository_of(manifest: TalentManifest) -> str:
    """Return the base as the Hub names it, or "" where the kit names a file, a folder or our own base."""
    return manifest.base_model if _REPOSITORY.fullmatch(manifest.base_model) else ""


def as_text(text: str) -> str:
    """Return `text` so that Markdown shows it letter by letter."""
    lines = "".join(letter for letter in text if letter == "\n" or letter.isprintable()).split("\n")
    return "\n".join(_MARKUP.sub(r"\\\1", line.strip()) for line in lines).strip()


def plain(text: str) -> str:
    """Return `text` on one line without control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _licence(manifest: TalentManifest) -> dict[str, str]:
    stated = plain((manifest.metadata.license or "") if manifest.metadata else "")
    if stated.casefold() in _KNOWN:
        return {"license": stated.casefold()}
    name = re.sub(r"[^a-z0-9.]+", "-", stated.casefold()).strip("-")[:60] or "unknown"
    return {"license": "other", "license_name": name, "license_link": LICENSE_FILE}


def _words(manifest: TalentManifest, prompts: PromptSet) -> str:
    words = words_of(manifest)
    if not words:
        return "## Words\n\nNo word is needed: the LoRA works as soon as it is loaded."
    lines = [f"- {_code(word)}" for word in words]
    negative = negatives_of(manifest, prompts)
    return (
        "## Words\n\nWrite one of these into the prompt:\n\n"
        + "\n".join(lines)
        + (f"\n\nNegative prompt: {_code(negative)}" if negative else "")
    )


def _usage(manifest: TalentManifest, prompts: PromptSet, *, stem: str) -> str:
    base = base_of(manifest.base_model, manifest.sdx_version)
    pipeline = _PIPELINES.get(base, "StableDiffusionPipeline")
    where = repository_of(manifest) or "FOLDER_OF_THE_BASE"
    weight = f"{manifest.default_weight:g}"
    prompt = plain(prompts.positive_prompts[0])
    unwanted = plain(negatives_of(manifest, prompts))
    without = f", negative_prompt={unwanted!r}" if unwanted else ""
    code = [
        f"from diffusers import {pipeline}",
        "",
        f"pipeline = {pipeline}.from_pretrained({where!r})",
        f'pipeline.load_lora_weights("THIS_REPOSITORY", weight_name="{PEFT_FILE}", adapter_name="kit")',
        f'pipeline.set_adapters("kit", {weight})',
        f"image = pipeline({prompt!r}{without}).images[0]",
    ]
    others = (
        f"In other programs call the file `{stem}.safetensors`; AUTOMATIC1111 and Forge then know it as"
        f" `<lora:{stem}:{weight}>`. The tensors have kohya's names and their true alpha, which all of"
        " them read."
    )
    base_line = f"Trained for {_code(plain(manifest.base_model))}, rank {manifest.lora_rank}."
    return "## Use\n\n" + base_line + "\n\n```py\n" + "\n".join(code) + "\n```\n\n" + others


def _making(manifest: TalentManifest) -> str:
    """What was trained on what, from the facts that kits carry; measured quality beside it."""
    metadata = manifest.metadata
    facts = manifest.training_config.model_dump(exclude_none=True) if manifest.training_config else {}
    facts |= (metadata.training or {}) if metadata else {}
    rows = [(name, facts[name]) for name in _STEPS if isinstance(facts.get(name), int | float)]
    images = (metadata.provenance or {}).get("images") if metadata else None
    rows += [("images", images)] if isinstance(images, int) else []
    if manifest.created_at:
        rows.append(("made", manifest.created_at.date().isoformat()))
    if metadata and metadata.author:
        rows.append(("author", metadata.author))
    if not rows:
        return ""
    table = "\n".join(f"| {name.replace('_', ' ')} | {as_text(plain(str(value)))} |" for name, value in rows)
    return f"## Making\n\n| | |\n| --- | --- |\n{table}"


def _terms(manifest: TalentManifest) -> str:
    stated = plain((manifest.metadata.license or "") if manifest.metadata else "") or "not stated"
    lines = [f"Licence: {as_text(stated)}; the whole text is in {LICENSE_FILE}."]
    subject = subject_of(manifest)
    if subject is not None and not subject.real_person:
        lines.append("Its maker states that the kit shows no real person.")
    lines += [f"**{caution}**" for caution in cautions(manifest)]
    return "## Licence and likeness\n\n" + "\n\n".join(lines)


def _proof(weights: Weights) -> str:
    return (
        "## Integrity\n\n"
        f"sha256 of {PEFT_FILE}: `{weights.piece.sha256}`\n\n"
        f"sha256 of its tensors (modelspec.hash_sha256): `{weights.tensors_sha256}`"
    )


def _code(text: str) -> str:
    return f"`{plain(text).replace('`', chr(39))}`"
