"""What is said about one LoRA file: a verdict for each program that may read it."""

from __future__ import annotations

from typing import Literal

from talent_factory.core.records import Record

Verdict = Literal["full", "partial", "wrong", "refused", "foreign"]

# Each verdict with what it means, for people.
VERDICTS: dict[Verdict, str] = {
    "full": "every tensor takes effect as it was trained",
    "partial": "it loads, and some tensors have no effect",
    "wrong": "it loads and computes something else than was trained",
    "refused": "the program does not load it",
    "foreign": "the program has no base of this shape",
}


class ToolReport(Record):
    """How one program reads the file."""

    tool: str
    verdict: Verdict
    matched: int = 0
    """Modules of the program's model that take their weights from the file."""
    unmatched: int = 0
    """Tensors without effect."""
    unmatched_names: tuple[str, ...] = ()
    """The first few of them."""
    taken_for: str = ""
    """The generation of base that the program believes the file to be for."""
    called: str = ""
    """How a prompt or a node names it there."""
    remarks: tuple[str, ...] = ()
    method: str = "key rules"
    """"key rules", or which library really loaded it."""
    difference: float | None = None
    """Largest difference between its factors of a module and ours, relative to ours; None: not loaded."""
    forward_difference: float | None = None
    """Largest difference of the adapted model's outputs from ours, relative to what the LoRA changes."""


class ConformReport(Record):
    """All verdicts on one file."""

    version: Literal[1] = 1
    file: str
    base: str
    modules: int
    tensors: int
    tools: tuple[ToolReport, ...]

    @property
    def good(self) -> bool:
        """Whether every program that has such a base reads the file fully."""
        return all(tool.verdict in ("full", "foreign") for tool in self.tools)
