"""The table of all that was trained in a workspace: `registry.jsonl` for programs, `registry.md` for people.

Both are rebuilt from the kits' own manifests; only names and notes are a person's, and they are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from talent_factory.core.errors import FileError, KitError
from talent_factory.core.files import write_text
from talent_factory.core.records import Record
from talent_factory.kits.manifest import MANIFEST_FILE, TalentManifest, read_manifest

TABLE, PAGE = "registry.jsonl", "registry.md"
_COLUMNS = ("name", "token", "date", "base", "steps", "images", "weight", "notes")


class Row(Record):
    """One kit: `date` is the day it was made, `steps` optimiser steps, `weight` the strength to use it at.

    `name` is what somebody called it, else the end of its id. A name stays in the workspace: kits travel.
    """

    id: str
    name: str
    token: str = ""
    date: str = ""
    base: str = ""
    steps: int | None = None
    images: int | None = None
    weight: float = 1.0
    notes: str = ""


class _Own(Record):
    """What a person said of a kit, by nobody else known."""

    name: str = ""
    notes: str = ""


def update_registry(
    root: Path,
    talents: Path,
    *,
    notes: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
) -> list[Row]:
    """Rebuild both files in `root` from the kits in `talents`; returns the rows, newest first.

    `notes` and `names` set those of kits by id; all others keep the ones they have. A folder that is no kit
    is passed over, and so is a name without its kit. Raises FileError when the old table is damaged, KitError
    for a note about a kit that does not exist.
    """
    known = _known(root / TABLE)
    for talent_id, note in (notes or {}).items():
        known[talent_id] = known.get(talent_id, _Own()).model_copy(update={"notes": note})
    for talent_id, name in (names or {}).items():
        known[talent_id] = known.get(talent_id, _Own()).model_copy(update={"name": name})
    kits = sorted(path.parent for path in talents.glob(f"*/{MANIFEST_FILE}") if path.parent.name[0] != ".")
    rows = [row for kit in kits if (row := _row(kit, known)) is not None]
    lost = set(notes or {}) - {row.id for row in rows}
    if lost:
        raise KitError(f"there is no kit {sorted(lost)[0]} in {talents}", remedy="talent kit list")
    rows.sort(key=lambda row: (row.date, row.id), reverse=True)
    write_text(root / TABLE, "".join(f"{row.model_dump_json()}\n" for row in rows))
    write_text(root / PAGE, _page(rows))
    return rows


def move_note(root: Path, talents: Path, *, old: str, new: str) -> None:
    """Give name and note of a kit to its new id, and rebuild the table where there is one."""
    if (root / TABLE).is_file():
        own = _known(root / TABLE).get(old, _Own())
        update_registry(
            root,
            talents,
            notes={new: own.notes} if own.notes else None,
            names={new: own.name} if own.name else None,
        )


def _row(kit: Path, known: Mapping[str, _Own]) -> Row | None:
    try:
        manifest = read_manifest(kit)
    except KitError:
        return None
    facts = manifest.metadata.provenance or {} if manifest.metadata else {}
    images = facts.get("images")
    own = known.get(manifest.id, _Own())
    return Row(
        id=manifest.id,
        name=own.name or _plain_name(manifest.id),
        token=manifest.token or "",
        date=manifest.created_at.date().isoformat() if manifest.created_at else "",
        base=manifest.base_model,
        steps=_steps(manifest),
        images=images if isinstance(images, int) else None,
        weight=manifest.default_weight,
        notes=own.notes,
    )


def _steps(manifest: TalentManifest) -> int | None:
    """Where they stand: among the facts of version 1, or beside them when they are fewer than it allows."""
    if manifest.training_config and manifest.training_config.max_train_steps:
        return manifest.training_config.max_train_steps
    beside = (manifest.metadata.training or {}) if manifest.metadata else {}
    steps = beside.get("max_train_steps")
    return steps if isinstance(steps, int) else None


def _plain_name(talent_id: str) -> str:
    """The name of a kit that nobody gave another."""
    return talent_id.split(".", 2)[2]


def _known(table: Path) -> dict[str, _Own]:
    """What the table holds that no kit says, by id."""
    if not table.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in table.read_text("utf-8").splitlines() if line.strip()]
        found = {}
        for row in rows:
            talent_id, name = str(row["id"]), str(row.get("name") or "")
            own = "" if name == _plain_name(talent_id) else name
            found[talent_id] = _Own(name=own, notes=str(row.get("notes") or ""))
        return found
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise FileError(
            f"{table} cannot be read ({error}), and it holds your notes",
            remedy="mend that line, or move the file away to begin a new table",
        ) from None


def _page(rows: list[Row]) -> str:
    lines = ["# Talents", "", _line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    for row in rows:
        values = row.model_dump()
        lines.append(_line(["" if values[name] is None else str(values[name]) for name in _COLUMNS]))
    return "\n".join(lines) + "\n"


def _line(cells: tuple[str, ...] | list[str]) -> str:
    clean = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(clean)} |"
