"""The ledger of paid work: what was asked for, what it may cost, and where each image is, safe on the disk.

One row is one attempt at one image. Its states, each written down before the next thing happens:

    planned -> intent [-> unknown] -> submitted -> fetched -> done

planned: surely not accepted, to be asked again. unknown: the answer to the submission was lost; it is looked
for by its seed. absent: looked for and never made, so nothing is paid. failed: the provider gave it up. lost:
paid perhaps, and out of reach; forgone: let go of.

SQLite in WAL mode with synchronous=FULL: what a call has returned from survives a kill and a power cut. The
database itself forbids two living attempts at one image, two jobs of one id and two attempts of one seed.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from talent_factory.core.errors import DiskFull, FileError, PolicyRefused
from talent_factory.core.files import fsync_folder
from talent_factory.core.records import Record

LEDGER_FILE = "ledger.sqlite"

State = (
    Literal["planned", "intent", "unknown", "submitted", "fetched"]
    | Literal["done", "absent", "failed", "lost", "forgone"]
)
LIVE = ("planned", "intent", "unknown", "submitted", "fetched")
RESERVED = ("intent", "unknown", "submitted", "fetched")

_VERSION = 1
_BUSY_S = 30.0
_SCHEMA = f"""
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    slot TEXT NOT NULL,
    provider TEXT NOT NULL,
    remote INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    rung INTEGER NOT NULL,
    run INTEGER NOT NULL,
    state TEXT NOT NULL,
    job TEXT NOT NULL DEFAULT '',
    intent_at REAL NOT NULL,
    price INTEGER NOT NULL,
    cost INTEGER NOT NULL DEFAULT 0,
    code TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '',
    flagged INTEGER NOT NULL DEFAULT 0,
    transient INTEGER NOT NULL DEFAULT 0,
    payload TEXT NOT NULL DEFAULT '{{}}',
    image BLOB
);
CREATE INDEX attempts_key ON attempts (key);
CREATE UNIQUE INDEX one_life ON attempts (key) WHERE state IN {LIVE};
CREATE UNIQUE INDEX one_seed ON attempts (provider, seed) WHERE remote = 1;
CREATE UNIQUE INDEX one_job ON attempts (provider, job) WHERE remote = 1 AND job <> '';
PRAGMA user_version = {_VERSION};
"""
_COLUMNS = (
    "id, key, slot, provider, seed, rung, run, state, job, intent_at, price, cost, code, message, flagged, "
    "transient, payload"
)


class Attempt(Record):
    """One row without its image. `intent_at` is seconds since 1970; `price` (reserved while it lives) and
    `cost` (settled) are millionths of a dollar; `rung` is the step of the ladder for flagged images.
    """

    id: int
    key: str
    slot: str
    provider: str
    seed: int
    rung: int
    run: int
    state: State
    job: str
    intent_at: float
    price: int
    cost: int
    code: str
    message: str
    flagged: bool
    transient: bool
    payload: str

    @property
    def sent(self) -> dict[str, object]:
        """What was sent, pictures as digests."""
        payload: dict[str, object] = json.loads(self.payload)
        return payload


class Taken(Exception):
    """A job of this id belongs to another attempt already."""


class Ledger:
    """The attempts of one folder; safe for many threads of the one process that holds the folder's lock.

    With path None it lives in memory: for providers whose work is free and dies with the process.
    """

    def __init__(self, path: Path | None, *, provider: str, remote: bool, max_seed: int = 2**31 - 1) -> None:
        """Raises FileError when the file is no ledger or one of another version, DiskFull."""
        self._path, self._provider, self._remote, self._max_seed = path, provider, remote, max_seed
        self._lock = threading.RLock()
        with self._mapped():
            self._base = sqlite3.connect(
                path or ":memory:", timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._base.row_factory = sqlite3.Row
            try:
                self._prepare()
            except BaseException:
                self._base.close()
                raise
        row = self._one("SELECT coalesce(max(run), 0) AS run FROM attempts")
        self.run = int(row["run"]) + 1

    def close(self) -> None:
        """Close the file; further calls raise."""
        with self._lock:
            self._base.close()

    def attempts(self, key: str) -> tuple[Attempt, ...]:
        """All attempts at one image, oldest first."""
        return self._attempts("WHERE key = ? ORDER BY id", key)

    def live(self, key: str) -> Attempt | None:
        """The attempt at this image that is under way, or None."""
        found = self._attempts(f"WHERE key = ? AND state IN {LIVE}", key)
        return found[0] if found else None

    def all_live(self) -> tuple[Attempt, ...]:
        """All attempts under way, oldest first."""
        return self._attempts(f"WHERE state IN {LIVE} ORDER BY id")

    def everything(self) -> tuple[Attempt, ...]:
        """All attempts ever made, oldest first."""
        return self._attempts("ORDER BY id")

    def spent(self) -> int:
        """Money that is gone or may be gone, in millionths of a dollar: settled and reserved."""
        row = self._one(
            f"SELECT coalesce(sum(CASE WHEN state IN {RESERVED} THEN price ELSE cost END), 0) AS total "
            "FROM attempts"
        )
        return int(row["total"])

    def intend(
        self, *, key: str, slot: str, seed: int | None, rung: int, price_usd: float, budget_usd: float | None
    ) -> Attempt:
        """Write down the intent to ask for an image and reserve its price; `seed` None draws a fresh one.

        Raises PolicyRefused when the budget does not hold the price.
        """
        price = micro(price_usd)
        with self._change() as base:
            self._reserve(price, budget_usd)
            for _ in range(100):
                drawn = 1 + secrets.randbelow(self._max_seed) if seed is None else seed
                values = (key, slot, self._provider, self._remote, drawn, rung, self.run, time.time(), price)
                try:
                    cursor = base.execute(
                        "INSERT INTO attempts"
                        " (key, slot, provider, remote, seed, rung, run, intent_at, price, state)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'intent')",
                        values,
                    )
                    break
                except sqlite3.IntegrityError as error:
                    if seed is not None or "seed" not in str(error):
                        raise
            else:
                raise FileError(f"{self._path}: no free seed is left", remedy="cast into a new folder")
            return self._get(int(cursor.lastrowid or 0))

    def renew(self, attempt: Attempt, *, budget_usd: float | None) -> Attempt:
        """Intend again what was surely not accepted. Raises PolicyRefused when the budget is used up."""
        with self._change():
            self._reserve(attempt.price, budget_usd)
            return self._move(attempt, "intent", intent_at=time.time(), run=self.run)

    def sending(self, attempt: Attempt, payload: Mapping[str, object]) -> Attempt:
        """Keep what is about to be sent."""
        return self._move(attempt, "intent", payload=json.dumps(payload, sort_keys=True, default=str))

    def release(self, attempt: Attempt) -> Attempt:
        """It was surely not accepted and may be asked again with the same seed; nothing is reserved."""
        return self._move(attempt, "planned")

    def unknown(self, attempt: Attempt, message: str) -> Attempt:
        """Nobody knows whether it was accepted."""
        return self._move(attempt, "unknown", message=_line(message))

    def submitted(self, attempt: Attempt, job: str) -> Attempt:
        """The provider calls it `job`. Raises Taken when another attempt owns that job."""
        try:
            return self._move(attempt, "submitted", job=job, message="")
        except sqlite3.IntegrityError:
            raise Taken(job) from None

    def fetched(self, attempt: Attempt, image: bytes) -> Attempt:
        """The bytes are here; they stay in the ledger until the finished image lies on the disk."""
        return self._move(attempt, "fetched", image=image)

    def image(self, attempt: Attempt) -> bytes | None:
        """The bytes of a fetched attempt."""
        row = self._one("SELECT image FROM attempts WHERE id = ?", attempt.id)
        return bytes(row["image"]) if row["image"] is not None else None

    def reopen(self, attempt: Attempt) -> Attempt:
        """Fetch again: the image is gone from the disk, or its bytes were damaged."""
        return self._move(attempt, "submitted", image=None, cost=0)

    def done(self, attempt: Attempt) -> Attempt:
        """The finished image lies on the disk; its price is spent."""
        return self._move(attempt, "done", image=None, cost=attempt.price, message="")

    def failed(
        self,
        attempt: Attempt,
        *,
        message: str,
        code: str = "",
        flagged: bool = False,
        transient: bool = False,
        billed: bool | None = None,
    ) -> Attempt:
        """It gave no image. Where nobody says whether it was billed, it counts as billed."""
        return self._move(
            attempt,
            "failed",
            image=None,
            cost=0 if billed is False else attempt.price,
            code=code[:60],
            message=_line(message),
            flagged=flagged,
            transient=transient,
        )

    def absent(self, attempt: Attempt) -> Attempt:
        """It was looked for and never came into being."""
        return self._move(attempt, "absent")

    def lost(self, attempt: Attempt, message: str) -> Attempt:
        """It may be paid, and nobody can get it any more; its price counts as spent."""
        return self._move(attempt, "lost", image=None, cost=attempt.price, message=_line(message))

    def forgo(self) -> None:
        """Let go of everything lost or flagged so far: it may be paid for again. The costs stay counted."""
        with self._change() as base:
            base.execute("UPDATE attempts SET state = 'forgone' WHERE state = 'lost' OR flagged = 1")

    def let_go(self, key: str) -> None:
        """Stop waiting for whatever is under way or lost for this image; its price stays counted."""
        with self._change() as base:
            base.execute(
                f"UPDATE attempts SET state = 'forgone', cost = price, image = NULL WHERE key = ? "
                f"AND state IN {(*RESERVED, 'lost')}",
                (key,),
            )

    def _prepare(self) -> None:
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = FULL")
        # read through a shared lock on the first write only; one process holds the folder anyway
        version = int(self._base.execute("PRAGMA user_version").fetchone()[0])
        if version == 0:
            # an empty file is what a kill during the very first write leaves
            self._base.executescript("BEGIN IMMEDIATE;" + _SCHEMA + "COMMIT;")
            if self._path is not None:
                fsync_folder(self._path.parent)
        elif version != _VERSION:
            raise FileError(
                f"{self._path} is a ledger of version {version}, this program reads {_VERSION}",
                remedy="use the version of the program that wrote it, or cast into a new folder",
            )

    def _reserve(self, price: int, budget_usd: float | None) -> None:
        if budget_usd is None or price == 0:
            return
        spent = self.spent()
        if spent + price > micro(budget_usd):
            raise PolicyRefused(
                f"the budget of ${budget_usd:.2f} does not hold another image: ${spent / 1e6:.2f} are spent "
                f"or reserved and one costs ${price / 1e6:.3f}",
                remedy="run the same command again with a larger --budget",
            )

    def _move(self, attempt: Attempt, to: State, **values: object) -> Attempt:
        """Write the next state, only from the state that the caller knew."""
        names = ", ".join(f"{name} = ?" for name in values)
        with self._change() as base:
            cursor = base.execute(
                f"UPDATE attempts SET state = ?{', ' + names if names else ''} WHERE id = ? AND state = ?",
                (to, *values.values(), attempt.id, attempt.state),
            )
            if cursor.rowcount != 1:
                raise RuntimeError(f"attempt {attempt.id} is no longer {attempt.state}")
            return self._get(attempt.id)

    def _get(self, number: int) -> Attempt:
        return _attempt(self._one(f"SELECT {_COLUMNS} FROM attempts WHERE id = ?", number))

    def _attempts(self, where: str, *values: object) -> tuple[Attempt, ...]:
        with self._lock, self._mapped():
            rows = self._base.execute(f"SELECT {_COLUMNS} FROM attempts {where}", values).fetchall()
        return tuple(_attempt(row) for row in rows)

    def _one(self, query: str, *values: object) -> sqlite3.Row:
        with self._lock, self._mapped():
            row: sqlite3.Row = self._base.execute(query, values).fetchone()
        return row

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk when it ends; nested ones join the outer one."""
        with self._lock, self._mapped():
            if self._base.in_transaction:
                yield self._base
                return
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise _said(error, self._path) from error


def micro(dollars: float) -> int:
    """Millionths of a dollar: sums of prices stay exact."""
    return round(dollars * 1e6)


def _attempt(row: sqlite3.Row) -> Attempt:
    return Attempt.model_validate(dict(row))


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def _said(error: sqlite3.DatabaseError, path: Path | None) -> Exception:
    """The error of ours that says what one of the database means."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DiskFull(
            f"no room to write {path}: {error}",
            remedy="free some space, then run the same command again: what is paid is collected first",
        )
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return FileError(
            f"{path} is damaged ({error}): it alone knows which images are paid and under way",
            remedy="restore it from a backup, or cast into a new folder",
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY):
        return FileError(f"{path} cannot be written ({error})", remedy="check the folder's rights")
    return error
