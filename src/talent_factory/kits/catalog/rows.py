"""How a reading is written into the catalog's tables, replaced and forgotten."""

from __future__ import annotations

import os
import sqlite3
from typing import NamedTuple

from talent_factory.kits.catalog.reading import Reading

_FACTS = (
    "valid, fault, kind, base, base_revision, token, tags, created, rank, weight, size_mb, sample, weights"
)
_MARKS = ", ".join("?" * len(_FACTS.split(",")))


class Known(NamedTuple):
    """A kit that the catalog knows: its row, and the stamp it had before it was read."""

    number: int
    stamp: bytes


def known_kits(database: sqlite3.Connection) -> dict[str, Known]:
    """Return all kits by the names of their folders."""
    rows = database.execute("SELECT folder, number, stamp FROM kits")
    return {os.fsdecode(folder): Known(number, stamp) for folder, number, stamp in rows}


def keep(database: sqlite3.Connection, name: str, stamp: bytes, reading: Reading) -> bool:
    """Write or replace one kit; returns whether what is told of it changed (a new kit did)."""
    folder, facts = os.fsencode(name), _facts(reading)
    row = database.execute(
        f"SELECT number, fields, {_FACTS} FROM kits JOIN entries USING (number) WHERE folder = ?", (folder,)
    ).fetchone()
    if row is not None and row[1:] == (reading.fields, *facts):
        database.execute("UPDATE kits SET stamp = ? WHERE number = ?", (stamp, row[0]))
        _write_words(database, row[0], reading)
        return False
    number = row[0] if row is not None else None
    # the same number as before: the vectors of pictures that stayed the same stay, too
    number = database.execute(
        f"INSERT OR REPLACE INTO kits (number, folder, stamp, {_FACTS}, tensors)"
        f" VALUES (?, ?, ?, {_MARKS}, '')",
        (number, folder, stamp, *facts),
    ).lastrowid
    database.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (number, reading.fields))
    _write_words(database, number, reading)
    return True


def forget(database: sqlite3.Connection, number: int, name: str) -> None:
    """Remove the kit `name` with its words and vectors, unless its number went to another meanwhile."""
    found = database.execute(
        "DELETE FROM kits WHERE number = ? AND folder = ?", (number, os.fsencode(name))
    ).rowcount
    if not found:
        return
    database.execute("DELETE FROM entries WHERE number = ?", (number,))
    database.execute("DELETE FROM words WHERE rowid = ?", (number,))
    database.execute("DELETE FROM vectors WHERE number = ?", (number,))


def _write_words(database: sqlite3.Connection, number: int | None, reading: Reading) -> None:
    words = reading.words.model_dump()
    database.execute("DELETE FROM words WHERE rowid = ?", (number,))
    database.execute(
        f"INSERT INTO words (rowid, {', '.join(words)}) VALUES (?{', ?' * len(words)})",
        (number, *words.values()),
    )


def _facts(reading: Reading) -> tuple[object, ...]:
    return (
        int(reading.valid),
        reading.fault,
        reading.kind,
        reading.base,
        reading.base_revision,
        reading.token,
        # a newline around each, so that one tag can be looked for
        "".join(f"\n{tag}" for tag in reading.tags) + "\n" if reading.tags else "",
        reading.created,
        reading.rank,
        reading.weight,
        reading.size_mb,
        reading.sample,
        reading.weights,
    )
