"""Bring kits into a workspace: whatever is offered becomes a valid kit in one step, or is refused by name."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from talent_factory.core.errors import FileError, TalentError, UsageError
from talent_factory.core.files import atomic_folder
from talent_factory.core.workspace import check_id
from talent_factory.kits.findings import Notes
from talent_factory.kits.folder import KitFolder
from talent_factory.kits.index import kit_folders
from talent_factory.kits.intake.adopt import Lora, opened_lora, same_tensors
from talent_factory.kits.intake.archive import unpack
from talent_factory.kits.intake.bases import MODELS
from talent_factory.kits.intake.compose import compose
from talent_factory.kits.intake.facts import kit_id
from talent_factory.kits.intake.find import Found, find
from talent_factory.kits.intake.outcome import Order, Taken
from talent_factory.kits.intake.refusal import IntakeRefused
from talent_factory.kits.manifest import MANIFEST_FILE, WEIGHTS_FILE, TalentManifest, read_manifest
from talent_factory.kits.shelf import changing
from talent_factory.kits.strict import open_regular
from talent_factory.kits.validate import inspect_kit

Progress = Callable[[int, int], None]


def bring(paths: Sequence[Path], order: Order, *, progress: Progress | None = None) -> list[Taken]:
    """Take in everything at `paths`; returns one record for each thing found, refused ones included.

    `progress` is told how many of how many are done. What is refused leaves nothing behind and stops nothing.
    Raises UsageError for a path that does not exist, and for an id or token that is to name more than one.
    """
    found = [item for path in paths for item in find(path)]
    if not found:
        raise UsageError(
            f"nothing to import in {', '.join(map(str, paths))[:200]}",
            remedy="name .safetensors files, archives of kits or folders that hold them",
        )
    if len(found) > 1 and (order.id or order.wishes.token):
        raise UsageError(
            f"--id and --token are for one LoRA, here are {len(found)}", remedy="import it alone"
        )
    if order.root.is_dir() and not order.dry_run:
        with changing(order.root):
            pass  # what killed imports left is cleared
    shelf = _Shelf(order.root)
    taken: list[Taken] = []
    for number, item in enumerate(found):
        if progress is not None:
            progress(number, len(found))
        taken.extend(_take(item, order, shelf))
    if progress is not None:
        progress(len(found), len(found))
    return taken


class _Shelf:
    """The kits that are there: id and digest of the weights, also of the file that they came from."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._digests: dict[str, str] = {}
        self.ids: set[str] = set()
        for folder in kit_folders(root) if root.is_dir() else ():
            self.ids.add(folder.name)
            try:
                self.put(read_manifest(folder))
            except TalentError:
                continue

    def put(self, manifest: TalentManifest) -> None:
        """Remember a kit."""
        self.ids.add(manifest.id)
        metadata = manifest.metadata
        if metadata is not None:
            for digest in (
                (metadata.digests or {}).get(WEIGHTS_FILE),
                (metadata.provenance or {}).get("source_sha256"),
            ):
                if isinstance(digest, str):
                    self._digests.setdefault(digest, manifest.id)

    def holder(self, digest: str) -> str | None:
        """The id of the kit that holds these weights."""
        return self._digests.get(digest)

    def twin(self, lora: Lora) -> str | None:
        """The id of a kit with the very tensors of `lora`: an export of it, or a copy with another header."""
        weights = ((name, self._root / name / WEIGHTS_FILE) for name in sorted(self.ids))
        return next((name for name, path in weights if same_tensors(path, lora)), None)


def _take(item: Found, order: Order, shelf: _Shelf) -> list[Taken]:
    try:
        if item.kind == "archive":
            return _take_archive(item.path, order, shelf)
        if item.kind == "kit":
            return [_take_kit(item.path, str(item.path), order, shelf, move=False)]
        return [_take_lora(item.path, str(item.path), order, shelf)]
    except IntakeRefused as error:
        return [_refused(str(item.path), error)]


def _refused(source: str, error: IntakeRefused) -> Taken:
    return Taken(source=source, status="refused", code=error.code, message=error.message, remedy=error.remedy)


def _take_archive(path: Path, order: Order, shelf: _Shelf) -> list[Taken]:
    # beside the kits, so that taking a file out of it is a rename; a dry run leaves the workspace alone
    place = None if order.dry_run else order.root
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".tmp-{os.getpid()}-import-", dir=place) as temporary:
        folder = Path(temporary)
        names = unpack(path, folder)
        inner = find(folder)
        if not inner:
            raise IntakeRefused(
                f"{len(names)} files, and neither a kit nor a LoRA among them",
                code="archive",
                remedy="a kit has talent.json, a LoRA ends in .safetensors",
            )
        if len(inner) > 1 and (order.id or order.wishes.token):
            raise UsageError(
                f"--id and --token are for one LoRA, {path.name} holds {len(inner)}", remedy="unpack it"
            )
        taken = []
        for item in inner:
            source = f"{path}!{item.path.relative_to(folder).as_posix()}"
            try:
                if item.kind == "kit":
                    taken.append(_take_kit(item.path, source, order, shelf, move=True))
                else:
                    taken.append(_take_lora(item.path, source, order, shelf))
            except IntakeRefused as error:
                taken.append(_refused(source, error))
        return taken


