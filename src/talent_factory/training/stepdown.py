"""Go on after the memory ran out, with less at once: the same images in the same order, smaller pieces.

A step-down never touches the config, which is the run's promise: it is kept beside it in the run, so that a
resume, after a kill too, goes on with what was found to fit. First activations are computed twice instead of
kept (gradient checkpointing gives the same numbers), then each batch is split into equal pieces whose
gradients are added up; every optimiser step still sees the very images, noise and timesteps it would have.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from talent_factory.core.errors import DeviceLost, TalentError, TrainingTooLarge
from talent_factory.core.events import Reporter
from talent_factory.core.records import Record, read_record, write_record
from talent_factory.training.config import TrainConfig

EXECUTION_FILE = "execution.json"
Result = TypeVar("Result")

# What the devices say when there is no memory left; torch has a class of its own for the GPU's only.
_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "alloc_failed",
    "failed to allocate",
)


# What drivers say when a device is gone or has failed for good; newer torch has a class for it.
_LOST = ("cuda error", "hip error", "cudnn_status_execution_failed", "device lost", "device is lost")


class Execution(Record):
    """How the batches of a run are computed; nothing here changes what they hold."""

    splits: int = 1
    """Each batch is computed in so many pieces."""
    gradient_checkpointing: bool = False
    reasons: tuple[str, ...] = ()
    """What happened at each step down, in order."""

    def pieces(self, rows: int) -> Iterator[slice]:
        """The rows of each piece of a batch of `rows`, in order; all of them, each once, none empty."""
        size = -(-rows // self.splits)
        for start in range(0, rows, size):
            yield slice(start, min(start + size, rows))


def execution_of(config: TrainConfig) -> Execution:
    """How a run begins: whole batches, checkpointing as the config says."""
    return Execution(gradient_checkpointing=config.gradient_checkpointing)


def load_execution(run: Path, config: TrainConfig) -> Execution:
    """How the run in `run` goes on: as it was stepped down to, else as it begins."""
    path = run / EXECUTION_FILE
    return read_record(path, Execution) if path.is_file() else execution_of(config)


def stepped_down(execution: Execution, config: TrainConfig, failure: str) -> Execution:
    """The next smaller way to compute. Raises TrainingTooLarge when one image at a time is too much."""
    if not execution.gradient_checkpointing:
        reason = f"{failure}: gradient checkpointing on"
        return Execution(
            splits=execution.splits, gradient_checkpointing=True, reasons=(*execution.reasons, reason)
        )
    if execution.splits >= config.batch_size:
        raise TrainingTooLarge(
            f"{failure}: not even one image of {config.resolution} pixels fits, with gradient checkpointing",
            remedy=_remedy(config),
        )
    # the next number that divides the batch: equal pieces, hence one shape for all
    wider = range(execution.splits + 1, config.batch_size + 1)
    splits = next(number for number in wider if config.batch_size % number == 0)
    reason = f"{failure}: batches of {config.batch_size} in {splits} pieces"
    return Execution(splits=splits, gradient_checkpointing=True, reasons=(*execution.reasons, reason))


def _remedy(config: TrainConfig) -> str:
    ways = [f"resolution {max(64, config.resolution * 3 // 4 // 64 * 64)}"]
    if config.precision == "fp32":
        ways.append("precision bf16")
    if config.lora_rank > 8:
        ways.append(f"lora_rank {config.lora_rank // 2}")
    return f"write {' or '.join(ways)}, then: talent train CONFIG --fresh"


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the device or the machine has no memory left."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, TalentError) or not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(words in text for words in _WORDS)


def device_lost(error: BaseException) -> bool:
    """Whether `error` says that the device itself has failed, so that this process cannot use it again."""
    if isinstance(error, TalentError) or not isinstance(error, RuntimeError) or out_of_memory(error):
        return False
    text = str(error).lower()
    return type(error).__name__ == "AcceleratorError" or any(words in text for words in _LOST)


@contextmanager
def naming_a_lost_device(run: Path) -> Iterator[None]:
    """Raise DeviceLost, one line with the way to go on, for what a driver says when a device is gone."""
    try:
        yield
    except RuntimeError as error:
        if not device_lost(error):
            raise
        kept = sorted(path.name for path in (run / "checkpoints").glob("step_*"))
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DeviceLost(
            f"the device stopped answering ({said}); the last good checkpoint is "
            f"{f'{run}/checkpoints/{kept[-1]}' if kept else 'none yet'}",
            remedy=f"talent train resume {run} once the device is back (nvidia-smi lists it; else restart)",
        ) from error


def with_step_down(
    run: Path,
    config: TrainConfig,
    work: Callable[[Execution], Result],
    *,
    reporter: Reporter,
) -> Result:
    """Do `work`, and again with less at once each time the memory runs out; what fits is kept in `run`.

    `work` must go on from the newest checkpoint when it is called again, and hold nothing of its last call.
    Raises TrainingTooLarge when nothing smaller is left, and whatever else `work` raises.
    """
    execution = load_execution(run, config)
    while True:
        failure = _tried(work, execution)
        if not isinstance(failure, _OutOfMemory):
            return failure
        execution = stepped_down(execution, config, failure.text)
        write_record(run / EXECUTION_FILE, execution)
        reporter.event("step_down", reason=execution.reasons[-1], splits=execution.splits)
        reporter.message(f"{execution.reasons[-1]}; going on with the same images in the same order")
        release_memory()


class _OutOfMemory(Record):
    text: str


def _tried(work: Callable[[Execution], Result], execution: Execution) -> Result | _OutOfMemory:
    """The result of `work`, or what was said when memory ran out.

    A function of its own: the error holds every tensor of the failed step by its traceback, and must be gone
    before the next try.
    """
    try:
        return work(execution)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return _OutOfMemory(text="the memory ran out")


def release_memory() -> None:
    """Give back what nobody holds any more, also what torch keeps for later."""
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
