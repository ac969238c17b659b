"""What the catalog keeps of one kit: its index entry, the words to find it by, and what tells twins."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from talent_factory.core.records import Record
from talent_factory.kits.folder import MAX_WEIGHTS_BYTES
from talent_factory.kits.header import Header, HeaderError, parse_header
from talent_factory.kits.index import entry_fields
from talent_factory.kits.keys import base_of
from talent_factory.kits.manifest import PROMPTS_FILE, WEIGHTS_FILE, TalentManifest
from talent_factory.kits.strict import MAX_TEXT_BYTES, open_regular, read_regular
from talent_factory.kits.validate import Inspection, inspect_kit

MAX_WORDS = 20_000
# Of each file this much is compared before two are read whole.
_SLICES, _SLICE_BYTES = 16, 256


class Words(Record):
    """The texts of a kit, each bounded, from the most telling to the least."""

    name: str = ""
    token: str = ""
    tags: str = ""
    description: str = ""
    author: str = ""
    captions: str = ""
    prompts: str = ""


class Reading(Record):
    """One kit as the catalog stores it.

    `fields` is JSON in ASCII: the fields of the index entry. `created` is ISO time or "", `sample` tells
    apart most tensors without reading them whole, `weights` is the sha256 of weights.safetensors or "".
    """

    valid: bool
    fault: str = ""
    fields: str
    words: Words
    kind: str = ""
    base: str = ""
    base_revision: str = ""
    token: str = ""
    tags: tuple[str, ...] = ()
    created: str = ""
    rank: int = 0
    weight: float = 0.0
    size_mb: float = 0.0
    sample: str = ""
    weights: str = ""


def read_kit(folder: Path) -> Reading:
    """Read a whole kit, valid or not, as the validator does; nothing in it raises."""
    inspection = inspect_kit(folder)
    name, report, manifest = folder.name, inspection.report, inspection.manifest
    fault = f"{report.errors[0].file}: {report.errors[0].message}"[:500] if report.errors else ""
    fields = json.dumps(entry_fields(inspection.raw))
    plain = Reading(
        valid=report.valid,
        fault=fault.encode("utf-8", "backslashreplace").decode(),
        fields=fields,
        words=_loose_words(name, inspection),
        kind=kind_of(name),
    )
    return _known(plain, folder, inspection, manifest) if manifest is not None else plain


def kind_of(name: str) -> str:
    """Return "identity" or "style" of a talent id, "" of any other folder name."""
    parts = name.split(".")
    return parts[1] if len(parts) > 2 and parts[0] == "avatar" and parts[1] in ("identity", "style") else ""


def _known(plain: Reading, folder: Path, inspection: Inspection, manifest: TalentManifest) -> Reading:
    metadata, header = manifest.metadata, inspection.header
    digests = (metadata.digests if metadata else None) or {}
    words = {"captions": _captions(header.metadata if header else {})}
    if plain.valid:
        words["prompts"] = _text([*_prompts(folder)])
    return plain.model_copy(
        update={
            "words": plain.words.model_copy(update=words),
            "base": base_of(manifest.base_model, manifest.sdx_version),
            "base_revision": (metadata.base_revision if metadata else None) or "",
            "token": manifest.token or "",
            "tags": tuple(tag.casefold() for tag in (metadata.tags if metadata else None) or ()),
            "created": manifest.created_at.isoformat() if manifest.created_at else "",
            "rank": manifest.lora_rank,
            "weight": manifest.default_weight,
            "size_mb": manifest.size_mb,
            "sample": _sample(folder, header) if header else "",
            # of a valid kit the stated digest was found right
            "weights": digests.get(WEIGHTS_FILE, "") if plain.valid else "",
        }
    )


def _loose_words(name: str, inspection: Inspection) -> Words:
    """Whatever text stands where text should be, so that also a broken kit is found by its words."""
    raw = inspection.raw or {}
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    tags, triggers = (metadata.get(key) for key in ("tags", "triggers"))
    token = [raw.get("token"), *(triggers if isinstance(triggers, list) else ())]
    return Words(
        name=_text([part for part in name.split(".") if part != "avatar"]),
        token=_text(list(dict.fromkeys(word for word in token if isinstance(word, str)))),
        tags=_text(tags if isinstance(tags, list) else []),
        description=_text([metadata.get("description")]),
        author=_text([metadata.get("author")]),
    )


def _text(parts: list[Any]) -> str:
    text = "\n".join(part for part in parts if isinstance(part, str))[:MAX_WORDS]
    return text.encode("utf-8", "replace").decode().replace("\0", " ")


def _prompts(folder: Path) -> Iterator[str]:
    """The prompts of a kit that was found valid; none when the file changed since."""
    try:
        found = json.loads(read_regular(folder / PROMPTS_FILE, limit=MAX_TEXT_BYTES))
        yield from (*found.get("positive_prompts", ()), *found.get("style_prompts", ()))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return


def _captions(words: Mapping[str, str]) -> str:
    """The tags of the training captions, as kohya's header counts them: {folder: {tag: count}}."""
    try:
        counted = json.loads(words.get("ss_tag_frequency", "{}"))
        tags = [str(tag) for folder in counted.values() for tag in folder]
    except (ValueError, AttributeError, TypeError, RecursionError):
        tags = []
    phrase = words.get("modelspec.trigger_phrase", "")
    return _text([phrase, *dict.fromkeys(tags)])


def _sample(folder: Path, header: Header) -> str:
    """A short hash over slices of the tensors, their number and their length; "" when they went away."""
    start, length = header.data_start, header.tensors[-1].end
    digest = hashlib.sha256(f"{length} {len(header.tensors)}".encode())
    try:
        descriptor, _ = open_regular(folder / WEIGHTS_FILE, limit=MAX_WEIGHTS_BYTES)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        for index in range(_SLICES):
            stream.seek(start + index * length // _SLICES)
            digest.update(stream.read(_SLICE_BYTES))
    return digest.hexdigest()[:32]


def tensors_digest(folder: Path) -> str:
    """The sha256 of all tensor bytes behind the header, "" when they cannot be read: equal means twins."""
    try:
        descriptor, size = open_regular(folder / WEIGHTS_FILE, limit=MAX_WEIGHTS_BYTES)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as stream:
        if size == 0:
            return ""
        with mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as buffer:
            try:
                start = parse_header(buffer).data_start
            except HeaderError:
                return ""
            with memoryview(buffer) as whole, whole[start:] as data:
                return hashlib.sha256(data).hexdigest()