def _take_kit(folder: Path, source: str, order: Order, shelf: _Shelf, *, move: bool) -> Taken:
    """Take a whole kit, file by file as it is; it keeps its id, for its digests and signature stand."""
    notes = Notes()
    listing = KitFolder(folder, notes)
    if notes.failed:
        first = notes.report(kit=folder, name=folder.name).errors[0]
        raise IntakeRefused(f"{first.file}: {first.message}", code=first.code, remedy=first.remedy)
    try:
        manifest = read_manifest(folder)
    except TalentError as error:
        inspection = inspect_kit(folder)
        first = inspection.report.errors[0]
        raise IntakeRefused(f"{first.file}: {first.message}", code=first.code, remedy=first.remedy) from error
    if order.id and order.id != manifest.id:
        raise UsageError(
            f"{source} is a kit and keeps its id {manifest.id}", remedy="talent kit rename, afterwards"
        )
    holder = shelf.holder(((manifest.metadata and manifest.metadata.digests) or {}).get(WEIGHTS_FILE, ""))
    if manifest.id in shelf.ids and not order.replace:
        if holder == manifest.id and _same_manifest(folder, order.root / manifest.id):
            return Taken(
                source=source, status="known", id=manifest.id, message="this very kit is here already"
            )
        raise _collision(manifest.id)
    with _room(order, manifest.id) as target:
        for name in sorted(listing.sizes):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            _transfer(folder / name, target / name, move=move)
        warnings = _refuse_invalid(target, manifest.id)
    shelf.put(manifest)
    return _imported(source, manifest, order, warnings=warnings, form="kit")


def _take_lora(path: Path, source: str, order: Order, shelf: _Shelf) -> Taken:
    base, model = (order.base, None) if order.base in (None, *MODELS) else (None, order.base)
    with opened_lora(path, base=base, wishes=order.wishes) as lora:
        holder = None
        if not order.replace:
            # who names an id wants a kit of that name, and may have the same weights twice
            holder = shelf.holder(lora.digest) or (None if order.id else shelf.twin(lora))
        if holder is not None:
            return Taken(
                source=source, status="known", id=holder, message=f"the kit {holder} holds these weights"
            )
        talent_id = _free_id(lora, order, shelf)
        with _room(order, talent_id) as target:
            manifest = compose(lora, target, talent_id=talent_id, model=model)
            warnings = _refuse_invalid(target, talent_id)
        shelf.put(read_manifest(order.root / talent_id) if not order.dry_run else manifest)
        taken = _imported(source, manifest, order, warnings=(*warnings, *lora.remarks), form=lora.form)
        return taken.model_copy(
            update={"base": lora.choice.base, "reasons": lora.facts.reasons, "changes": lora.reshaped.changes}
        )


def _imported(
    source: str, manifest: TalentManifest, order: Order, *, warnings: tuple[str, ...], form: str
) -> Taken:
    return Taken(
        source=source,
        status="imported",
        id=manifest.id,
        path=(order.root / manifest.id).as_posix(),
        form=form,
        base=manifest.base_model,
        rank=manifest.lora_rank,
        alpha=manifest.metadata.alpha if manifest.metadata else None,
        warnings=warnings,
    )


def _free_id(lora: Lora, order: Order, shelf: _Shelf) -> str:
    if order.id:
        wanted = check_id(order.id)
        if wanted in shelf.ids and not order.replace:
            raise _collision(wanted)
        return wanted
    wanted = _stated_id(lora) or kit_id(lora.stem, lora.facts.kind, lora.digest)
    # files of one name in two folders are two kits; the hash tells them apart, always in the same way
    return wanted if wanted not in shelf.ids or order.replace else f"{wanted}_{lora.digest[:8]}"


def _stated_id(lora: Lora) -> str:
    """The id of the kit that this file was exported from, "" when its title is none of that kind."""
    title = lora.facts.title
    if not title.startswith(f"avatar.{lora.facts.kind}."):
        return ""
    try:
        return check_id(title)
    except UsageError:
        return ""


@contextmanager
def _room(order: Order, talent_id: str) -> Iterator[Path]:
    """An empty folder that becomes the kit, or vanishes after a dry run."""
    if order.dry_run:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    try:
        # without --replace the id must still be free at the end: another import may have taken it meanwhile
        with atomic_folder(order.root / talent_id, replace=order.replace) as folder:
            yield folder
    except FileError as error:
        raise _collision(talent_id) from error


def _collision(talent_id: str) -> IntakeRefused:
    return IntakeRefused(
        f"there is another kit {talent_id}",
        code="id-collision",
        remedy="--replace puts this one in its place",
    )


def _refuse_invalid(folder: Path, talent_id: str) -> tuple[str, ...]:
    report = inspect_kit(folder, name=talent_id).report
    if report.errors:
        first = report.errors[0]
        more = f" (and {len(report.errors) - 1} more)" if len(report.errors) > 1 else ""
        raise IntakeRefused(f"{first.file}: {first.message}{more}", code=first.code, remedy=first.remedy)
    return tuple(f"{item.file}: {item.message}" for item in report.warnings)


def _transfer(source: Path, target: Path, *, move: bool) -> None:
    if move:
        os.replace(source, target)
        return
    descriptor, _ = open_regular(source, limit=1 << 33)
    with os.fdopen(descriptor, "rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)


def _same_manifest(one: Path, other: Path) -> bool:
    try:
        return (one / MANIFEST_FILE).read_bytes() == (other / MANIFEST_FILE).read_bytes()
    except OSError:
        return False
