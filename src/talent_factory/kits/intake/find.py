"""Find what can be taken in below a path: kit folders, LoRA files, and what has to be named as refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from talent_factory.core.errors import UsageError
from talent_factory.kits.folder import PICKLE_SUFFIXES
from talent_factory.kits.intake.archive import is_archive
from talent_factory.kits.manifest import MANIFEST_FILE

MAX_DEPTH = 8
MAX_ENTRIES = 200_000
# Where programs keep LoRAs; below such a program's own folder nothing else is looked at.
_UI_FOLDERS = (
    "models/Lora", "models/LyCORIS", "models/loras", "loras", "autoimport/lora", "models/sd-1/lora",
    "models/sdxl/lora",
)  # fmt: skip


class Found(NamedTuple):
    """One thing to take in: a kit folder, an archive or a file."""

    kind: Literal["kit", "archive", "file"]
    path: Path


def find(path: Path) -> list[Found]:
    """Return what is at `path`, in the order of names; a folder is searched, links in it are not followed.

    In a folder of a program (A1111, Forge, ComfyUI, InvokeAI) only its folders of LoRAs are searched. Raises
    UsageError when there is nothing at `path`.
    """
    if path.is_symlink() or path.is_file():
        return [Found("archive" if is_archive(path) else "file", path)]
    if not path.is_dir():
        raise UsageError(
            f"{path} does not exist", remedy="name a .safetensors file, an archive or a folder of them"
        )
    if (path / MANIFEST_FILE).exists():
        return [Found("kit", path)]
    places = [path / name for name in _UI_FOLDERS if (path / name).is_dir()]
    # two of the names are one folder where case does not count
    distinct = {os.path.realpath(place): place for place in places}
    return [found for place in (distinct.values() or (path,)) for found in _walk(place)]


def _walk(root: Path) -> Iterator[Found]:
    seen = 0
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        depth = len(here.relative_to(root).parts)
        seen += len(names) + len(folders)
        if seen > MAX_ENTRIES:
            raise UsageError(f"more than {MAX_ENTRIES} files below {root}", remedy="name a smaller folder")
        kits = [name for name in folders if (here / name / MANIFEST_FILE).exists()]
        yield from (Found("kit", here / name) for name in sorted(kits) if not (here / name).is_symlink())
        folders[:] = sorted(
            name for name in folders if name not in kits and not name.startswith(".") and depth < MAX_DEPTH
        )
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if not name.startswith(".") and (suffix == ".safetensors" or suffix in PICKLE_SUFFIXES):
                yield Found("file", here / name)
