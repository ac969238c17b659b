"""Kill a cast at one step after another and see that the next run pays nothing twice and loses nothing.

`python tests/crash_points.py FOLDER [--first N] [--every N] [--double N] [--faults WORDS]` prints how many
kills it made. Each run is a forked process that kills itself at its so-manieth step: before and after every
change of the ledger, every flush and rename of a file, and every word to the provider.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from cast_maker import write_face
from talent_factory.core.events import SilentReporter
from talent_factory.datagen.actor import CastOptions, cast_actor
from talent_factory.datagen.cast import CastManifest
from talent_factory.datagen.ledger import LEDGER_FILE, Ledger
from talent_factory.providers.fake import FakeEditor

SLOTS = 3
GOOD = ("ok", "lost-after", "cut")


def small_recipe(path: Path, slots: int = SLOTS) -> Path:
    """The first slots of the shipped recipe, as a recipe of its own."""
    text = (resources.files("talent_factory.datagen.recipes") / "actor_17.toml").read_text("utf-8")
    parts = text.split("[[slot]]")
    path.write_text("[[slot]]".join(parts[: slots + 1]), "utf-8")
    return path


class Fuse:
    """Kills this process at a step; `tick` is safe from any thread."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.count = 0

    def tick(self, _: str = "") -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, work: Callable[..., object]) -> Callable[..., object]:
        def ticking(*args: object, **options: object) -> object:
            self.tick()
            try:
                return work(*args, **options)
            finally:
                self.tick()

        return ticking


def cast(folder: Path, service: Path, faults: dict[str, list[str]], fuse: Fuse) -> CastManifest:
    """One run of the cast, every step of which burns the fuse."""
    change = Ledger._change

    @contextmanager
    def ticking(self: Ledger) -> Iterator[object]:
        fuse.tick()
        with change(self) as base:
            yield base
            fuse.tick()
        fuse.tick()

    Ledger._change = ticking  # type: ignore[assignment,method-assign]
    os.fsync = fuse.around(os.fsync)  # type: ignore[assignment]
    os.replace = fuse.around(os.replace)  # type: ignore[assignment]
    return cast_actor(
        folder / "face.png",
        out=folder / "cast",
        token="dot",
        options=CastOptions(recipe=str(folder / "recipe.toml"), long_side=64, in_flight=2, time_scale=0.0005),
        editor=FakeEditor(service, faults=faults, step=fuse.tick),
        reporter=SilentReporter(),
    )


def in_a_child(work: Callable[[], object]) -> int:
    """The exit status of a forked process that did `work`; negative is a signal."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - a child of fork has no other way to tell
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def faults_of(words: list[str]) -> dict[str, list[str]]:
    """The fault words dealt out to the first slots, one each."""
    names = ["rain_street", "eye_contact", "window_light"]
    return {name: word.split("+") for name, word in zip(names, words, strict=False)}


def trial(folder: Path, *, kills: list[int], faults: dict[str, list[str]]) -> int:
    """Kill at these steps, one run each, then finish. Returns how many kills there were."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_face(folder / "face.png", (96, 96))
    small_recipe(folder / "recipe.toml")
    service = folder / "service"
    made = 0
    for at in kills:
        status = in_a_child(lambda at=at: cast(folder, service, faults, Fuse(at)))  # type: ignore[misc]
        if status == 0:
            break
        assert status == -signal.SIGKILL, f"a run killed at step {at} ended with {status}"
        made += 1
    assert in_a_child(lambda: finish(folder, service, faults)) == 0, f"after kills at {kills[:made]}"
    return made


def finish(folder: Path, service: Path, faults: dict[str, list[str]]) -> None:
    """Let a last run end, and compare what was paid with what there is."""
    made = cast(folder, service, faults, Fuse(None))
    made.require_complete()
    jobs = {job.id: job for job in FakeEditor(service).jobs()}
    good = Counter(job.slot for job in jobs.values() if job.fate in GOOD)
    assert good == {slot.name: 1 for slot in made.slots}, f"paid: {good}"
    assert {slot.job for slot in made.slots} == {job.id for job in jobs.values() if job.fate in GOOD}
    for slot in made.slots:
        assert jobs[slot.job].slot == slot.name
        assert jobs[slot.job].seed == slot.seed
        assert (folder / "cast" / slot.file).is_file()
    ledger = Ledger(folder / "cast" / LEDGER_FILE, provider="fake", remote=True)
    assert ledger.all_live() == ()
    assert Counter(past.state for past in ledger.everything())["done"] == len(made.slots)
    ledger.close()


def main() -> None:
    """Kill at every step of a run, then at random steps of two runs in a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--double", type=int, default=0)
    parser.add_argument("--faults", nargs="*", default=[])
    options = parser.parse_args()
    faults = faults_of(options.faults)
    total, at = 0, options.first
    while trial(options.folder / "trial", kills=[at], faults=faults):
        total += 1
        at += options.every
    dice = random.Random(7)
    for _ in range(options.double):
        kills = [dice.randint(1, at), dice.randint(1, at)]
        total += trial(options.folder / "trial", kills=kills, faults=faults)
    print(total)


if __name__ == "__main__":
    main()
