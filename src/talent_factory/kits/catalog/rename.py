"""Give a kit another id without touching what its digests cover: the weights stay the same file."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from talent_factory.core.errors import KitError
from talent_factory.core.files import atomic_folder, json_text, remove_folder
from talent_factory.core.records import Record
from talent_factory.core.workspace import check_id
from talent_factory.kits.catalog.trash import find_folder
from talent_factory.kits.index import kit_folders
from talent_factory.kits.manifest import MANIFEST_FILE
from talent_factory.kits.shelf import changing
from talent_factory.kits.validate import inspect_kit


class Renamed(Record):
    """What a new id changed: signatures that were dropped, and kits that still name the old id."""

    old: str
    new: str
    unsigned: tuple[str, ...] = ()
    named_by: tuple[str, ...] = ()


def rename_kit(base_dir: Path, old: str, new: str, *, dry_run: bool = False) -> Renamed:
    """Change the id of a valid kit: its folder and `id` in talent.json, which keeps the old one in metadata.

    All other files stay as they are, so that pictures and personas know the weights by their digest; the
    header of the weights keeps the name it was trained under, and an export writes the new one. A signature
    covers the id and is left out. A rename that was killed is finished by the same call. Raises UsageError
    for a text that is no id, KitError for a kit that is not there or not valid, and for an id that is taken,
    in whatever case.
    """
    check_id(new)
    find_folder(base_dir, old)
    with nullcontext() if dry_run else changing(base_dir):
        unsigned = _change_id(base_dir, old, new, dry_run=dry_run)
    return Renamed(old=old, new=new, unsigned=unsigned, named_by=_named_by(base_dir, old, but=new))


def _change_id(base_dir: Path, old: str, new: str, *, dry_run: bool) -> tuple[str, ...]:
    """Do what `rename_kit` says; returns the signatures that are left out."""
    source, target = find_folder(base_dir, old), base_dir / new
    taken = {folder.name.casefold(): folder.name for folder in kit_folders(base_dir) if folder != source}
    inspection = inspect_kit(source)
    if new == old or new in taken:
        if new == old or inspection.raw is None or not _begun(target, _renamed(inspection.raw, old, new)):
            raise KitError(f"there is a kit {taken.get(new, new)} already", remedy="choose another id")
        if not dry_run:
            remove_folder(source)
        return ()
    if inspection.raw is None or not inspection.report.valid:
        raise KitError(f"{old} is not valid, so it keeps its id", remedy=f"talent kit validate {old}")
    unsigned = tuple(name for name in _signatures() if (source / name).is_file())
    if not dry_run:
        _move(source, target, document=_renamed(inspection.raw, old, new), leave=unsigned)
    return unsigned


def _begun(target: Path, document: dict[str, Any]) -> bool:
    """Whether `target` is what a rename made that was killed before the old folder went."""
    found = inspect_kit(target)
    return found.report.valid and found.raw == document


def _signatures() -> tuple[str, ...]:
    from talent_factory.kits.signing import SIGNATURE_FILES

    return tuple(sorted(SIGNATURE_FILES))


def _renamed(raw: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    metadata = dict(raw.get("metadata") or {})
    metadata["renamed_from"] = [*metadata.get("renamed_from", []), old]
    return {**raw, "id": new, "metadata": metadata}


def _move(source: Path, target: Path, *, document: dict[str, Any], leave: Iterable[str]) -> None:
    """Make the new folder whole before the old one goes: a stop in between leaves both, never a half."""
    with atomic_folder(target, replace=False) as folder:
        for path in sorted(source.rglob("*")):
            name = path.relative_to(source)
            if path.is_dir():
                (folder / name).mkdir()
            elif name.as_posix() not in (MANIFEST_FILE, *leave):
                _same_file(path, folder / name)
        (folder / MANIFEST_FILE).write_text(json_text(document), "utf-8")
        errors = inspect_kit(folder, name=target.name).report.errors
        if errors:
            raise KitError(
                f"{target.name} would not be valid: {errors[0].file}: {errors[0].message}",
                remedy=errors[0].remedy,
            )
    remove_folder(source)


def _same_file(path: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        os.link(path, target)
        return
    shutil.copy2(path, target)  # a disk without hard links


def _named_by(base_dir: Path, old: str, *, but: str) -> tuple[str, ...]:
    """Kits whose intended_mix names the old id."""
    from talent_factory.kits.catalog.catalog import Catalog

    with Catalog(base_dir) as catalog:
        catalog.update()
        entries = catalog.entries(include_invalid=True)
    return tuple(
        item["id"]
        for item in entries
        if item["id"] not in (old, but)
        and isinstance(item["intended_mix"], list)
        and old in item["intended_mix"]
    )
