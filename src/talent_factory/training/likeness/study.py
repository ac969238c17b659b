"""One run's study: measure each checkpoint as it is saved, say when to stop, ship the best."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from talent_factory.core.errors import FileError
from talent_factory.core.events import Reporter as Progress
from talent_factory.core.files import atomic_path, clear_leftovers, sha256_file
from talent_factory.core.records import read_record, write_record
from talent_factory.dataset.manifest import DatasetManifest
from talent_factory.training import runs
from talent_factory.training.config import TrainConfig
from talent_factory.training.families.port import Base
from talent_factory.training.likeness import book
from talent_factory.training.likeness.checkpoint import AtStrength, draw, measure_checkpoint, scale_sweep
from talent_factory.training.likeness.choose import choose, choose_weight, plateau
from talent_factory.training.likeness.plan import measure_interval, measure_plan
from talent_factory.training.likeness.records import Choice, Measure, MeasurePlan, Report, Reported
from talent_factory.training.likeness.ruler import Reporter, Ruler
from talent_factory.training.likeness.scoring import score


class Study:
    """The measures of one run. All methods may be called again after a kill and lead to the same files."""

    def __init__(
        self,
        base: Base,
        *,
        config: TrainConfig,
        manifest: DatasetManifest,
        dataset: Path,
        run: Path,
        held_out: Sequence[str] = (),
        progress: Progress,
    ) -> None:
        """Plan and load the encoders; raises ConfigError before any step when they are not there."""
        self._base, self._config, self._run, self._progress = base, config, run, progress
        self._dataset = dataset
        self.plan: MeasurePlan = measure_plan(config, manifest, base, held_out=held_out)
        self._ruler = Ruler.open(self.plan, dataset)
        self._untouched: NDArray[np.uint8] | None = None
        clear_leftovers(run / book.CANDIDATES)
        clear_leftovers(run / book.SHEETS)
        book.write_plan(run, self.plan)

    def due(self, step: int) -> bool:
        """Whether the checkpoint of `step` is one to measure: drawing is slow, so not every one is."""
        return step % measure_interval(self._config) == 0 or step == self._config.max_train_steps

    def measure(self, step: int, state: Mapping[str, Tensor], at: AtStrength) -> Measure | None:
        """Keep `state` as a candidate and measure it, unless that is done already; None when it is not due.

        Call it after the checkpoint of `step` is on the disk, with `state` attached to the base, and again
        for the step that a resume begins from. Step 0 is the base and keeps no candidate.
        """
        if not self.due(step):
            return None
        if step:
            self._begin(at)
            path = book.candidate_path(self._run, step)
            if not path.is_file():
                with atomic_path(path) as temporary:
                    save_file(dict(state), temporary)
        known = next((item for item in book.read_measures(self._run) if item.step == step), None)
        if known is not None and book.sheet_path(self._run, step).is_file():
            return known
        with at(1.0 if step else 0.0):
            measured, drawn = measure_checkpoint(
                self._base,
                step=step,
                plan=self.plan,
                ruler=self._ruler,
                untouched=self._untouched if step else None,
                progress=self._progress,
            )
        book.write_sheet(book.sheet_path(self._run, step), drawn.all)
        book.write_measure(self._run, measured)
        self._tell(measured)
        return measured

    def should_stop(self, step: int) -> bool:
        """Whether the measures up to `step` say that more steps no longer help; asked after `measure`."""
        patience = self._config.choose.patience
        if patience is None:
            return False
        seen = [item for item in book.read_measures(self._run) if item.step <= step]
        return plateau(seen, patience=patience, seed=self.plan.seed).reached

    def finish(self, last: int, at: AtStrength, load: Callable[[Mapping[str, Tensor]], None]) -> Choice:
        """Choose among the checkpoints up to `last`, sweep the strength, report, and write lora.safetensors.

        `load` puts tensors in kohya form into the attached network; it holds the chosen ones afterwards.
        """
        measures = [item for item in book.read_measures(self._run) if item.step <= last]
        choice = choose(measures, seed=self.plan.seed, confidence=self._config.choose.confidence)
        by_step = {item.step: item for item in measures}
        self._begin(at)
        assert self._untouched is not None
        load(load_file(book.candidate_path(self._run, choice.step)))
        swept, pictures = scale_sweep(
            self._base,
            at,
            self._config.choose.weights,
            known=by_step[choice.step],
            plan=self.plan,
            ruler=self._ruler,
            untouched=self._untouched,
        )
        for weight, drawn in pictures.items():
            book.write_sheet(book.sheet_path(self._run, choice.step, weight), drawn.all)
        weight, sweep = choose_weight(swept, by_step[0], seed=self.plan.seed)
        choice = choice.model_copy(
            update={
                "default_weight": weight,
                "measured_weight": weight,
                "sweep": sweep,
                "judges": self._ruler.judges,
            }
        )
        choice = choice.model_copy(update={"report": self._report(choice, at, load)})
        book.write_choice(self._run, choice)
        ship(self._run, choice.step)
        self._progress.event("chosen", step=choice.step, weight=weight, reason=choice.reason)
        self._progress.message(f"{choice.reason}; recommended strength {weight:g}")
        return choice

    def _begin(self, at: AtStrength) -> None:
        """Have the base itself measured, and its unrelated pictures at hand."""
        if self._untouched is not None:
            return
        self.measure(0, {}, at)
        count, first = len(self.plan.subject) + len(self.plan.unrelated), len(self.plan.subject)
        path = book.sheet_path(self._run, 0)
        try:
            pictures = book.read_sheet(path, count, self.plan.size)
        except FileError as error:
            self._progress.message(f"drawing the base again: {error.message}")
            path.unlink()
            self.measure(0, {}, at)
            pictures = book.read_sheet(path, count, self.plan.size)
        self._untouched = pictures[first:]

    def _report(self, choice: Choice, at: AtStrength, load: Callable[[Mapping[str, Tensor]], None]) -> Report:
        reporter = Reporter.open(self.plan, self._dataset)

        def figures(strength: AbstractContextManager[None]) -> Reported:
            with strength:
                return reporter.measure(draw(self._base, self.plan.report, self.plan))

        base, chosen = figures(at(0.0)), figures(at(choice.default_weight))
        last = chosen
        if choice.last_step != choice.step or choice.default_weight != 1.0:
            load(load_file(book.candidate_path(self._run, choice.last_step)))
            last = figures(at(1.0))
            load(load_file(book.candidate_path(self._run, choice.step)))
        groups = {shot.group for shot in self.plan.report}
        return Report(
            by=reporter.name,
            prompts=len(groups),
            pictures=len(self.plan.report),
            base=base,
            chosen=chosen,
            last=last,
        )

    def _tell(self, measured: Measure) -> None:
        if not measured.step:
            return
        baseline = next(item for item in book.read_measures(self._run) if item.step == 0)
        told = score(measured, baseline, seed=self.plan.seed)
        self._progress.event("measure", **told.model_dump())
        self._progress.message(
            f"step {told.step}: score {told.score:.3f} ({told.low:.3f} to {told.high:.3f}), identity "
            f"{told.identity:.2f}, prompt {told.adherence:.2f}, drift {told.drift:.2f}"
        )


def ship(run: Path, step: int) -> Path:
    """Make the candidate of `step` the run's LoRA. Raises FileError when its weights are not kept."""
    source, target = book.candidate_path(run, step), run / runs.LORA_FILE
    if not source.is_file():
        kept = ", ".join(str(known) for known in book.candidates(run)) or "none"
        raise FileError(f"{run} keeps no weights of step {step}; it has: {kept}", remedy="name one of those")
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


def veto(run: Path, step: int, *, weight: float | None = None) -> Choice:
    """Let a person choose: `step` ships instead, at `weight` or the measured one when that was its step.

    Returns the new choice; the measured best stays on record. Raises FileError when the run is not finished,
    was not measured, or keeps no such step.
    """
    measured = book.read_choice(run)
    if measured is None or not (run / runs.RESULT_FILE).is_file():
        raise FileError(
            f"{run} has no choice to change yet", remedy=f"talent train status {run} says how far it is"
        )
    strength = measured.measured_weight if step == measured.measured_step else 1.0
    told = measured.reason.partition("; measured: ")[2] or measured.reason
    choice = measured.model_copy(
        update={
            "step": step,
            "default_weight": strength if weight is None else weight,
            "chosen_by": "person",
            "reason": f"a person chose step {step}; measured: {told}",
        }
    )
    result = read_record(run / runs.RESULT_FILE, runs.TrainResult)
    lora = ship(run, step)
    # A kill between these writes leaves a LoRA that the result does not know; the same command mends it.
    write_record(run / runs.RESULT_FILE, result.model_copy(update={"lora_sha256": sha256_file(lora)}))
    book.write_choice(run, choice)
    return choice
