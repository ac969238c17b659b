"""The queue with real processes: small stand-ins for a training that crash, fail, wait and stop."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from talent_factory.core.events import SilentReporter
from talent_factory.core.stop import StopSignal
from talent_factory.engines.queue import Device, Ended, Task, devices, run_queue

# A stand-in counts its starts in a file beside it, as a run counts its steps, and then does what it is told.
_STAND_IN = """
import json, os, pathlib, signal, sys, time
place, deeds = pathlib.Path(sys.argv[1]), sys.argv[2].split(",")
started = len(list(place.glob("start*")))
card = os.environ.get("CUDA_VISIBLE_DEVICES", "")
(place / f"start{started}").write_text(f"{card} {time.monotonic()}")
deed = deeds[min(started, len(deeds) - 1)]
if deed == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if deed == "busy":
    print(json.dumps({"error": {"kind": "WorkspaceBusy", "message": "in use by process 1"}}))
    sys.exit(1)
if deed == "broken":
    print("error: the data is bad", file=sys.stderr)
    print(json.dumps({"error": {"kind": "DatasetError", "message": "the data is bad", "remedy": "mend it"}}))
    sys.exit(1)
if deed == "torn":
    print("Segmentation something", file=sys.stderr)
    sys.exit(1)
if deed == "long":
    def saved(*_):
        print(json.dumps({"error": {"kind": "Cancelled", "message": "stopped at step 3"}}), flush=True)
        sys.exit(130)
    signal.signal(signal.SIGTERM, saved)
    (place / "ready").touch()
    time.sleep(60)
if deed == "slow":
    time.sleep(0.5)
(place / "end").write_text(str(time.monotonic()))
print(json.dumps({"kit": str(place / "kit")}))
"""


class _Heard(SilentReporter):
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.progressed: list[tuple[str, int, int]] = []

    def event(self, kind: str, **fields: object) -> None:
        self.events.append((kind, fields))

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        self.progressed.append((stage, done, total))


def _task(folder: Path, name: str, deeds: str) -> Task:
    place = folder / name
    place.mkdir()
    command = (sys.executable, "-I", "-c", _STAND_IN, str(place), deeds)
    return Task(id=name, config=Path(f"{name}.yaml"), command=command, log=folder / "logs" / f"{name}.log")


def _run(tasks: list[Task], places: tuple[Device, ...] = (Device("here"),)) -> tuple[Ended, ...]:
    return run_queue(tasks, places=places, reporter=SilentReporter(), stop=StopSignal())


def test_a_killed_child_starts_again_and_the_others_go_on(tmp_path: Path) -> None:
    tasks = [
        _task(tmp_path, "a", "killed,fine"),
        _task(tmp_path, "b", "broken"),
        _task(tmp_path, "c", "fine"),
    ]
    first, second, third = _run(tasks)
    assert (first.state, first.starts, first.kit) == ("done", 2, str(tmp_path / "a" / "kit"))
    assert (second.state, second.starts, second.message) == ("failed", 1, "the data is bad")
    assert (second.remedy, Path(second.log).is_file()) == ("mend it", True)
    assert (third.state, third.starts) == ("done", 1)


def test_a_child_that_always_dies_is_given_up(tmp_path: Path) -> None:
    (ended,) = _run([_task(tmp_path, "a", "killed")])
    assert (ended.state, ended.starts) == ("failed", 3)
    assert "signal 9" in ended.message


def test_a_child_without_an_answer_is_quoted(tmp_path: Path) -> None:
    (ended,) = _run([_task(tmp_path, "a", "torn")])
    assert (ended.state, ended.message) == ("failed", "Segmentation something")


def test_a_run_that_another_process_works_on_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talent_factory.engines.queue._BUSY_SECONDS", 0.2)
    first, second = _run([_task(tmp_path, "a", "busy,busy,busy,busy,fine"), _task(tmp_path, "b", "fine")])
    assert (first.state, first.starts) == ("done", 5)
    assert second.state == "done"
    # the other one did not wait for it
    assert (tmp_path / "b" / "end").stat().st_mtime <= (tmp_path / "a" / "end").stat().st_mtime


def test_one_process_on_each_device(tmp_path: Path) -> None:
    places = tuple(Device(f"cuda:{n}", (("CUDA_VISIBLE_DEVICES", n),)) for n in ("0", "1"))
    tasks = [_task(tmp_path, name, "slow") for name in "abcd"]
    ended = _run(tasks, places)
    assert {item.state for item in ended} == {"done"}
    spans: dict[str, list[tuple[float, float]]] = {"0": [], "1": []}
    for name in "abcd":
        card, begun = (tmp_path / name / "start0").read_text().split()
        spans[card].append((float(begun), float((tmp_path / name / "end").read_text())))
    for on_card in spans.values():
        assert len(on_card) >= 1
        on_card.sort()
        assert all(one[1] <= other[0] for one, other in pairwise(on_card))
    assert sorted(len(on_card) for on_card in spans.values()) in ([2, 2], [1, 3])


def test_a_stop_lets_children_save(tmp_path: Path) -> None:
    tasks = [_task(tmp_path, "a", "long"), _task(tmp_path, "b", "fine")]
    stop = StopSignal()

    def ask() -> None:
        while not (tmp_path / "a" / "ready").exists():
            time.sleep(0.01)
        stop.request()

    helper = threading.Thread(target=ask)
    helper.start()
    first, second = run_queue(tasks, places=(Device("here"),), reporter=SilentReporter(), stop=stop)
    helper.join()
    assert (first.state, first.message) == ("stopped", "stopped at step 3")
    assert (second.state, second.starts) == ("stopped", 0)


def test_a_child_killed_from_outside(tmp_path: Path) -> None:
    """As the system does when memory runs out: in the middle, without a word."""
    task = _task(tmp_path, "a", "long,fine")

    def kill() -> None:
        while not (tmp_path / "a" / "ready").exists():
            time.sleep(0.01)
        found = [
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdecimal() and str(tmp_path / "a").encode() in _command_line(path)
        ]
        (child,) = found
        os.kill(child, signal.SIGKILL)

    if not Path("/proc/self/cmdline").exists():
        pytest.skip("this system has no /proc to find the child in")
    helper = threading.Thread(target=kill)
    helper.start()
    (ended,) = _run([task])
    helper.join()
    assert (ended.state, ended.starts) == ("done", 2)


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_progress_and_events_are_told(tmp_path: Path) -> None:
    heard = _Heard()
    task = _task(tmp_path, "a", "slow")
    run_queue([task], places=(Device("here"),), reporter=heard, stop=StopSignal(), look=lambda name: (3, 12))
    assert [kind for kind, _ in heard.events] == ["queue_start", "queue_end"]
    assert ("a", 3, 12) in heard.progressed
    assert ("queue", 1, 1) in heard.progressed
    assert json.loads(task.log.with_suffix(".json").read_text())["kit"]


def test_devices_are_cards_or_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [place.name for place in devices("auto", gpus=2)] == ["cuda:0", "cuda:1"]
    assert dict(devices("cuda", gpus=2)[1].environment) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert [place.name for place in devices("cpu", gpus=2)] == ["cpu"]
    assert len(devices("auto", gpus=0)) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [place.name for place in devices("auto", gpus=2)] == ["cuda:3", "cuda:5"]
