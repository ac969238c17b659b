"""Stages that remember: each runs once for the same inputs, in real life or as a line of a plan.

A stage is done when its record holds the key of its inputs and every output still has the bytes that were
written then. So a killed run goes on where it stopped, an edited input redoes just what depends on it, and a
removed or damaged output is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from talent_factory.core.errors import Cancelled, FileError
from talent_factory.core.events import Reporter
from talent_factory.core.files import json_text, sha256_bytes, sha256_file, sha256_tree
from talent_factory.core.plan import Plan, PlanStep, duration
from talent_factory.core.records import Record, read_record, write_record
from talent_factory.core.stop import StopSignal

Known: TypeAlias = str | int | float | bool | Sequence["Known"] | Mapping[str, "Known"] | None


class StageRecord(Record):
    """What one finished stage was made from and what it left; digests are sha256, times seconds of work."""

    name: str
    key: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    seconds: float


class StageOutcome(Record):
    """One line of a run's result; `seconds` is the work it took when it really ran."""

    name: str
    state: Literal["made", "kept", "todo"]
    seconds: float = 0.0
    because: str = ""


class Cost(Record):
    """What a stage is expected to take: seconds on two cores, MB of memory (peak) and of disk, US dollars."""

    seconds: float
    memory_mb: float
    disk_mb: float = 0.0
    cost_usd: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One stage: `inputs` by name (values or files), the `outputs` it writes, and how.

    `make` must be safe to repeat after a kill at any moment: write atomically, or go on from what is there.
    `version` is raised whenever the code would write other bytes from the same inputs.
    """

    name: str
    detail: str
    inputs: Mapping[str, Known | Path]
    outputs: tuple[Path, ...]
    make: Callable[[], None]
    cost: Cost
    version: int = 1


@dataclass
class StageBook:
    """Does stages in order and remembers them in `folder`; with `plan_only` it only looks and writes nothing.

    `root` is the workspace: outputs are recorded relative to it, so that it may be moved.
    """

    root: Path
    folder: Path
    reporter: Reporter
    stop: StopSignal = field(default_factory=StopSignal)
    plan_only: bool = False
    label: str = ""
    """Put before the stage names that people see, when one run does the stages of several talents."""
    outcomes: list[StageOutcome] = field(default_factory=list)
    steps: list[PlanStep] = field(default_factory=list)
    _unsure: set[Path] = field(default_factory=set)
    """Outputs that a plan would make anew: their bytes cannot be known yet."""

    def chapter(self, folder: Path, *, label: str = "") -> StageBook:
        """A book with records of its own in `folder` whose outcomes are listed in this one."""
        return replace(self, folder=folder, label=label)

    def do(self, stage: Stage) -> None:
        """Do the stage unless it is done; raises what its `make` raises, and Cancelled when asked to stop."""
        record = self._recorded(stage.name)
        inputs = {name: self._digest(value) for name, value in stage.inputs.items()}
        key = sha256_bytes(json_text([stage.name, stage.version, inputs]).encode())
        reason = self._why(stage, record, key, inputs)
        if record is not None and not reason:
            self._note(stage, "kept", seconds=record.seconds)
            return
        if self.plan_only:
            self._unsure.update(stage.outputs)
            self._note(stage, "todo", because=reason)
            return
        if self.stop.requested:
            raise Cancelled(
                f"stopped before {self._shown(stage)}", remedy="run the same command again to go on"
            )
        self._make(stage, key, inputs, reason)

    def _make(self, stage: Stage, key: str, inputs: dict[str, str], reason: str) -> None:
        self.reporter.event("stage_started", stage=self._shown(stage), because=reason)
        started = time.monotonic()
        stage.make()
        seconds = round(time.monotonic() - started, 2)
        missing = [str(path) for path in stage.outputs if not path.exists()]
        if missing:
            raise FileError(
                f"stage {stage.name} left no {', '.join(missing)}", remedy="run the same command again"
            )
        outputs = {self._name(path): fingerprint(path) for path in stage.outputs}
        record = StageRecord(name=stage.name, key=key, inputs=inputs, outputs=outputs, seconds=seconds)
        write_record(self._path(stage.name), record)
        self._note(stage, "made", seconds=seconds, because=reason)
        self.reporter.event("stage_done", stage=self._shown(stage), seconds=seconds)
        self.reporter.message(f"{self._shown(stage):<16} {stage.detail} ({duration(seconds)})")

    def _note(
        self, stage: Stage, state: Literal["made", "kept", "todo"], *, seconds: float = 0.0, because: str = ""
    ) -> None:
        name = self._shown(stage)
        self.outcomes.append(StageOutcome(name=name, state=state, seconds=seconds, because=because))
        self.steps.append(
            PlanStep(
                name=name,
                detail=stage.detail,
                state="todo" if state == "todo" else "done",
                **stage.cost.model_dump(),
            )
        )

    def _shown(self, stage: Stage) -> str:
        return f"{self.label} {stage.name}".strip()

    @property
    def made(self) -> tuple[str, ...]:
        """Names of the stages that really ran."""
        return tuple(outcome.name for outcome in self.outcomes if outcome.state == "made")

    def plan(self, title: str) -> Plan:
        """What was seen so far, as a plan."""
        return Plan(title=title, steps=tuple(self.steps))

    def _why(self, stage: Stage, record: StageRecord | None, key: str, inputs: dict[str, str]) -> str:
        """Why the stage has to run; empty when it has not."""
        if record is None:
            return "not done yet"
        if record.key != key:
            changed = sorted(name for name in inputs if record.inputs.get(name) != inputs[name])
            return f"changed: {', '.join(changed)}" if changed else "the stage itself changed"
        for path in stage.outputs:
            if not path.exists():
                return f"{path.name} is missing"
            if record.outputs.get(self._name(path)) != fingerprint(path):
                return f"{path.name} was changed"
        return ""

    def _digest(self, value: Known | Path) -> str:
        if not isinstance(value, Path):
            return sha256_bytes(json_text(value).encode())
        if not self._unsure.isdisjoint((value, *value.parents)) or not value.exists():
            return "not made yet"  # no finished stage can have recorded this
        return fingerprint(value)

    def _recorded(self, name: str) -> StageRecord | None:
        try:
            return read_record(self._path(name), StageRecord)
        except FileError:
            return None  # missing, or of another version: the stage simply runs again

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


def fingerprint(path: Path) -> str:
    """The sha256 of a file, or of a folder's names and contents; locks do not count."""
    return sha256_tree(path, exclude=(".lock",)) if path.is_dir() else sha256_file(path)
