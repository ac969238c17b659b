"""Read many kits at once: some processes, each with a few kits at a time."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from talent_factory.core.threads import ONE_THREAD
from talent_factory.kits.catalog.reading import Reading, read_kit

# Fewer kits than this are read before another process has begun to work.
WORTH_A_PROCESS = 150
MAX_PROCESSES = 8
_BATCH = 16

_Found = tuple[Path, Reading]


def read_kits(folders: Sequence[Path], *, processes: int | None = None) -> Generator[_Found]:
    """Yield each folder with its reading, in the order given.

    `processes` is how many to use, by default one for each processor and WORTH_A_PROCESS kits. Closing the
    generator ends them. A process that dies takes nothing with it: its kits are read in this one.
    """
    count = _default_processes(len(folders)) if processes is None else processes
    if count < 2 or not sys.executable:
        for folder in folders:
            yield folder, read_kit(folder)
        return
    batches = [folders[start : start + _BATCH] for start in range(0, len(folders), _BATCH)]
    crew: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    workers = [_Worker() for _ in range(count)]
    for worker in workers:
        crew.put(worker)

    def read(batch: Sequence[Path]) -> list[_Found]:
        worker = crew.get()
        try:
            return list(zip(batch, worker.read(batch), strict=True))
        finally:
            crew.put(worker)

    pool = ThreadPoolExecutor(count)
    try:
        for found in pool.map(read, batches):
            yield from found
    finally:
        for worker in workers:
            worker.end()
        pool.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()


def _default_processes(kits: int) -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, MAX_PROCESSES, kits // WORTH_A_PROCESS)


class _Worker:
    """One process that reads kits; after its death its kits are read here."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "talent_factory.kits.catalog.worker"]
        here = str(Path(__file__).resolve().parents[3])
        paths = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
        self._ended = False
        try:
            self._process: subprocess.Popen[str] | None = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": paths},
                encoding="ascii",
            )
        except OSError:
            self._process = None

    def read(self, folders: Sequence[Path]) -> list[Reading]:
        """Return the readings of `folders`; none once the work was given up."""
        answer = self._ask([os.fspath(folder) for folder in folders])
        if answer is not None:
            return [Reading.model_validate(item) for item in answer]
        self.close()
        return [] if self._ended else [read_kit(folder) for folder in folders]

    def end(self) -> None:
        """Give up the work; whoever waits for an answer stops waiting."""
        self._ended = True
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process and wait for it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            # what was never sent cannot be sent any more when the pipes are closed
            with contextlib.suppress(OSError), process:
                pass

    def _ask(self, folders: list[str]) -> list[object] | None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            process.stdin.write(json.dumps(folders) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            return None
        return answer if isinstance(answer, list) and len(answer) == len(folders) else None
