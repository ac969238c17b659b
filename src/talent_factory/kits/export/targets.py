"""Which files each target is made of: pure functions from an opened kit to names and contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from talent_factory.core.errors import KitError
from talent_factory.core.files import json_text
from talent_factory.kits.export.cards import description_text, manager_card, webui_card
from talent_factory.kits.export.civitai import FACTS_FILE, NOTES_FILE, civitai_facts, civitai_notes
from talent_factory.kits.export.hub_card import PICTURES, model_card
from talent_factory.kits.export.pictures import Picture, examples_of, preview_of
from talent_factory.kits.export.pieces import Piece
from talent_factory.kits.export.weights import Weights
from talent_factory.kits.findings import Notes
from talent_factory.kits.folder import KitFolder
from talent_factory.kits.manifest import LICENSE_FILE, PromptSet, TalentManifest
from talent_factory.kits.peft_form import PEFT_FILE

Target = Literal["a1111", "forge", "comfy", "invoke", "diffusers", "hf", "civitai", "zip"]
Pieces = dict[str, Piece]


@dataclass(frozen=True)
class Source:
    """A kit to export, opened: its weights already have the name `stem`."""

    kit: Path
    manifest: TalentManifest
    prompts: PromptSet
    weights: Weights
    stem: str
    minimal: bool


def _webui(source: Source) -> Pieces:
    """AUTOMATIC1111 and Forge: all files in models/Lora, named alike."""
    found = {
        f"{source.stem}.safetensors": source.weights.piece,
        f"{source.stem}.json": _json(webui_card(source.manifest, source.prompts)),
        f"{source.stem}.description.txt": Piece(description_text(source.manifest).encode()),
    }
    return _with_preview(source, found)


def _comfy(source: Source) -> Pieces:
    """ComfyUI: models/loras, with the card of its Lora-Manager."""
    found = _with_preview(source, {f"{source.stem}.safetensors": source.weights.piece})
    card = manager_card(
        source.manifest, source.prompts, source.weights,
        stem=source.stem, preview=f"{source.stem}.png" in found,
    )  # fmt: skip
    return {**found, f"{source.stem}.metadata.json": _json(card)}


def _invoke(source: Source) -> Pieces:
    """InvokeAI: a file to install by its path or by scanning the folder; the card lies beside it."""
    found = {
        f"{source.stem}.safetensors": source.weights.piece,
        f"{source.stem}.json": _json(webui_card(source.manifest, source.prompts)),
    }
    return _with_preview(source, found)


def _diffusers(source: Source) -> Pieces:
    """A folder for load_lora_weights, which takes the one file in it."""
    _refuse_dora(source)
    card = _card(source, ())
    return {
        f"{source.stem}/{PEFT_FILE}": source.weights.piece,
        f"{source.stem}/README.md": Piece(card.encode()),
    }


def _hub(source: Source) -> Pieces:
    """A repository of the Hugging Face Hub: weights, card, gallery, licence."""
    _refuse_dora(source)
    pictures = examples_of(source.kit, minimal=source.minimal)
    found = {
        PEFT_FILE: source.weights.piece,
        "README.md": Piece(_card(source, pictures).encode()),
        LICENSE_FILE: Piece((source.kit / LICENSE_FILE).read_bytes()),
        **{f"{PICTURES}/{picture.name}": Piece(picture.data) for picture in pictures},
    }
    return {f"{source.stem}/{name}": piece for name, piece in found.items()}


def _civitai(source: Source) -> Pieces:
    """The content of the archive for Civitai."""
    pictures = examples_of(source.kit, minimal=source.minimal)
    facts = civitai_facts(source.manifest, source.prompts, source.weights, stem=source.stem)
    return {
        f"{source.stem}.safetensors": source.weights.piece,
        FACTS_FILE: _json(facts),
        NOTES_FILE: Piece(civitai_notes(source.manifest, stem=source.stem).encode()),
        LICENSE_FILE: Piece((source.kit / LICENSE_FILE).read_bytes()),
        **{f"{PICTURES}/{picture.name}": Piece(picture.data) for picture in pictures},
    }


def _kit_itself(source: Source) -> Pieces:
    """The content of the kit's own archive: every file as it is, in a folder called like the kit."""
    folder = KitFolder(source.kit, Notes())
    return {f"{source.manifest.id}/{name}": Piece(b"", source.kit / name) for name in sorted(folder.sizes)}


BUILDERS: Mapping[Target, Callable[[Source], Pieces]] = {
    "a1111": _webui,
    "forge": _webui,
    "comfy": _comfy,
    "invoke": _invoke,
    "diffusers": _diffusers,
    "hf": _hub,
    "civitai": _civitai,
    "zip": _kit_itself,
}
TARGETS: tuple[Target, ...] = tuple(BUILDERS)
# Made to be given to everybody; the others are for programs of one's own.
PUBLIC: frozenset[Target] = frozenset({"hf", "civitai"})


def archive_name(target: Target, talent_id: str) -> str:
    """Return the name of the one archive that a target is; "" where it is a set of files."""
    return {"civitai": f"{talent_id}.civitai.zip", "zip": f"{talent_id}.zip"}.get(target, "")


def _card(source: Source, pictures: tuple[Picture, ...]) -> str:
    return model_card(
        source.manifest, source.prompts, source.weights,
        pictures=pictures, stem=source.stem, minimal=source.minimal,
    )  # fmt: skip


def _with_preview(source: Source, pieces: Pieces) -> Pieces:
    preview = preview_of(source.kit, minimal=source.minimal)
    return pieces if preview is None else {**pieces, f"{source.stem}.png": Piece(preview)}


def _json(document: object) -> Piece:
    return Piece(json_text(document).encode())


def _refuse_dora(source: Source) -> None:
    if source.weights.dora:
        raise KitError(
            f"{source.manifest.id} is a DoRA, whose lengths diffusers divides by the wrong axis",
            remedy="export it for comfy or a1111, which compute it as it was trained",
        )
