"""What became of each thing that was offered, and what the user wished."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from talent_factory.core.records import Record
from talent_factory.kits.intake.facts import Reason, Wishes

Status = Literal["imported", "known", "refused"]


class Taken(Record):
    """One archive, kit folder or LoRA file and what became of it.

    `code` is one of `kits.findings.CODES` when it was refused; `reasons` tell what was inferred and why,
    `changes` what was done to the tensors (empty: they are the file's own, bit for bit).
    """

    source: str
    status: Status
    id: str = ""
    path: str = ""
    form: str = ""
    base: str = ""
    rank: int | None = None
    alpha: float | None = None
    reasons: tuple[Reason, ...] = ()
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    code: str = ""
    message: str = ""
    remedy: str = ""


class Order(Record):
    """Where kits go and what the user said about them; `dry_run` looks at everything and writes nothing."""

    root: Path
    id: str | None = None
    base: str | None = None
    wishes: Wishes = Wishes()
    replace: bool = False
    dry_run: bool = False
