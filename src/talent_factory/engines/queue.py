"""Train many configs on one machine: a process for each device, whatever becomes of any of them.

Nothing is remembered here: each run knows by itself how far it is. So a queue that was killed is started
again with the same command, and a child that was killed is started again by the queue, and goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from talent_factory.core.events import Reporter
from talent_factory.core.records import Record
from talent_factory.core.stop import StopSignal

State = Literal["done", "failed", "stopped", "waiting"]

_POLL_SECONDS = 0.1
_CANCELLED = 130
# Deaths by a signal after which a config is given up.
_CRASHES = 3
# Between two tries of a run that another process works on.
_BUSY_SECONDS = 5.0
_LAST_WORDS = 4096


class Ended(Record):
    """How one config ended: after how many starts and seconds, with which error and remedy, or kit."""

    id: str
    config: str
    state: State
    device: str = ""
    starts: int = 0
    seconds: float = 0.0
    message: str = ""
    remedy: str = ""
    kit: str = ""
    log: str = ""


@dataclass(frozen=True)
class Device:
    """One place to train: its name, and what a process must find in its environment to use it alone."""

    name: str
    environment: tuple[tuple[str, str], ...] = ()


@dataclass
class Task:
    """One config in the queue; `command` starts or continues it and prints one JSON document at its end."""

    id: str
    config: Path
    command: Sequence[str]
    log: Path
    starts: int = 0
    crashes: int = 0
    seconds: float = 0.0
    not_before: float = 0.0


@dataclass
class _Child:
    task: Task
    device: Device
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    begun: float = field(default_factory=time.monotonic)


def devices(wanted: str, *, gpus: int) -> tuple[Device, ...]:
    """The places to train for configs that say `wanted` ("auto", "cuda", "cpu", "mps") with `gpus` cards.

    Every card is one; a processor or an Apple GPU is one by itself, as two trainings would only share it.
    """
    if wanted in ("auto", "cuda") and gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = [name for name in visible.split(",") if name] or [str(index) for index in range(gpus)]
        return tuple(Device(f"cuda:{name}", (("CUDA_VISIBLE_DEVICES", name),)) for name in names[:gpus])
    return (Device(wanted if wanted != "auto" else "this machine"),)


def run_queue(
    tasks: Sequence[Task],
    *,
    places: Sequence[Device],
    reporter: Reporter,
    stop: StopSignal,
    look: Callable[[str], tuple[int, int] | None] | None = None,
) -> tuple[Ended, ...]:
    """Run all tasks in order, as many at once as there are places; returns how each ended.

    A child that dies of a signal is started again, at most three times. One that ends with an error of its
    own would end so again: it has failed, and the others go on. When `stop` is requested, children are asked
    to save and end. `look` tells how many of how many steps the run of an id has made.
    """
    waiting: deque[Task] = deque(tasks)
    free: deque[Device] = deque(places)
    running: list[_Child] = []
    ended: dict[str, Ended] = {}
    asked = False
    told, told_steps = 0.0, dict[str, int]()
    try:
        while running or (waiting and not stop.requested):
            for task, device in _due(waiting, free, idle=not stop.requested):
                running.append(_start(task, device))
                reporter.event("queue_start", id=task.id, device=device.name, starts=task.starts)
                again = f" again ({task.starts})" if task.starts > 1 else ""
                reporter.message(f"{task.id}: started{again} on {device.name}, log {task.log}")
            if stop.requested and not asked:
                asked = True
                _ask_to_stop(running)
            for child in [child for child in running if child.process.poll() is not None]:
                running.remove(child)
                free.append(child.device)
                result = _judge(child)
                if result.state == "waiting" and not stop.requested:
                    # after a crash at once; one that is held elsewhere lets the others pass
                    (waiting.append if child.task.not_before else waiting.appendleft)(child.task)
                else:
                    ended[child.task.id] = result
                    reporter.progress("queue", len(ended), len(tasks), unit="run")
                reporter.event("queue_end", **result.model_dump())
                reporter.message(f"{result.id}: {result.state}{': ' * bool(result.message)}{result.message}")
            if look is not None and time.monotonic() - told >= 1.0:
                told = time.monotonic()
                _tell(running, look, told_steps, reporter)
            time.sleep(_POLL_SECONDS)
    finally:
        _ask_to_stop(running)
        for child in running:
            child.process.wait()
            child.output.close()
    left = {task.id: _ended(task, "stopped", "not started") for task in waiting}
    return tuple(ended.get(task.id) or left[task.id] for task in tasks)


def _due(waiting: deque[Task], free: deque[Device], *, idle: bool) -> Iterator[tuple[Task, Device]]:
    """Tasks that may start now, with a place each."""
    for _ in range(len(waiting)):
        if not (idle and free and waiting):
            return
        task = waiting.popleft()
        if task.not_before > time.monotonic():
            waiting.append(task)
        else:
            yield task, free.popleft()


def _start(task: Task, device: Device) -> _Child:
    task.starts += 1
    task.log.parent.mkdir(parents=True, exist_ok=True)
    # appended: what an earlier start said stays to be read
    output = open(task.log, "ab")  # noqa: SIM115
    task_output = task.log.with_suffix(".json")
    with open(task_output, "wb") as result:
        process = subprocess.Popen(
            list(task.command),
            stdin=subprocess.DEVNULL,
            stdout=result,
            stderr=output,
            env={**os.environ, **dict(device.environment)},
            # Ctrl-C in the terminal is for the queue, which tells its children in its own way
            start_new_session=True,
        )
    return _Child(task, device, process, output)


def _ask_to_stop(running: Sequence[_Child]) -> None:
    for child in running:
        with suppress(ProcessLookupError):
            child.process.terminate()


def _judge(child: _Child) -> Ended:
    """How a child that is gone ended; "waiting" when it is to be started again."""
    task, code = child.task, child.process.returncode
    child.output.close()
    task.seconds += time.monotonic() - child.begun
    answer = _answer(task)
    if code == 0:
        return _ended(task, "done", "", device=child.device.name, kit=str(answer.get("kit", "")))
    error = answer.get("error")
    kind = error.get("kind", "") if isinstance(error, dict) else ""
    words = error.get("message", "") if isinstance(error, dict) else ""
    remedy = error.get("remedy", "") if isinstance(error, dict) else ""
    if code == _CANCELLED:
        return _ended(task, "stopped", words, device=child.device.name)
    if kind == "WorkspaceBusy":
        task.not_before = time.monotonic() + _BUSY_SECONDS
        return _ended(task, "waiting", words, device=child.device.name)
    if code < 0 or code > 128:
        task.crashes += 1
        signal = -code if code < 0 else code - 128
        fate = f"killed by signal {signal}"
        fate += " (9: perhaps the system had no memory left)" if signal == 9 else ""
        if task.crashes < _CRASHES:
            return _ended(task, "waiting", f"{fate}; starting it again", device=child.device.name)
        return _ended(task, "failed", f"{fate}, {task.crashes} times", device=child.device.name)
    told = words or _last_words(task.log)
    return _ended(task, "failed", told, device=child.device.name, remedy=remedy)


def _ended(
    task: Task, state: State, message: str, *, device: str = "", kit: str = "", remedy: str = ""
) -> Ended:
    return Ended(
        id=task.id,
        config=str(task.config),
        state=state,
        device=device,
        starts=task.starts,
        seconds=round(task.seconds, 1),
        message=message,
        remedy=remedy,
        kit=kit,
        log=str(task.log),
    )


def _answer(task: Task) -> dict[str, Any]:
    """The JSON document that the child printed; empty when it did not come to that."""
    try:
        found = json.loads(task.log.with_suffix(".json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _last_words(log: Path) -> str:
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LAST_WORDS))
        lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _tell(
    running: Sequence[_Child],
    look: Callable[[str], tuple[int, int] | None],
    told: dict[str, int],
    reporter: Reporter,
) -> None:
    """Say how far each run is that made a step since the last time."""
    for child in running:
        found = look(child.task.id)
        if found is not None and told.get(child.task.id) != found[0]:
            told[child.task.id] = found[0]
            reporter.progress(child.task.id, *found)


def training_command(config: Path, *, workspace: Path, options: Sequence[str] = ()) -> tuple[str, ...]:
    """The command of one training, as a child of a queue."""
    return (
        sys.executable, "-m", "talent_factory.cli.app", "--progress", "lines", "train", "start", str(config),
        "--workspace", str(workspace), "--json", *options,
    )  # fmt: skip
