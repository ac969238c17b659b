"""Hand a kit to the programs that draw with it and to the places that share it, in the form each one reads.

    export_kit(kit, target="a1111", out=models_lora)

Every target gets the shipped tensors byte for byte under a name of its own; only the header's words change.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import atomic_path, clear_halves
from talent_factory.core.records import Record
from talent_factory.kits.consent import check_publishable
from talent_factory.kits.export.archive import write_zip
from talent_factory.kits.export.pieces import Piece
from talent_factory.kits.export.targets import BUILDERS, PUBLIC, TARGETS, Pieces, Source, Target, archive_name
from talent_factory.kits.export.weights import named_weights, owner_of
from talent_factory.kits.keys import base_of
from talent_factory.kits.manifest import TalentManifest, read_prompts
from talent_factory.kits.validate import inspect_kit
from talent_factory.kits.words import check_stem, file_stem

__all__ = ["TARGETS", "Export", "ExportedFile", "Target", "export_kit", "plan_export"]

_OUR_PROGRAMS = {"diffusers", "hf", "zip"}


class ExportedFile(Record):
    """One file of an export: `path` where it lies, `bytes` its size."""

    path: Path
    bytes: int


class Export(Record):
    """What was written, or would be: `name` is what programs call the LoRA, `remarks` what to know."""

    kit: str
    target: str
    name: str
    files: tuple[ExportedFile, ...]
    written: bool
    remarks: tuple[str, ...] = ()


def export_kit(
    kit: Path,
    *,
    target: Target,
    out: Path,
    name: str | None = None,
    minimal: bool = False,
    publish: bool = False,
    base_folder: Path | None = None,
    reporter: Reporter | None = None,
) -> Export:
    """Write the kit in the folder `kit` for `target` into the folder `out`.

    `name` replaces the name made from the kit's token; `minimal` leaves out of headers, cards and pictures
    how the kit was made and by whom; `publish` asks for the same consent that "hf" and "civitai" always ask
    for; `base_folder` as in `validate_kit`. Files of an earlier export of this kit are replaced. Raises
    KitError for an invalid kit or one that the target cannot hold, PolicyRefused for one that may not be
    published, UsageError for a name that cannot be, or is another's.
    """
    order = _Order(kit, target, out, base_folder, name, minimal, publish)
    pieces, planned = _prepare(order)
    total = sum(file.bytes for file in planned.files)
    _check_room(out, total)
    _write(out, pieces, archive_name(target, planned.kit), _Told(reporter or SilentReporter(), total))
    return planned.model_copy(update={"written": True})


def plan_export(
    kit: Path,
    *,
    target: Target,
    out: Path,
    name: str | None = None,
    minimal: bool = False,
    publish: bool = False,
    base_folder: Path | None = None,
) -> Export:
    """Return what `export_kit` would write, and write nothing; refuses what it refuses."""
    return _prepare(_Order(kit, target, out, base_folder, name, minimal, publish))[1]


class _Order(NamedTuple):
    kit: Path
    target: Target
    out: Path
    base_folder: Path | None
    name: str | None
    minimal: bool
    publish: bool


class _Told:
    """Turns bytes written into progress."""

    def __init__(self, reporter: Reporter, total: int) -> None:
        self._reporter, self._total, self._done = reporter, total, 0

    def __call__(self, count: int) -> None:
        before, self._done = self._done >> 20, self._done + count
        if self._done >> 20 != before:
            self._reporter.progress("export", self._done >> 20, max(1, self._total >> 20), unit="MB")


def _prepare(order: _Order) -> tuple[Pieces, Export]:
    """Check the order and make everything but the files."""
    kit, target, out = order.kit, order.target, order.out
    if target not in BUILDERS:
        raise UsageError(f"no target called {target[:40]!r}", remedy=f"choose from {', '.join(TARGETS)}")
    manifest = _valid(kit, order.base_folder)
    if order.publish or target in PUBLIC:
        check_publishable(manifest)
    if target == "zip" and (order.minimal or order.name):
        raise UsageError("zip holds the kit as it is", remedy="leave --name and --minimal-metadata out")
    stem = check_stem(order.name or file_stem(manifest))
    weights = named_weights(kit, manifest, name=stem, minimal=order.minimal)
    pieces = BUILDERS[target](Source(kit, manifest, read_prompts(kit), weights, stem, order.minimal))
    archive = archive_name(target, manifest.id)
    if archive:
        sizes = {archive: sum(piece.size for piece in pieces.values())}
    else:
        _refuse_foreign(out, pieces, manifest)
        sizes = {path: piece.size for path, piece in pieces.items()}
    return pieces, Export(
        kit=manifest.id,
        target=target,
        name=stem,
        files=tuple(ExportedFile(path=out / path, bytes=size) for path, size in sizes.items()),
        written=False,
        remarks=_remarks(manifest, target),
    )


def _valid(kit: Path, base_folder: Path | None) -> TalentManifest:
    inspection = inspect_kit(kit, base_folder=base_folder)
    if inspection.manifest is None or inspection.report.errors:
        first = inspection.report.errors[0]
        raise KitError(
            f"{inspection.report.id} is not exported: {first.file}: {first.message}", remedy=first.remedy
        )
    return inspection.manifest


def _refuse_foreign(out: Path, pieces: Pieces, manifest: TalentManifest) -> None:
    """Leave alone what another kit was exported to, or a user put there; names count without their case."""
    there: dict[str, Path] = {}
    for folder in {(out / path).parent for path in pieces}:
        if folder.is_dir():
            there |= {str(path.relative_to(out)).casefold(): path for path in folder.iterdir()}
    pairs = [(there[path.casefold()], piece) for path, piece in pieces.items() if path.casefold() in there]
    # cards alone, as they would be written now, are of an export that was killed before its weights came
    if all(_is_written(path, piece) for path, piece in pairs):
        return
    weights = next(path for path in pieces if path.endswith(".safetensors"))
    owner = owner_of(there[weights.casefold()]) if weights.casefold() in there else ""
    if owner != manifest.id:
        whose = f"is of {owner[:120]}" if owner else "is not an export of this kit"
        raise UsageError(f"{pairs[0][0]} is there and {whose}", remedy="choose another name with --name")


def _is_written(path: Path, piece: Piece) -> bool:
    if piece.rest is not None or not path.is_file() or path.stat().st_size != piece.size:
        return False
    return path.read_bytes() == piece.head


def _check_room(out: Path, wanted: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if free < wanted:
        raise UsageError(
            f"{out} has {free >> 20} MB free, the export needs {wanted >> 20}", remedy="choose another --out"
        )


def _write(out: Path, pieces: Pieces, archive: str, told: Callable[[int], None]) -> None:
    """Weights come last: who sees them sees their cards too."""
    for path in (archive,) if archive else pieces:
        clear_halves(out / path)
    if archive:
        with atomic_path(out / archive) as temporary:
            write_zip(temporary, pieces, told)
        return
    for path, piece in sorted(pieces.items(), key=lambda item: item[0].endswith(".safetensors")):
        with atomic_path(out / path) as temporary:
            piece.write(temporary, told)


def _remarks(manifest: TalentManifest, target: Target) -> tuple[str, ...]:
    if base_of(manifest.base_model, manifest.sdx_version) == "mini" and target not in _OUR_PROGRAMS:
        return ("no program but ours and diffusers has the base mini: elsewhere the file changes nothing",)
    return ()
