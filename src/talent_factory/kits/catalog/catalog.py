"""The catalog of a folder of kits: brought up to date in one pass, then asked without opening a kit."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import sha256_bytes
from talent_factory.kits.catalog.choice import Wish
from talent_factory.kits.catalog.crew import read_kits
from talent_factory.kits.catalog.database import discard, open_database, refuse_busy, transaction
from talent_factory.kits.catalog.reading import Reading, tensors_digest
from talent_factory.kits.catalog.rows import forget, keep, known_kits
from talent_factory.kits.catalog.stamps import kit_stamp
from talent_factory.kits.catalog.words import Hit, find
from talent_factory.kits.index import DEFAULT_FOLDER, entry, kit_folders

T = TypeVar("T")

CATALOG_FILE = "kits.sqlite"
# So many kits are kept at a time: a stop in the middle of ten thousand loses no more than these.
_KEEP_EVERY = 256
_SHOW_FROM = 200


class Changes(NamedTuple):
    """What bringing the catalog up to date took: kits read, gone, and taken as they were.

    `altered` are kits that read otherwise although no stamp said so; only a look at all of them can tell.
    """

    read: int
    gone: int
    kept: int
    altered: tuple[str, ...] = ()


class Listed(NamedTuple):
    """One kit of a listing; `created` is an ISO time or "", `fault` the first error of an invalid one,

    `weights` the sha256 of the weights of a valid one.
    """

    id: str
    path: str
    valid: bool
    fault: str
    kind: str
    base: str
    token: str
    tags: tuple[str, ...]
    created: str
    rank: int
    weight: float
    size_mb: float
    weights: str


class Catalog:
    """Kits of one folder; use it as a context manager. One thread at a time may ask."""

    def __init__(self, base_dir: Path = DEFAULT_FOLDER, *, place: Path | None = None) -> None:
        """`place` is the SQLite file, by default the one of the folder's workspace; see `catalog_place`."""
        self.base_dir = base_dir
        self._place = place if place is not None else catalog_place(base_dir)
        self._database = open_database(self._place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def update(self, *, verify: bool = False, reporter: Reporter | None = None) -> Changes:
        """Read what is new or changed, forget what is gone; `verify` reads all, whatever the stamps say.

        Raises KitError when the folder is none. A damaged catalog is made anew on the way.
        """
        folders = kit_folders(self.base_dir)
        told = reporter or SilentReporter()
        return self._sure(lambda: self._update(folders, verify, told), refill=False)

    def entries(self, *, include_invalid: bool = False, wish: Wish | None = None) -> list[dict[str, Any]]:
        """Return the index entries in the order of the wish, by folder without one; see `index.entry`."""
        return [
            entry(name, self._path(name), valid=valid, fields=json.loads(fields))
            for name, valid, fields in self._entry_rows(include_invalid, wish or Wish())
        ]

    def index_text(self, *, include_invalid: bool = False) -> str:
        """Return `entries` as JSON on one line, in ASCII, without reading and writing each one anew."""
        parts = []
        for name, valid, fields in self._entry_rows(include_invalid, Wish()):
            head = json.dumps({"id": name, "path": self._path(name), "valid": valid})
            parts.append(f"{head[:-1]}, {fields[1:]}")
        return f"[{', '.join(parts)}]"

    def _entry_rows(self, include_invalid: bool, wish: Wish) -> list[tuple[str, bool, str]]:
        if not include_invalid:
            wish = wish.model_copy(update={"valid": True})
        clause, values = wish.where()
        query = (
            "SELECT folder, valid, fields FROM kits JOIN entries USING (number)"
            f" WHERE {clause} ORDER BY {wish.order()}"
        )
        rows = self._sure(lambda: self._database.execute(query, values).fetchall())
        return [(os.fsdecode(folder), bool(valid), fields) for folder, valid, fields in rows]

    def kits(self, wish: Wish | None = None) -> list[Listed]:
        """Return the kits that the wish lets through, invalid ones too unless it says otherwise."""
        wish = wish or Wish()
        clause, values = wish.where()
        return self._listed(f"WHERE {clause} ORDER BY {wish.order()}", values)

    def search(self, text: str, *, wish: Wish | None = None, limit: int = 20) -> list[Hit]:
        """Return the kits whose words fit `text` best; see `words.find`."""
        wanted = wish or Wish(valid=True)
        return self._sure(lambda: find(self._database, text, wish=wanted, limit=limit))

    def by_folder(self, names: Iterable[str]) -> dict[str, Listed]:
        """Return what is known of some kits."""
        wanted = [os.fsencode(name) for name in names]
        marks = ", ".join("?" * len(wanted))
        return {kit.id: kit for kit in self._listed(f"WHERE folder IN ({marks})", wanted)}

    def duplicates(self, *, reporter: Reporter | None = None) -> list[tuple[str, ...]]:
        """Return groups of kits whose tensors are equal byte for byte, whatever their headers say.

        Only tensors that agree in a sample are read whole, and their digests are kept.
        """
        return self._sure(lambda: self._duplicates(reporter or SilentReporter()))

    def _duplicates(self, reporter: Reporter) -> list[tuple[str, ...]]:
        rows = self._database.execute(
            "SELECT number, folder, stamp FROM kits WHERE tensors = '' AND sample IN"
            " (SELECT sample FROM kits WHERE sample != '' GROUP BY sample HAVING count(*) > 1)"
        ).fetchall()
        for done, (number, folder, stamp) in enumerate(rows, start=1):
            digest = tensors_digest(self.base_dir / os.fsdecode(folder))
            with transaction(self._database):
                # another process may have read a kit that changed meanwhile, or given the number to another
                self._database.execute(
                    "UPDATE kits SET tensors = ? WHERE number = ? AND folder = ? AND stamp = ?",
                    (digest, number, folder, stamp),
                )
            if len(rows) > _SHOW_FROM:
                reporter.progress("compare", done, len(rows), unit="kit")
        groups: dict[str, list[str]] = {}
        for folder, digest in self._database.execute(
            "SELECT folder, tensors FROM kits WHERE tensors != '' ORDER BY folder"
        ):
            groups.setdefault(digest, []).append(os.fsdecode(folder))
        return sorted(tuple(group) for group in groups.values() if len(group) > 1)

    def twins_of(self, name: str) -> tuple[str, ...]:
        """Return the other kits with the same tensors."""
        group = next((group for group in self.duplicates() if name in group), ())
        return tuple(other for other in group if other != name)

    @property
    def place(self) -> Path | None:
        """The file that the catalog is kept in, None for one in memory."""
        return self._place

    def connection(self) -> sqlite3.Connection:
        """The open database, for the vectors that are kept beside the words."""
        return self._database

    def _path(self, name: str) -> str:
        return (self.base_dir / name).as_posix()

    def _listed(self, tail: str, values: Sequence[object]) -> list[Listed]:
        query = (
            "SELECT folder, valid, fault, kind, base, token, tags, created, rank, weight, size_mb, weights"
            f" FROM kits {tail}"
        )
        rows = self._sure(lambda: self._database.execute(query, values).fetchall())
        found = []
        for folder, valid, fault, kind, base, token, tags, *numbers in rows:
            name = os.fsdecode(folder)
            words = tuple(tag for tag in tags.split("\n") if tag)
            found.append(
                Listed(name, self._path(name), bool(valid), fault, kind, base, token, words, *numbers)
            )
        return found

    def _sure(self, work: Callable[[], T], *, refill: bool = True) -> T:
        """Do the work; when the file turns out to be damaged, read all kits again and do it once more."""
        try:
            return work()
        except sqlite3.DatabaseError as error:
            refuse_busy(error, self._place)
            self._database.close()
            if self._place is not None and not discard(self._place):
                self._place = None
            self._database = open_database(self._place)
            if refill:
                self._update(kit_folders(self.base_dir), False, SilentReporter())
            return work()

    def _update(self, folders: list[Path], verify: bool, reporter: Reporter) -> Changes:
        known = known_kits(self._database)
        # the stamp is taken before the kit is read: a change in between shows the next time
        stamps = {folder.name: kit_stamp(folder) for folder in folders}
        same = {name for name, kit in known.items() if stamps.get(name, b"") == kit.stamp != b""}
        fresh = [folder for folder in folders if verify or folder.name not in same]
        gone = [(kit.number, name) for name, kit in known.items() if name not in stamps]
        if gone:
            with transaction(self._database):
                for number, name in gone:
                    forget(self._database, number, name)
        altered = tuple(name for name in self._take(fresh, stamps, reporter) if name in same)
        return Changes(len(fresh), len(gone), len(folders) - len(fresh), altered)

    def _take(self, fresh: list[Path], stamps: dict[str, bytes], reporter: Reporter) -> list[str]:
        """Read kits and keep them, some at a time; returns those of which something new is told."""
        told = []
        with contextlib.closing(read_kits(fresh)) as readings:
            for batch in _batches(readings):
                with transaction(self._database):
                    for _, folder, reading in batch:
                        if keep(self._database, folder.name, stamps[folder.name], reading):
                            told.append(folder.name)
                if len(fresh) > _SHOW_FROM:
                    reporter.progress("read kits", batch[-1][0], len(fresh), unit="kit")
        return told


def _batches(readings: Iterator[tuple[Path, Reading]]) -> Iterator[list[tuple[int, Path, Reading]]]:
    batch = []
    for done, (folder, reading) in enumerate(readings, start=1):
        batch.append((done, folder, reading))
        if len(batch) == _KEEP_EVERY:
            yield batch
            batch = []
    if batch:
        yield batch


def catalog_place(base_dir: Path, *, cache: Path | None = None) -> Path | None:
    """Return the catalog's file for the kits of a workspace, else a file of their own in `cache`.

    None without a cache: of a folder that belongs to no workspace nothing is written down beside it.
    """
    folder = base_dir.resolve()
    if folder.parts[-2:] == DEFAULT_FOLDER.parts:
        return folder.parents[1] / "cache" / CATALOG_FILE
    if cache is None:
        return None
    return cache / f"kits-{sha256_bytes(os.fsencode(folder))[:12]}.sqlite"


def index_kits(
    base_dir: Path = DEFAULT_FOLDER,
    include_invalid: bool = False,
    *,
    verify: bool = False,
    reporter: Reporter | None = None,
) -> list[dict[str, Any]]:
    """Return one entry a kit, sorted by folder; invalid kits only when asked for, with `valid` false.

    An entry has id, path, valid and the manifest's fields of index.FIELDS, None where the manifest has none.
    Kits whose files did not change since the last time are not read again, unless `verify`.
    Raises KitError when `base_dir` is no folder.
    """
    with Catalog(base_dir) as catalog:
        catalog.update(verify=verify, reporter=reporter)
        return catalog.entries(include_invalid=include_invalid)
