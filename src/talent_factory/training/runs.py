"""The folder of a run: what was promised when it began, how far it is, and whether it may go on."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

from talent_factory.core.errors import FileError, ResumeRefused, WorkspaceBusy
from talent_factory.core.files import (
    disk_full,
    is_no_room,
    json_text,
    sha256_bytes,
    sha256_file,
    write_text,
)
from talent_factory.core.records import Record, read_record, write_record
from talent_factory.core.workspace import exclusive
from talent_factory.dataset.manifest import DatasetManifest, load_dataset, verify_files
from talent_factory.training.config import NEUTRAL_KEYS, TrainConfig

RUN_FILE = "run.json"
RESULT_FILE = "result.json"
LORA_FILE = "lora.safetensors"
LOSS_FILE = "loss.jsonl"
VALIDATION_FILE = "validation.jsonl"
EVENTS_FILE = "events.jsonl"
CHECKPOINTS = "checkpoints"
SAMPLES = "samples"


class Machine(Record):
    """What the last bits of a result depend on beside config and data."""

    torch: str
    device: str
    """`cpu` with its instruction set, or the name of the GPU."""
    threads: int
    """Another number of threads adds numbers up in another order, so a resume uses this one again."""


class RunRecord(Record):
    """run.json: everything that a run is a function of, written once when it begins."""

    version: Literal[1] = 1
    config: TrainConfig
    config_hash: str
    dataset: str
    dataset_fingerprint: str
    dataset_items: dict[str, str]
    cache: str
    base: str
    """`mini` or an absolute path, so that a resume may start in any folder."""
    base_revision: str
    machine: Machine


class TrainResult(Record):
    """result.json: a finished run. `seconds` counts the time spent training by all its processes."""

    version: Literal[1] = 1
    run: str
    lora: str
    lora_sha256: str
    steps: int
    final_loss: float
    seconds: float
    base_revision: str
    dataset_fingerprint: str
    resumed_from: int = 0


class RunStatus(Record):
    """How far a run is, read from its folder without torch."""

    run: str
    id: str
    state: Literal["running", "stopped", "finished"]
    step: int
    steps: int
    loss: float | None
    checkpoint: str
    next: str


def config_hash(config: TrainConfig) -> str:
    """sha256 over the keys that change what is computed."""
    return sha256_bytes(json_text(config.model_dump(mode="json", exclude=set(NEUTRAL_KEYS))).encode())


def dataset_items(manifest: DatasetManifest) -> dict[str, str]:
    """A short digest of each image with its caption, so that a refusal can name the ones that changed."""
    return {item.file: item.digest[:16] for item in manifest.items}


def read_run(run: Path) -> RunRecord:
    """The record of a run. Raises FileError when `run` is none, ResumeRefused when its config was edited."""
    if not (run / RUN_FILE).is_file():
        raise FileError(f"{run} holds no run", remedy="talent train status lists the runs of this workspace")
    record = read_record(run / RUN_FILE, RunRecord)
    if config_hash(record.config) != record.config_hash:
        raise ResumeRefused(
            f"the config inside {run / RUN_FILE} was edited after the run began",
            remedy="undo the edit, or train the new config with: talent train CONFIG --fresh",
        )
    return record


def write_run(run: Path, record: RunRecord) -> None:
    """Write run.json."""
    write_record(run / RUN_FILE, record)


def check_config(run: Path, record: RunRecord, config: TrainConfig) -> None:
    """Raise ResumeRefused that names each key in which `config` differs from the one the run began with."""
    old = record.config.model_dump(mode="json", exclude=set(NEUTRAL_KEYS))
    new = config.model_dump(mode="json", exclude=set(NEUTRAL_KEYS))
    changed = [f"{key} was {old[key]!r} and is {new[key]!r}" for key in old if old[key] != new[key]]
    if changed:
        raise ResumeRefused(
            f"{run} was begun with another config: {'; '.join(changed)}",
            remedy="undo the change, or begin anew with: talent train CONFIG --fresh (the old run stays)",
        )


def load_unchanged_dataset(record: RunRecord) -> DatasetManifest:
    """The dataset of a run. Raises ResumeRefused that names what changed in it since the run began."""
    folder = Path(record.dataset)
    manifest = load_dataset(folder)
    now = dataset_items(manifest)
    before = record.dataset_items
    changes = _changed_items(before, now)
    changes += [
        f"{item.subject}: {item.message}"
        for item in verify_files(folder, manifest)
        if item.severity == "error"
    ]
    if not changes and manifest.fingerprint != record.dataset_fingerprint:
        changes = ["order, size, token or class noun changed"]
    if changes:
        shown = "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else "")
        raise ResumeRefused(
            f"the dataset {folder} is not the one the run began with: {shown}",
            remedy="restore the images and run talent train CONFIG, or begin anew with: "
            "talent train CONFIG --fresh",
        )
    return manifest


def _changed_items(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What was removed, added or changed; by content, since one image less renumbers all that follow."""
    old, new = Counter(before.values()), Counter(now.values())
    removed = [name for name, digest in before.items() if digest in old - new]
    added = [name for name, digest in now.items() if digest in new - old]
    if set(removed) == set(added):
        return [f"{name} or its caption changed" for name in added]
    return [f"{name} was removed" for name in removed] + [f"{name} was added" for name in added]


