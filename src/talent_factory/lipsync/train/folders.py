"""The checkpoints of a run on disk: whole at any moment, found again after a kill, pruned at the end.

A checkpoint is `checkpoint-N/` after N optimizer steps. It holds the actor as `animate` loads it, and the
newest also `state.safetensors` with `state.json`: all that is needed to go on as if never stopped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from talent_factory.core.errors import FileError
from talent_factory.core.files import (
    atomic_folder,
    clear_leftovers,
    remove_folder,
    sha256_file,
    write_text,
)
from talent_factory.core.records import Record, read_record, write_record

TENSORS, RECORD, LATEST = "state.safetensors", "state.json", "latest"
_NAME = re.compile(r"checkpoint-(\d{1,12})")


class Origin(Record):
    """What a state belongs to: it fits no other config, data or codec."""

    config: dict[str, Any]
    """The keys that decide the numbers."""
    dataset_sha256: str
    extractor: str | None
    codec: str
    mask: str


class StateRecord(Record):
    """What stands beside the tensors: where the run was, and what it was.

    `samples` of step `step` (0-based) are already in the gradients that were kept: 0 between two steps.
    `machine` says what the bits depend on.
    """

    format_version: int = 1
    step: int
    samples: int
    sha256: str
    log_bytes: int
    seconds: float
    processes: int
    machine: dict[str, Any]
    origin: Origin
    optimizers: dict[str, Any]


@dataclass(frozen=True)
class State:
    """A state read back and verified."""

    record: StateRecord
    tensors: dict[str, Tensor]
    folder: Path
    skipped: tuple[str, ...] = ()
    """Newer checkpoints that were passed over, each with its reason."""


@dataclass(frozen=True)
class Keep:
    """How many checkpoints stay: `weights` of them, the newest `states` with their whole state."""

    weights: int
    states: int


def checkpoint_folder(run: Path, step: int) -> Path:
    """`run`/checkpoint-N."""
    return run / f"checkpoint-{step}"


def write_checkpoint(
    run: Path,
    *,
    tensors: Mapping[str, Tensor],
    record: Callable[[str], StateRecord],
    export: Callable[[Path], None],
    step: int,
    keep: Keep,
) -> Path:
    """Write one checkpoint as an atomic folder, point `latest` to it, then prune.

    `export` writes the actor into the folder it is given; `record` makes the record from the digest of the
    tensors. A kill at any moment leaves the checkpoints from before or these. Raises DiskFull.
    """
    target = checkpoint_folder(run, step)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_folder(target) as folder:
        export(folder)
        save_file(plain, folder / TENSORS)
        write_record(folder / RECORD, record(sha256_file(folder / TENSORS)))
    write_text(run / LATEST, f"{target.name}\n")
    _prune(run, newest=step, keep=keep)
    return target


def checkpoints(run: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders of a run by rising step; half-written ones have other names."""
    if not run.is_dir():
        return []
    found = [(match, path) for path in run.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def newest_state(run: Path) -> State | None:
    """The newest whole state of a run, or None when there is none; broken ones are named in `skipped`."""
    skipped: list[str] = []
    for _, folder in reversed(checkpoints(run)):
        if not (folder / RECORD).is_file():
            continue
        try:
            found = read_state(folder)
        except FileError as broken:
            skipped.append(f"{folder.name}: {broken.message}")
            continue
        return State(found.record, found.tensors, folder, tuple(skipped))
    return None


def read_state(folder: Path) -> State:
    """The state in one checkpoint folder. Raises FileError when it is missing or damaged."""
    record = read_record(folder / RECORD, StateRecord)
    path = folder / TENSORS
    try:
        if sha256_file(path) != record.sha256:
            raise FileError(f"{path} does not match its digest", remedy="take another checkpoint")
        return State(record, load_file(path), folder)
    except (OSError, SafetensorError) as error:
        raise FileError(f"{path} cannot be read: {error}", remedy="take another checkpoint") from None


def _prune(run: Path, *, newest: int, keep: Keep) -> None:
    """Drop states and weights that are too many, and what is newer than the one just written.

    A newer one exists only when it was broken and the run fell back behind it: it must not win later.
    """
    found = checkpoints(run)
    for _, folder in [pair for pair in found if pair[0] > newest]:
        remove_folder(folder)
    older = [folder for step, folder in found if step <= newest]
    for folder in older[: -keep.states]:
        # the record first: without it nobody takes the rest for a state
        for name in (RECORD, TENSORS):
            (folder / name).unlink(missing_ok=True)
    for folder in older[: -keep.weights]:
        remove_folder(folder)
    clear_leftovers(run)
