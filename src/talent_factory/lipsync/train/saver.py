"""Keep a run on disk and find it again: state, actor and log belong together and move forward together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from talent_factory.core.errors import ResumeRefused
from talent_factory.core.events import Reporter
from talent_factory.lipsync.actor import ActorCard, save_actor
from talent_factory.lipsync.train.engine import Engine
from talent_factory.lipsync.train.folders import (
    RECORD,
    Keep,
    Origin,
    State,
    StateRecord,
    newest_state,
    read_state,
    write_checkpoint,
)
from talent_factory.lipsync.train.networks import weights_file
from talent_factory.training.guards import require_finite
from talent_factory.training.runs import LossLog

LOG = "metrics.jsonl"
_PARTIAL = "partial"


@dataclass(frozen=True)
class Place:
    """Where a run stands: `samples` of the step number `step` (0-based) are in the gradients."""

    step: int = 0
    samples: int = 0


class Saver:
    """The newest checkpoint of a run, and the log that belongs to it; only the first process writes."""

    def __init__(
        self,
        engine: Engine,
        run: Path,
        *,
        origin: Origin,
        card: ActorCard,
        keep: Keep,
        machine: Mapping[str, Any],
    ) -> None:
        self._engine, self._run, self._origin, self._card = engine, run, origin, card
        self._keep, self._machine = keep, dict(machine)
        self._began = time.monotonic()
        self._seconds = 0.0
        self.log: LossLog | None = None

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes."""
        return self._engine.pace.rank == 0

    def begin(self, state: State | None, *, reporter: Reporter) -> Place:
        """Go on from a state, or begin at step 0; opens the log at the length that fits.

        Raises ResumeRefused when the state belongs to another config, dataset, extractor or codec.
        """
        place, log_bytes = Place(), 0
        if state is not None:
            self._check(state)
            place = self._restore(state, reporter)
            record = state.record
            self._seconds = record.seconds
            # a state of another run brings its numbers, but not its log
            log_bytes = record.log_bytes if state.folder.parent.resolve() == self._run.resolve() else 0
            for broken in state.skipped:
                reporter.message(f"passed over a broken checkpoint: {broken}")
            where = f"step {place.step}" + (f" and {place.samples} samples" if place.samples else "")
            reporter.message(f"going on from {where}")
            if record.machine != self._machine:
                reporter.message("the checkpoint is of another machine: the last bits may differ")
        if self.writes:
            self._run.mkdir(parents=True, exist_ok=True)
            self.log = LossLog(self._run / LOG, size=log_bytes)
        return place

    def save(self, place: Place) -> Path | None:
        """Write the state at `place`; all processes have to call it, the first one writes.

        Raises TrainingDiverged when weights are no finite numbers: a broken state must replace no good one.
        """
        engine = self._engine
        tensors = engine.state()
        if place.samples:
            tensors |= self._partial()
        require_finite({f"{n}": p.data for n, p in enumerate(engine.painter.parameters)}, newest="")
        if not self.writes:
            return None
        options: dict[str, Any] = {}
        for player in engine.players:
            own, options[player.name] = player.state()
            tensors |= own
        assert self.log is not None
        # the log first: a checkpoint may only speak of lines that are on the disk
        log_bytes = self.log.settle()

        def record(digest: str) -> StateRecord:
            return StateRecord(
                step=place.step,
                samples=place.samples,
                sha256=digest,
                log_bytes=log_bytes,
                seconds=self._seconds + time.monotonic() - self._began,
                processes=engine.pace.processes,
                machine=self._machine,
                origin=self._origin,
                optimizers=options,
            )

        return write_checkpoint(
            self._run,
            tensors=tensors,
            record=record,
            export=lambda folder: self.export(folder, step=place.step),
            step=place.step,
            keep=self._keep,
        )

    def export(self, folder: Path, *, step: int) -> None:
        """Write the actor, with the averaged weights where there are some."""
        painter = self._engine.painter
        with averaged(self._engine):
            network: Any = painter.bare
            temporal = network.temporal_state() if painter.temporal else None
            unet = network.unet if painter.temporal else network
            save_actor(folder, unet, self._card.model_copy(update={"step": step}), temporal=temporal)

    def close(self) -> None:
        """Close the log."""
        if self.log is not None:
            self.log.close()

    def _partial(self) -> dict[str, Tensor]:
        """The gradients of the step under way: their mean over the processes, which all would agree on."""
        found: dict[str, Tensor] = {}
        reduce: Any = self._engine.accelerator.reduce
        for player in self._engine.players:
            for number, gradient in enumerate(player.gradients()):
                found[f"{_PARTIAL}/{player.name}.{number}"] = reduce(gradient.clone(), reduction="mean")
        found["sums"] = reduce(self._engine.sums.clone(), reduction="mean")
        return found

    def _restore(self, state: State, reporter: Reporter) -> Place:
        engine, record, tensors = self._engine, state.record, state.tensors
        for player in engine.players:
            player.load_state(tensors, record.optimizers[player.name])
        engine.load_state(tensors)
        place = Place(record.step, record.samples)
        if place.samples and place.samples % engine.pace.wide:
            reporter.message(
                f"{place.samples} samples of the next step do not divide among {engine.pace.processes} "
                f"processes: that step begins anew"
            )
            engine.sums.zero_()
            return Place(record.step)
        if place.samples:
            for player in engine.players:
                for number, gradient in enumerate(player.gradients()):
                    gradient.copy_(tensors[f"{_PARTIAL}/{player.name}.{number}"])
        return place

    def _check(self, state: State) -> None:
        before, now = state.record.origin, self._origin
        changed = [
            f"{key} was {before.config.get(key)!r}, is {now.config.get(key)!r}"
            for key in sorted({*before.config, *now.config})
            if before.config.get(key) != now.config.get(key)
        ]
        for what in ("dataset_sha256", "extractor", "codec", "mask"):
            if getattr(before, what) != getattr(now, what):
                changed.append(f"{what} was {getattr(before, what)}, is {getattr(now, what)}")
        if changed:
            raise ResumeRefused(
                f"{state.folder} belongs to another training: {'; '.join(changed[:5])}",
                remedy="undo the change, or begin from its weights: "
                f"--set output_dir=NEW --set resume_from_checkpoint={state.folder / 'unet'}",
            )


class averaged:
    """Inside, the painter holds its averaged weights; afterwards the trained ones, bit for bit."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: list[Tensor] = []

    def __enter__(self) -> None:
        average, parameters = self._engine.average, self._engine.painter.parameters
        if average is None:
            return
        self._kept = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter, value in zip(parameters, average.values, strict=True):
                parameter.copy_(value)

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._engine.painter.parameters, self._kept, strict=False):
                parameter.copy_(value)
        self._kept = []


def find_start(run: Path, wanted: str | None) -> State | Path | None:
    """What `resume_from_checkpoint` means: a state to go on from, weights to begin from, or nothing.

    Raises FileError when there is neither where it says, or the state is damaged.
    """
    if wanted == "latest":
        return newest_state(run)
    weights = named_weights(wanted)
    return read_state(Path(wanted)) if wanted is not None and weights is None else weights


def named_weights(wanted: str | None) -> Path | None:
    """The weights that `resume_from_checkpoint` begins from; None where it means a state, or nothing.

    Raises FileError when neither is there.
    """
    if wanted is None or wanted == "latest" or (Path(wanted) / RECORD).is_file():
        return None
    return weights_file(Path(wanted))
