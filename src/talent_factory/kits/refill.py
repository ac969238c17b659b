"""Give a kit other examples: the pictures, the preview made of the first, and the digests that cover them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from talent_factory.core.errors import KitError
from talent_factory.core.files import atomic_folder, json_text, sha256_file
from talent_factory.core.records import Record
from talent_factory.kits.manifest import EXAMPLES_FOLDER, MANIFEST_FILE, PREVIEW_FILE
from talent_factory.kits.pack import example_bytes, image_suffix, preview_bytes, refuse_invalid
from talent_factory.kits.shelf import changing
from talent_factory.kits.signing import SIGNATURE_FILES
from talent_factory.kits.validate import inspect_kit


class Refilled(Record):
    """What a kit shows now; `unsigned` are signatures that covered the pictures of before and are gone."""

    kit: Path
    examples: tuple[str, ...]
    preview: str = PREVIEW_FILE
    unsigned: tuple[str, ...] = ()


def refill_examples(kit: Path, images: Sequence[Path], *, base_folder: Path | None = None) -> Refilled:
    """Replace `examples/` and the preview of the kit in the folder `kit`, in one step or not at all.

    All other files keep their bytes; in talent.json the digests change and nothing else. Raises KitError when
    the kit is not valid, an image cannot be read, or there is none.
    """
    if not images:
        raise KitError(f"{kit.name} would have no examples", remedy="name an image")
    pictures = [example_bytes(path) for path in images]
    with changing(kit.absolute().parent):
        return _refill(kit, pictures, base_folder)


def _refill(kit: Path, pictures: Sequence[bytes], base_folder: Path | None) -> Refilled:
    found = inspect_kit(kit, base_folder=base_folder)
    if found.raw is None or not found.report.valid:
        raise KitError(f"{kit.name} is not valid", remedy=f"talent kit validate {kit.name}")
    fresh = {
        f"{EXAMPLES_FOLDER}/{number:02d}{image_suffix(data)}": data
        for number, data in enumerate(pictures, start=1)
    }
    fresh[PREVIEW_FILE] = preview_bytes(pictures[0])
    there = {path.relative_to(kit).as_posix(): path for path in kit.rglob("*") if path.is_file()}
    unsigned = tuple(sorted(SIGNATURE_FILES & there.keys()))
    kept = {name: path for name, path in there.items() if _stays(name)}
    digests = {name: sha256_file(path) for name, path in kept.items()}
    digests |= {name: hashlib.sha256(data).hexdigest() for name, data in fresh.items()}
    metadata = {**(found.raw.get("metadata") or {}), "digests": dict(sorted(digests.items()))}
    with atomic_folder(kit) as folder:
        for path in sorted(one for one in kit.rglob("*") if one.is_dir()):
            (folder / path.relative_to(kit)).mkdir()
        (folder / EXAMPLES_FOLDER).mkdir(exist_ok=True)
        for name, path in kept.items():
            shutil.copyfile(path, folder / name)
        for name, data in fresh.items():
            (folder / name).write_bytes(data)
        document = json_text({**found.raw, "metadata": metadata})
        (folder / MANIFEST_FILE).write_text(document, encoding="utf-8", newline="\n")
        refuse_invalid(folder, kit.name, base_folder)
    examples = tuple(sorted(name for name in fresh if name != PREVIEW_FILE))
    return Refilled(kit=kit, examples=examples, unsigned=unsigned)


def _stays(name: str) -> bool:
    """Whether a file is neither replaced nor made untrue by other examples."""
    shown = name == PREVIEW_FILE or name.startswith(f"{EXAMPLES_FOLDER}/")
    return not shown and name != MANIFEST_FILE and name not in SIGNATURE_FILES
