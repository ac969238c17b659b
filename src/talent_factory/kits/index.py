"""Find the kits of a folder and say what an index tells of each; a broken kit is an entry, no crash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talent_factory.core.errors import KitError
from talent_factory.kits.findings import KitFinding, KitReport
from talent_factory.kits.validate import Inspection, inspect_kit

DEFAULT_FOLDER = Path("talents") / "avatar"
FIELDS = (
    "category",
    "kind",
    "sdx_version",
    "base_model",
    "lora_rank",
    "default_weight",
    "size_mb",
    "created_at",
    "token",
    "negatives",
    "intended_mix",
    "metadata",
)


def kit_folders(base_dir: Path) -> list[Path]:
    """Return the folders of `base_dir` in order of their names; hidden ones (half-written kits) are left out.

    Raises KitError when `base_dir` is no folder.
    """
    if not base_dir.is_dir():
        raise KitError(
            f"{base_dir} is no folder of kits", remedy="talent run makes a kit; --base-dir names the folder"
        )
    found = (entry for entry in base_dir.iterdir() if not entry.name.startswith("."))
    return sorted(
        (entry for entry in found if entry.is_dir() or entry.is_symlink()), key=lambda entry: entry.name
    )


def inspect_kits(base_dir: Path) -> list[Inspection]:
    """Inspect every kit of a folder; kits whose folders differ only in case carry a finding about it."""
    inspections = [inspect_kit(folder) for folder in kit_folders(base_dir)]
    same: dict[str, list[str]] = defaultdict(list)
    for inspection in inspections:
        same[inspection.report.id.casefold()].append(inspection.report.id)
    return [_with_collision(inspection, same[inspection.report.id.casefold()]) for inspection in inspections]


def entry(name: str, path: str, *, valid: bool, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the index entry of one kit; its id is the folder's name, whatever the manifest says."""
    return {"id": name, "path": path, "valid": valid, **fields}


def entry_fields(raw: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the manifest's fields of FIELDS, None where it has none."""
    return {name: (raw or {}).get(name) for name in FIELDS}


def _with_collision(inspection: Inspection, names: list[str]) -> Inspection:
    if len(names) < 2:
        return inspection
    report = inspection.report
    others = ", ".join(name for name in names if name != report.id)
    finding = KitFinding(
        severity="warning",
        code="id-collision",
        file="",
        message=f"differs from {others} only in upper and lower case",
        remedy="rename one: on Windows and macOS they are the same folder",
    )
    extended = KitReport(
        id=report.id, path=report.path, valid=report.valid, findings=(*report.findings, finding)
    )
    return inspection._replace(report=extended)
