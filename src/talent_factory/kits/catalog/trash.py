"""Put kits away and take them back: the trash is a hidden folder beside the kits, on the same disk."""

from __future__ import annotations

import difflib
import os
from datetime import UTC, datetime
from pathlib import Path

from talent_factory.core.errors import KitError
from talent_factory.core.files import clear_leftovers, fsync_folder, remove_folder
from talent_factory.core.records import Record
from talent_factory.kits.index import kit_folders
from talent_factory.kits.shelf import changing

TRASH_FOLDER = ".trash"
_TIME = "%Y%m%dT%H%M%SZ"


class Trashed(Record):
    """A kit in the trash: its id, its folder's name there, when it came, and its bytes."""

    id: str
    name: str
    removed: str
    size_bytes: int


def find_folder(base_dir: Path, name: str) -> Path:
    """Return the folder of the kit called exactly `name`, valid or not.

    Raises KitError when there is none, naming the nearest, or when `base_dir` is no folder.
    """
    folders = {folder.name: folder for folder in kit_folders(base_dir)}
    if name in folders:
        return folders[name]
    near = difflib.get_close_matches(name, folders, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]}?" if near else "talent kit list shows what there is"
    raise KitError(f"there is no kit {name[:120]!r} in {base_dir}", remedy=remedy)


def put_away(base_dir: Path, name: str) -> Trashed:
    """Move a kit to the trash of its folder in one step; raises KitError when there is no such kit."""
    find_folder(base_dir, name)
    trash = base_dir / TRASH_FOLDER
    with changing(base_dir):
        folder = find_folder(base_dir, name)
        trash.mkdir(exist_ok=True)
        place = trash / _free_name(trash, f"{name}@{datetime.now(UTC).strftime(_TIME)}")
        os.rename(folder, place)
        fsync_folder(trash)
        fsync_folder(base_dir)
    return _trashed(place)


def trashed(base_dir: Path) -> list[Trashed]:
    """Return what lies in the trash, the latest first."""
    trash = base_dir / TRASH_FOLDER
    if not trash.is_dir():
        return []
    entries = (entry for entry in trash.iterdir() if not entry.name.startswith("."))
    found = [_trashed(entry) for entry in entries if "@" in entry.name]
    return sorted(found, key=lambda item: (item.removed, item.name), reverse=True)


def take_back(base_dir: Path, name: str) -> str:
    """Bring back a kit by its id (the latest of that id) or by its name in the trash; returns the id.

    Raises KitError when it is not in the trash, or when a kit of that id is there.
    """
    trash = base_dir / TRASH_FOLDER
    found = next((item for item in trashed(base_dir) if name in (item.name, item.id)), None)
    if found is None:
        raise KitError(
            f"{name[:120]!r} is not in the trash of {base_dir}", remedy="talent kit trash lists what is"
        )
    with changing(base_dir):
        target = base_dir / found.id
        if os.path.lexists(target):
            raise KitError(
                f"{found.id} is there already", remedy=f"talent kit rename {found.id} NEW_ID, then try again"
            )
        if not os.path.lexists(trash / found.name):
            raise KitError(f"{found.id} has just left the trash", remedy="talent kit list")
        os.rename(trash / found.name, target)
        fsync_folder(trash)
        fsync_folder(base_dir)
    return found.id


def empty_trash(base_dir: Path) -> tuple[int, int]:
    """Delete for good all that is in the trash; returns how many kits and bytes went."""
    trash = base_dir / TRASH_FOLDER
    if not trash.is_dir():
        return 0, 0
    with changing(base_dir):
        clear_leftovers(trash)
        gone = trashed(base_dir)
        for item in gone:
            place = trash / item.name
            if place.is_symlink():
                place.unlink()
            else:
                # in one step: half a kit must not be there to take back
                remove_folder(place)
    return len(gone), sum(item.size_bytes for item in gone)


def _free_name(trash: Path, name: str) -> str:
    number, free = 1, name
    while os.path.lexists(trash / free):
        number += 1
        free = f"{name}-{number}"
    return free


def _trashed(place: Path) -> Trashed:
    talent_id, _, removed = place.name.rpartition("@")
    files = [] if place.is_symlink() else [path for path in place.rglob("*") if not path.is_symlink()]
    size = sum(path.stat().st_size for path in files if path.is_file())
    return Trashed(id=talent_id, name=place.name, removed=removed, size_bytes=size)
