"""How `talent kit show` tells of a kit: a line for each thing that one asks before using it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talent_factory.cli.common import printable

if TYPE_CHECKING:
    from talent_factory.kits.manifest import TalentManifest


def print_kit(document: dict[str, Any]) -> None:
    """Print the answer of `talent kit show`; of an invalid kit what is wrong, and talent.json as it is."""
    from talent_factory.cli.kit import print_reports
    from talent_factory.core.files import json_text
    from talent_factory.kits.findings import KitReport
    from talent_factory.kits.manifest import read_manifest

    report = KitReport(
        id=document["id"], path=document["path"], valid=document["valid"], findings=document["findings"]
    )
    folder = Path(report.path)
    print_reports([report], folder.parent, verbose=True)
    if report.valid:
        for name, value in facts(read_manifest(folder), folder):
            print(f"{name:12} {printable(value)}")
    for title, names in (("same weights", document["twins"]), ("used by", document["personas"])):
        if names:
            print(f"{title}: {', '.join(printable(name) for name in names)}")
    if not report.valid and document["manifest"] is not None:
        print(json_text(document["manifest"]), end="")


def facts(manifest: TalentManifest, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what the manifest of the kit in `folder` says, as pairs of a name and a text of strangers."""
    metadata, training = manifest.metadata, manifest.training_config
    about = metadata.description if metadata else None
    words = [manifest.token, *((metadata and metadata.triggers) or ())]
    steps = training.max_train_steps if training else None
    found = {
        "about": about,
        "words": ", ".join(dict.fromkeys(word for word in words if word)),
        "avoid": manifest.negatives,
        "base": " ".join(
            filter(None, (manifest.base_model, ((metadata and metadata.base_revision) or "")[:12]))
        ),
        "weight": f"{manifest.default_weight:g}",
        "rank": str(manifest.lora_rank)
        + (f", alpha {metadata.alpha:g}" if metadata and metadata.alpha else ""),
        "size": f"{manifest.size_mb:g} MB",
        "made": f"{manifest.created_at:%Y-%m-%d}" if manifest.created_at else "",
        "steps": str(steps) if steps else "",
        "tags": ", ".join((metadata and metadata.tags) or ()),
        "author": metadata and metadata.author,
        "licence": metadata and metadata.license,
        "shows": _subject(manifest),
        "mixes with": ", ".join(manifest.intended_mix or ()),
        "folder": str(folder),
    }
    yield from ((name, text) for name, text in found.items() if text)


def _subject(manifest: TalentManifest) -> str:
    from talent_factory.kits.consent import subject_of

    stated = subject_of(manifest)
    if stated is None:
        return f"not said: talent kit subject {manifest.id}" if manifest.is_identity else ""
    if not stated.real_person:
        return "no real person"
    return f"a real person{', a minor' if stated.minor else ''}; consent: {stated.consent}"
