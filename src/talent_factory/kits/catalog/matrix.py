"""All vectors of one kind as one matrix: mapped from a file beside the catalog, made from it when it changed.

Reading fifty thousand rows out of SQLite takes a fifth of a second, mapping a file that holds them nothing.
The file is no one's truth: its name says of which catalog and of which of its states it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import TalentError
from talent_factory.core.files import atomic_path
from talent_factory.kits.catalog.encoder import Vectors

# Fewer rows than this are read out of the catalog before a file is found.
WORTH_A_FILE = 2000


class Matrix(NamedTuple):
    """Rows of one kind, in the order of kit numbers: where each kit's rows begin, and all rows."""

    numbers: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: Vectors

    def best(self, question: Vectors) -> NDArray[np.float32]:
        """The largest cosine of each kit's rows with the question: (kits,)."""
        if not len(self.numbers):
            return np.zeros(0, np.float32)
        return np.asarray(np.maximum.reduceat(self.rows @ question, self.starts), np.float32)


def load_matrix(database: sqlite3.Connection, place: Path | None, *, encoder: str, kind: str) -> Matrix:
    """The vectors of `kind` that `encoder` made, as the catalog in the file `place` holds them now."""
    file = None if place is None else _file(database, place, encoder=encoder, kind=kind)
    table = None if file is None else _mapped(file)
    if table is None:
        table = _read(database, encoder=encoder, kind=kind)
        if file is not None and len(table) >= WORTH_A_FILE:
            _keep(file, table)
    every = table["number"]
    # they are in order already: a kit begins where its number does
    starts = np.flatnonzero(np.diff(every, prepend=every[:1] - 1))
    return Matrix(np.asarray(every[starts], np.int64), starts, table["row"])


def _file(database: sqlite3.Connection, place: Path, *, encoder: str, kind: str) -> Path:
    facts = dict(database.execute("SELECT name, value FROM facts WHERE name IN ('born', 'vectors')"))
    whose = hashlib.sha256(encoder.encode()).hexdigest()[:12]
    return place.with_name(f"{place.name}-{kind}-{whose}-{facts['born']}-{facts['vectors']}.npy")


def _mapped(file: Path) -> NDArray[np.void] | None:
    try:
        table: NDArray[np.void] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return table if table.dtype.names == ("number", "row") and table.ndim == 1 else None


def _read(database: sqlite3.Connection, *, encoder: str, kind: str) -> NDArray[np.void]:
    found = database.execute(
        "SELECT number, vector FROM vectors WHERE encoder = ? AND source LIKE ? ORDER BY number",
        (encoder, f"{kind}:%"),
    ).fetchall()
    width = len(found[0][1]) // 4 if found else 1
    table = np.zeros(len(found), np.dtype([("number", "<i8"), ("row", "<f4", (width,))]))
    table["number"] = [number for number, _ in found]
    table["row"] = np.frombuffer(b"".join(vector for _, vector in found), "<f4").reshape(-1, width)
    return table


def _keep(file: Path, table: NDArray[np.void]) -> None:
    """Write it for the next search, and drop those of states that are gone; without room there is none."""
    with contextlib.suppress(OSError, TalentError):
        with atomic_path(file) as temporary, open(temporary, "wb") as stream:
            np.save(stream, table, allow_pickle=False)
        alike = file.name.rsplit("-", 2)[0]
        for old in file.parent.glob(f"{alike}-*.npy"):
            if old != file:
                old.unlink(missing_ok=True)
