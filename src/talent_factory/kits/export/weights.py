"""Give the weights of a kit a name of their own in the header; the tensors' bytes stay as they are."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from talent_factory.core.errors import KitError
from talent_factory.kits.export.pieces import Piece
from talent_factory.kits.header import Header, HeaderError, parse_header
from talent_factory.kits.header_words import header_words
from talent_factory.kits.keys import base_of
from talent_factory.kits.lora_file import LEGACY_BYTES, header_bytes
from talent_factory.kits.manifest import WEIGHTS_FILE, TalentManifest

# Which kit a file was exported from; readers pass over words that they do not know.
KIT_WORD = "talent.kit"
# What a reader needs to load, list and wake the file, and nothing that tells of its making.
_MINIMAL = {
    "ss_v2",
    "ss_base_model_version",
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_network_args",
    "ss_output_name",
    "ss_v_parameterization",
    "modelspec.sai_model_spec",
    "modelspec.architecture",
    "modelspec.implementation",
    "modelspec.title",
    "modelspec.resolution",
    "modelspec.prediction_type",
    "modelspec.trigger_phrase",
    "modelspec.license",
    "modelspec.usage_hint",
    KIT_WORD,
}


class Weights(NamedTuple):
    """The file to write: its content, its header words, the sha256 of its tensors, whether it is a DoRA."""

    piece: Piece
    words: Mapping[str, str]
    tensors_sha256: str
    dora: bool


def named_weights(kit: Path, manifest: TalentManifest, *, name: str, minimal: bool = False) -> Weights:
    """Return the kit's weights under the name `name`.

    Words that the file lacks are added from the manifest, its hashes are right for the new header, and with
    `minimal` everything that tells how the file was made is left out. Raises KitError when it cannot be read.
    """
    path = kit / WEIGHTS_FILE
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            header = parse_header(buffer)
            digest = hashlib.sha256()
            with memoryview(buffer) as whole:
                digest.update(whole[header.data_start :])
                start = bytes(whole[header.data_start : header.data_start + LEGACY_BYTES])
    except (OSError, ValueError, HeaderError) as error:
        raise KitError(f"{path}: {error}", remedy="talent kit validate --verbose") from error
    words = {**_known_words(manifest), **header.metadata, "ss_output_name": name, KIT_WORD: manifest.id}
    if minimal:
        words = {key: text for key, text in words.items() if key in _MINIMAL}
    head = header_bytes(words, _entries(header), digest=digest.hexdigest(), body_start=start)
    return Weights(
        piece=Piece(head, path, header.data_start),
        words=parse_words(head),
        tensors_sha256=digest.hexdigest(),
        dora=any(entry.name.endswith(".dora_scale") for entry in header.tensors),
    )


def parse_words(head: bytes) -> Mapping[str, str]:
    """Return the words of a header as written; `head` need not be followed by its tensors."""
    length = int.from_bytes(head[:8], "little")
    found: dict[str, str] = json.loads(head[8 : 8 + length]).get("__metadata__", {})
    return found


def owner_of(path: Path) -> str:
    """Return the id of the kit that the file `path` was exported from; "" when that cannot be told."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            words = parse_header(buffer).metadata
    except (OSError, ValueError, HeaderError):
        return ""
    return words.get(KIT_WORD) or words.get("modelspec.title", "")


def _entries(header: Header) -> dict[str, Any]:
    return {
        entry.name: {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.start, entry.end],
        }
        for entry in header.tensors
    }


def _known_words(manifest: TalentManifest) -> dict[str, str]:
    metadata = manifest.metadata
    alpha = (metadata.alpha if metadata else None) or float(manifest.lora_rank)
    triggers = (metadata.triggers if metadata else None) or ((manifest.token,) if manifest.token else ())
    return header_words(
        name=manifest.id,
        base=base_of(manifest.base_model, manifest.sdx_version),
        base_model=manifest.base_model,
        rank=manifest.lora_rank,
        alpha=alpha,
        triggers=tuple(triggers),
        facts={},
        texts={"title": manifest.id, "license": (metadata.license or "") if metadata else ""},
    )
