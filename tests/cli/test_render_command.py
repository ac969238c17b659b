"""`talent render` and `talent kit examples`: what they draw, what they refuse, and how they stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foundry_maker import IDENTITY, STYLE, add_kit
from talent_factory.cli.app import run
from talent_factory.foundry.recipe import read_recipe
from talent_factory.training.families.random_base import make_random_base


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with an identity and a style of a tiny base; the current folder is it."""
    base = make_random_base(tmp_path / "base", seed=1)
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "talents" / "avatar"
    root.mkdir(parents=True)
    add_kit(root, base, IDENTITY, seed=1, token="dot_test")
    add_kit(root, base, STYLE, seed=2)
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capsys.readouterr()
    assert run([*words, "--base", "base", "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_prompts_of_a_file_are_drawn_in_batches(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.txt").write_text("ink portrait\n# not this\nflat portrait\n")
    found = answer(
        capsys, "render", "-k", IDENTITY, "--prompts", "prompts.txt", "-n", "2", "--seed", "5",
        "--steps", "2", "--batch", "3", "--size", "48x32", "--preview", "1",
    )  # fmt: skip
    images = found["images"]
    assert isinstance(images, list)
    recipes = [read_recipe(Path(image)) for image in images]
    assert [(one.prompt, one.seed, one.batch) for one in recipes] == [
        ("ink portrait", 5, 3),
        ("ink portrait", 6, 3),
        ("flat portrait", 5, 3),
        ("flat portrait", 6, 1),
    ]
    assert (recipes[0].width, recipes[0].height) == (48, 32)
    before = [Path(image).stat().st_mtime_ns for image in images]
    again = answer(
        capsys, "render", "-k", IDENTITY, "--prompts", "prompts.txt", "-n", "2", "--seed", "5",
        "--steps", "2", "--batch", "3", "--size", "48x32",
    )  # fmt: skip
    assert again["images"] == images
    assert [Path(image).stat().st_mtime_ns for image in images] == before


def test_an_introduction_and_its_dry_run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["render", "-k", IDENTITY, "--kind", "expressions", "--steps", "1"]
    planned = answer(capsys, *words, "--dry-run")
    assert isinstance(planned["shots"], list)
    assert len(planned["shots"]) == 9
    assert not Path(str(planned["folder"])).exists()
    drawn = answer(capsys, *words)
    assert drawn["folder"] == planned["folder"]
    assert isinstance(drawn["images"], list)
    assert len(drawn["images"]) == 9
    assert Path(str(drawn["sheet"])).is_file()


def test_examples_are_drawn_into_the_kit(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["kit", "examples", IDENTITY, "-n", "3", "--steps", "1"]
    kit = workspace / "talents" / "avatar" / IDENTITY
    before = (kit / "talent.json").read_bytes()
    planned = answer(capsys, *words, "--dry-run")
    assert isinstance(planned["images"], list)
    assert len(planned["images"]) == 3
    assert (kit / "talent.json").read_bytes() == before
    filled = answer(capsys, *words)
    assert filled["examples"] == ["examples/01.png", "examples/02.png", "examples/03.png"]
    assert (kit / "preview.png").is_file()
    assert (kit / "talent.json").read_bytes() != before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--kind", "portrait"), "there is no kind"),
        (("--kind", "hero", "-p", "a"), "prompts of its own"),
        (("--size", "big"), "is no size"),
        (("--size", "30x32"), "30x32 is not possible, use multiples of 8 up to 4096, such as 32x32"),
        (("--size", "30x32", "--dry-run"), "is not possible"),
        (("--prompts", "missing.txt"), "cannot be read"),
        (("--control", "a.png"), "a picture and a ControlNet"),
        (("--control", "a.png", "--control-model", "base"), "there is no picture"),
        (("-k", "avatar.style.wobbla"), "there is no kit avatar.style.wobbla"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_two_lines(
    workspace: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert run(["render", "-k", IDENTITY, "--base", "base", *words]) in (1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert told in lines[0]
    assert lines[1].startswith("next: ")


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["render", "-p", "a", "-n", "400", "--batch", "1", "--steps", "20", "-o", "out", "--base", "base"]
    process = subprocess.Popen(
        [sys.executable, "-m", "talent_factory.cli.app", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 120
        while not (workspace / "out" / "003.png").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "of 400 images in out" in told
    kept = sorted(path.name for path in (workspace / "out").iterdir())
    assert kept[:3] == ["001.png", "002.png", "003.png"]
    assert len(kept) < 400
    assert all(name.endswith(".png") and not name.startswith(".") for name in kept)
