"""`talent train` with plans, presets, queues, stop and watch, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from talent_factory.cli import train_watch
from talent_factory.cli.app import run as talent
from talent_factory.training.runs import RunStatus

_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def _images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for index in range(4):
        Image.new("RGB", (64, 64), (40 * index, 90, 200 - 40 * index)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text("portrait of someone_x robot", "utf-8")
    return folder


def _config(path: Path, name: str, images: Path, **keys: Any) -> Path:
    values: dict[str, Any] = {
        "id": f"avatar.identity.{name}",
        "kind": "lora",
        "sdx_version": "1.5",
        "base_model": "mini",
        "train_data_dir": str(images),
        "resolution": 128,
        "token": "someone_x",
        "class_noun": "robot",
        "device": "cpu",
        "sample_every": 0,
        **keys,
    }
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()), "utf-8")
    return path


_SHORT = {"lora_rank": 2, "max_train_steps": 6, "learning_rate": 1e-3, "batch_size": 1, "checkpoint_every": 1}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return _images(tmp_path / "images")


def test_a_dry_run_predicts_and_says_why(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(tmp_path / "a.yaml", "a", images)
    words = ["train", str(config), "--quality", "draft", "--dry-run", "-w", str(tmp_path)]
    assert talent([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fit"]["verdict"] in ("fits", "may fit", "does not fit")
    assert found["fit"]["steps"] == found["config"]["max_train_steps"]
    (line,) = [step for step in found["steps"] if step["name"] == "train"]
    assert line["seconds"] == pytest.approx(found["fit"]["seconds"])
    assert any("4 images" in reason for reason in found["reasons"])
    assert talent([*words, str(_config(tmp_path / "b.yaml", "b", images)), "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert [item["config"]["id"].rpartition(".")[2] for item in both] == ["a", "b"]
    assert not (tmp_path / "runs").exists()
    assert talent(words) == 0
    assert "memory: " in capsys.readouterr().out


def test_a_plan_needs_neither_base_nor_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _config(
        tmp_path / "a.yaml",
        "a",
        tmp_path / "nowhere",
        base_model="someone/some-model",
        preset="standard",
        device="cpu",
    )
    assert talent(["train", "plan", str(config), "-w", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["max_train_steps"] == 1200
    # SD 1.5 in fp32 with its text encoder and autoencoder; on a CPU 15 % of the UNet is held twice
    whole = 4 * (859_520_964 + 123_060_480 + 83_653_863)
    assert found["fit"]["memory"]["weights"] == whole + int(0.15 * 4 * 859_520_964)
    assert talent(["train", "plan", str(config), "--preset", "best", "-w", str(tmp_path)]) == 2
    assert "no preset called 'best'" in capsys.readouterr().err


def test_a_queue_is_checked_before_it_begins(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = _config(tmp_path / "a.yaml", "a", images, **_SHORT)
    twin = _config(tmp_path / "b.yaml", "a", images, **_SHORT)
    bad = _config(tmp_path / "c.yaml", "c", images, **{**_SHORT, "lora_rnak": 3})
    empty = _config(tmp_path / "d.yaml", "d", tmp_path / "nowhere", **_SHORT)
    for other, words in ((twin, "both train"), (bad, "'lora_rank'"), (empty, "no such folder")):
        assert talent(["train", str(good), str(other), "-w", str(tmp_path)]) in (1, 2)
        said = capsys.readouterr().err
        assert words in said
        assert str(other) in said  # of several configs, which one it is
    assert not (tmp_path / "runs").exists()


def test_stop_and_watch_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talent(["train", "stop", "avatar.identity.nobody", "-w", str(tmp_path)]) == 1
    assert "holds no run" in capsys.readouterr().err
    assert talent(["train", "status", "--watch", "-w", str(tmp_path)]) == 0
    assert "no runs" in capsys.readouterr().out
    assert talent(["train", "status", "--watch", "--json", "-w", str(tmp_path)]) == 2


def test_watch_shows_each_change_until_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    def at(step: int, state: Any) -> list[RunStatus]:
        return [
            RunStatus(
                run="r",
                id="avatar.style.x",
                state=state,
                step=step,
                steps=9,
                loss=0.5,
                checkpoint="",
                next="",
            )
        ]

    looks = iter([at(1, "running"), at(1, "running"), at(4, "running"), at(9, "finished")])
    train_watch.watch(lambda: next(looks), Path("runs"), seconds=0.001)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "avatar.style.x: running at step 1 of 9",
        "avatar.style.x: running at step 4 of 9",
        "avatar.style.x: finished at step 9 of 9",
    ]
    assert "left" in lines[1]


def _begin(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "talent_factory.cli.app", *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_ENVIRONMENT
    )


def _wait_for(path: Path, *, lines: int = 1, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not (path.is_file() and path.read_bytes().count(b"\n") >= lines):
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the child by its lock and /proc")
def test_a_queue_survives_a_killed_training(tmp_path: Path, images: Path) -> None:
    """Real trainings on the embedded base: the first child gets a real SIGKILL in the middle."""
    names = ("a", "b")
    long = {**_SHORT, "max_train_steps": 25}
    configs = [_config(tmp_path / f"{name}.yaml", name, images, **long) for name in names]
    broken = _config(tmp_path / "c.yaml", "c", images, **{**long, "learning_rate": 1.0, "max_grad_norm": 1e9})
    queue = _begin("train", *map(str, [*configs, broken]), "-w", str(tmp_path), "--json")
    try:
        run = tmp_path / "runs" / "avatar.identity.a"
        _wait_for(run / "loss.jsonl", lines=3)
        victim = int((run / ".lock").read_text())
        assert victim != queue.pid
        os.kill(victim, signal.SIGKILL)
        out, err = queue.communicate(timeout=280)
    finally:
        queue.terminate()  # after a failure above; it takes its children along
    ended = {item["id"].rpartition(".")[2]: item for item in json.loads(out)}
    assert (ended["a"]["state"], ended["a"]["starts"]) == ("done", 2), err
    assert (ended["b"]["state"], ended["b"]["starts"]) == ("done", 1), err
    for name in names:
        assert (Path(ended[name]["kit"]) / "talent.json").is_file()
    # such a rate spoils the weights, which the packing refuses
    assert ended["c"]["state"] == "failed"
    assert queue.returncode == 3


@pytest.mark.slow
def test_stop_saves_and_resume_goes_on(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(tmp_path / "a.yaml", "a", images, **{**_SHORT, "max_train_steps": 5000})
    training = _begin("train", str(config), "-w", str(tmp_path))
    drain = threading.Thread(target=training.communicate)
    drain.start()
    try:
        _wait_for(tmp_path / "runs" / "avatar.identity.a" / "loss.jsonl", lines=3)
        assert talent(["train", "stop", "avatar.identity.a", "-w", str(tmp_path), "--json"]) == 0
    except BaseException:
        training.kill()
        raise
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "stopped"
    assert found["step"] >= 3
    drain.join()
    assert training.returncode == 130
    assert talent(["train", "status", "-w", str(tmp_path)]) == 0
    assert "stopped at step" in capsys.readouterr().out
