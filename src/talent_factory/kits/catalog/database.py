"""The catalog's SQLite file: its tables, and what happens when it is damaged or cannot be written."""

from __future__ import annotations

import contextlib
import glob
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from talent_factory.core.errors import WorkspaceBusy
from talent_factory.kits.catalog.stamps import rules_stamp

# Counts up with every change of the tables below.
FORM = 2
_WAIT_S = 30.0
# The fact `vectors` counts their changes, so that what was made of them tells whether it is of today; `born`
# tells this file from one that was thrown away. A row that is replaced is inserted.
_COUNTERS = tuple(
    f"CREATE TRIGGER vectors_{event.lower()} AFTER {event} ON vectors"
    " BEGIN UPDATE facts SET value = value + 1 WHERE name = 'vectors'; END"
    for event in ("INSERT", "UPDATE", "DELETE")
)
_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE kits (
    number INTEGER PRIMARY KEY,
    folder BLOB NOT NULL UNIQUE,
    stamp BLOB NOT NULL,
    valid INTEGER NOT NULL,
    fault TEXT NOT NULL,
    kind TEXT NOT NULL,
    base TEXT NOT NULL,
    base_revision TEXT NOT NULL,
    token TEXT NOT NULL,
    tags TEXT NOT NULL,
    created TEXT NOT NULL,
    rank INTEGER NOT NULL,
    weight REAL NOT NULL,
    size_mb REAL NOT NULL,
    sample TEXT NOT NULL,
    weights TEXT NOT NULL,
    tensors TEXT NOT NULL
);
CREATE TABLE entries (number INTEGER PRIMARY KEY, fields TEXT NOT NULL);
CREATE INDEX kits_sample ON kits (sample);
CREATE VIRTUAL TABLE words USING fts5 (
    name, token, tags, description, author, captions, prompts,
    tokenize = "unicode61 remove_diacritics 2", prefix = '2 3 4'
);
CREATE VIRTUAL TABLE vocabulary USING fts5vocab (words, row);
CREATE TABLE vectors (
    number INTEGER NOT NULL,
    encoder TEXT NOT NULL,
    source TEXT NOT NULL,
    digest TEXT NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (number, encoder, source)
) WITHOUT ROWID;
"""


def open_database(place: Path | None) -> sqlite3.Connection:
    """Return a connection to the catalog in the file `place`; in memory without one.

    A file that is damaged, of another form or judged by other rules is made anew: all that it holds can be
    read again. Where no file can be written the catalog lives in memory, too.
    """
    if place is None:
        return _fresh(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))
    for _ in range(2):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            return _open(place)
        except (sqlite3.DatabaseError, OSError) as error:
            refuse_busy(error, place)
            # a second try: what cannot be read is thrown away, it is no one's truth
            if not discard(place):
                break
    return _fresh(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))


def refuse_busy(error: Exception, place: Path | None) -> None:
    """Raise WorkspaceBusy when `error` only means that another process writes: nothing is damaged then."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise WorkspaceBusy(f"{place} is being written by another process", remedy="try again soon") from None


def discard(place: Path) -> bool:
    """Remove a catalog, what SQLite keeps beside it and what was made of it; returns whether it is gone."""
    try:
        for suffix in ("", "-wal", "-shm", "-journal"):
            place.with_name(place.name + suffix).unlink(missing_ok=True)
        for path in place.parent.glob(f"{glob.escape(place.name)}-*.npy"):
            path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _open(place: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(place, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        with transaction(connection):
            if not _current(connection):
                _clear(connection)
                _fresh(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _current(connection: sqlite3.Connection) -> bool:
    if connection.execute("PRAGMA user_version").fetchone()[0] != FORM:
        return False
    rows = dict(connection.execute("SELECT name, value FROM facts"))
    return rows.get("rules") == rules_stamp()


def _clear(connection: sqlite3.Connection) -> None:
    """Drop all tables; those that belong to a virtual one go with it, and triggers with theirs."""
    names = connection.execute(
        "SELECT name, sql LIKE 'CREATE VIRTUAL%' AS virtual FROM sqlite_master WHERE type = 'table'"
        " AND name NOT LIKE 'sqlite%' ORDER BY virtual DESC, name = 'vocabulary' DESC"
    ).fetchall()
    for name, virtual in names:
        if virtual or connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone():
            connection.execute('DROP TABLE "{}"'.format(name.replace('"', '""')))


def _fresh(connection: sqlite3.Connection) -> sqlite3.Connection:
    for statement in _TABLES.split(";"):
        if statement.strip():
            connection.execute(statement)
    for trigger in _COUNTERS:
        connection.execute(trigger)
    connection.execute("INSERT INTO facts VALUES ('born', lower(hex(randomblob(8)))), ('vectors', '0')")
    connection.execute(f"PRAGMA user_version = {FORM}")
    connection.execute("INSERT INTO facts VALUES ('rules', ?)", (rules_stamp(),))
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Either all changes in the block happen or none; another process that writes is waited for."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
