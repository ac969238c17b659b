"""Keeps the processes that draw alive: one for each device, started again when one dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from talent_factory.core.workspace import Workspace
from talent_factory.engines.queue import Device
from talent_factory.service.places import DATABASE_VARIABLE, service_folder

_LOOK_SECONDS = 0.25
# A worker that dies at once would die again at once: the pause doubles up to this.
_LONGEST_PAUSE = 30.0
_HEALTHY_SECONDS = 20.0
_FAREWELL_SECONDS = 75.0


@dataclass
class Post:
    """One device and the process that works there."""

    name: str
    device: Device
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    restarts: int = -1
    pause: float = 0.5
    not_before: float = 0.0
    log: IO[bytes] | None = field(default=None, repr=False)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None


class Crew:
    """Starts, watches and ends the workers of one server."""

    def __init__(
        self,
        place: Workspace,
        *,
        url: str,
        bases: Sequence[str],
        devices: Sequence[Device],
        name: str,
        tell: Callable[[str], None],
    ) -> None:
        """Workers called `name-0`, `name-1`, ... for the queue at `url`; `tell` hears what befalls them."""
        self.posts = [Post(f"{name}-{index}", device) for index, device in enumerate(devices)]
        self._place, self._url, self._bases, self._tell = place, url, tuple(bases), tell
        self._ending = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="crew", daemon=True)

    def start(self) -> None:
        """Start all workers and watch over them."""
        for post in self.posts:
            self._start(post)
        self._watcher.start()

    def stop(self) -> None:
        """Ask all to finish the image they draw and to leave; returns when they are gone."""
        self._ending.set()
        if self._watcher.ident is not None:
            self._watcher.join()
        for post in self.posts:
            self._dismiss(post)
        deadline = time.monotonic() + _FAREWELL_SECONDS
        for post in self.posts:
            if post.process is not None:
                try:
                    post.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    post.process.kill()
                    post.process.wait()
            if post.log is not None:
                post.log.close()

    def _watch(self) -> None:
        while not self._ending.wait(_LOOK_SECONDS):
            for post in self.posts:
                self._look_after(post)

    def _look_after(self, post: Post) -> None:
        now = time.monotonic()
        if post.alive:
            if now - post.begun > _HEALTHY_SECONDS:
                post.pause = 0.5
            return
        if post.process is not None:
            self._tell(f"worker {post.name} ended with code {post.process.returncode}; starting it again")
            self._dismiss(post)
            post.process, post.not_before = None, now + post.pause
            post.pause = min(2 * post.pause, _LONGEST_PAUSE)
        if now >= post.not_before:
            self._start(post)

    def _start(self, post: Post) -> None:
        folder = service_folder(self._place) / "workers"
        folder.mkdir(parents=True, exist_ok=True)
        if post.log is None:
            # appended: what an earlier worker said stays to be read
            post.log = open(folder / f"{post.name}.log", "ab")  # noqa: SIM115
        words = [word for base in self._bases for word in ("--base", base)]
        post.process = subprocess.Popen(
            [
                sys.executable, "-m", "talent_factory.service.worker",
                "--workspace", str(self._place.root), "--name", post.name, *words,
            ],
            stdin=subprocess.PIPE,
            stdout=post.log,
            stderr=post.log,
            env={**_clean_environment(), **dict(post.device.environment), DATABASE_VARIABLE: self._url},
            # Ctrl-C in the terminal is for the server, which tells its workers in its own way
            start_new_session=True,
        )  # fmt: skip
        post.begun = time.monotonic()
        post.restarts += 1

    def _dismiss(self, post: Post) -> None:
        """Close the standard input of the worker, which it takes for a farewell."""
        if post.process is not None and post.process.stdin is not None:
            with suppress(OSError):
                post.process.stdin.close()


def _clean_environment() -> dict[str, str]:
    """The environment without what would rename the workers behind our back."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DBOS_")}