def check_machine(run: Path, before: Machine, now: Machine) -> None:
    """Raise ResumeRefused when torch or the device changed: the result would not be the same bytes."""
    pairs = (("torch", before.torch, now.torch), ("the device", before.device, now.device))
    changed = [f"{what} was {old} and is {new}" for what, old, new in pairs if old != new]
    if changed:
        raise ResumeRefused(
            f"{run} cannot end in the same bytes here: {'; '.join(changed)}",
            remedy="resume where it began, or begin anew with: talent train CONFIG --fresh",
        )


def check_base(run: Path, record: RunRecord, revision: str) -> None:
    """Raise ResumeRefused when the weights of the base are not those the run began with."""
    if record.base_revision != revision:
        raise ResumeRefused(
            f"{run} was begun on {record.config.base_model} revision {record.base_revision[:12]}, "
            f"here is {revision[:12]}",
            remedy="restore that base, or begin anew with: talent train CONFIG --fresh",
        )


def finished(run: Path) -> TrainResult | None:
    """The result of a run when it ended and its LoRA is still the file that was written."""
    if not (run / RESULT_FILE).is_file() or not (run / LORA_FILE).is_file():
        return None
    result = read_record(run / RESULT_FILE, TrainResult)
    return result if sha256_file(run / LORA_FILE) == result.lora_sha256 else None


class LossLog:
    """loss.jsonl: one line a step, no times in it, so that two equal runs write equal bytes."""

    def __init__(self, path: Path, *, size: int) -> None:
        """Cut the file to `size` bytes, the length at the checkpoint that the run goes on from."""
        if (path.stat().st_size if path.exists() else 0) < size:
            raise ResumeRefused(
                f"{path} is shorter than its checkpoint says",
                remedy="restore it, or begin anew with: talent train CONFIG --fresh",
            )
        self._path = path
        self._stream = open(path, "ab", buffering=0)  # noqa: SIM115
        self._stream.truncate(size)

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of one finished step; floats read back exactly. Raises DiskFull."""
        line = json.dumps({"step": step, **values}).encode() + b"\n"
        try:
            written = self._stream.write(line)
            if written != len(line):  # a disk that fills up takes what still fits, without an error
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if is_no_room(error):
                raise disk_full(self._path, error) from error
            raise

    def settle(self) -> int:
        """Bring all lines to the disk and return the length to put into a checkpoint."""
        os.fsync(self._stream.fileno())
        return os.fstat(self._stream.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def holds_work(run: Path) -> bool:
    """Whether a run has come as far as a checkpoint or a LoRA, so that it can go on or is done."""
    kept = any((run / CHECKPOINTS).glob("step_*")) or (run / LORA_FILE).exists()
    return kept and (run / RUN_FILE).exists()


def clear_start(run: Path) -> None:
    """Remove what a run left that never came to a checkpoint, so that another config may take its place."""
    for name in ("measures", "candidates", SAMPLES):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in (LOSS_FILE, VALIDATION_FILE, "execution.json", "measures.jsonl", "choice.json"):
        (run / name).unlink(missing_ok=True)


def read_losses(run: Path) -> list[dict[str, float]]:
    """The lines of loss.jsonl so far; a line that a kill tore off is left out."""
    path = run / LOSS_FILE
    if not path.is_file():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def note_validation(run: Path, step: int, values: Mapping[str, float | list[float]]) -> None:
    """Write the line of a step into validation.jsonl; lines of this step and later ones give way to it."""
    path = run / VALIDATION_FILE
    lines = [line for line in read_validation(run) if float(cast(float, line["step"])) < step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in [*lines, {"step": step, **values}]))


def read_validation(run: Path) -> list[dict[str, float | list[float]]]:
    """The lines of validation.jsonl so far: `step`, `validation` and the loss at each level of noise."""
    path = run / VALIDATION_FILE
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run_status(run: Path) -> RunStatus:
    """How far the run in `run` is. Raises FileError when there is none."""
    record = read_run(run)
    losses = read_losses(run)
    step = int(losses[-1]["step"]) if losses else 0
    done = finished(run) is not None
    checkpoints = sorted(path.name for path in (run / CHECKPOINTS).glob("step_*"))
    state: Literal["running", "stopped", "finished"] = (
        "finished" if done else "running" if _held(run) else "stopped"
    )
    return RunStatus(
        run=str(run),
        id=record.config.id,
        state=state,
        step=step,
        steps=record.config.max_train_steps,
        loss=losses[-1]["loss"] if losses else None,
        checkpoint=checkpoints[-1] if checkpoints else "",
        next=f"talent train resume {run}" if state == "stopped" else "",
    )


def list_runs(runs: Path) -> list[Path]:
    """The runs in a workspace's folder, by name."""
    return sorted(path.parent for path in runs.glob(f"*/{RUN_FILE}"))


def _held(run: Path) -> bool:
    """Whether a process trains in `run` now."""
    try:
        with exclusive(run):
            return False
    except WorkspaceBusy:
        return True


def set_aside(run: Path) -> Path | None:
    """Rename a run to a free name beside it, so that another can begin; returns it, None without a run.

    Raises WorkspaceBusy when a process trains in it.
    """
    if not (run / RUN_FILE).exists():
        return None
    with exclusive(run):
        number = 1
        while (kept := run.with_name(f"{run.name}.old{number}")).exists():
            number += 1
        run.rename(kept)
    return kept
