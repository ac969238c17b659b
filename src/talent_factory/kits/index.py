"""List the kits of a folder with what a program needs to choose one; a broken kit is an entry, no crash."""

from __future__ import annotations

from collections import defaultdict
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


def index_kits(base_dir: Path = DEFAULT_FOLDER, include_invalid: bool = False) -> list[dict[str, Any]]:
    """Return one entry a kit, sorted by folder; invalid kits only when asked for, with `valid` false.

    An entry has id, path, valid and the manifest's fields of FIELDS, None where the manifest has none.
    Raises KitError when `base_dir` is no folder.
    """
    return [entry(item) for item in inspect_kits(base_dir) if include_invalid or item.report.valid]


def entry(inspection: Inspection) -> dict[str, Any]:
    """Return the index entry of one kit; its id is the folder's name, whatever the manifest says."""
    raw = inspection.raw or {}
    report = inspection.report
    return {
        "id": report.id,
        "path": report.path,
        "valid": report.valid,
        **{name: raw.get(name) for name in FIELDS},
    }


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
