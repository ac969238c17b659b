"""`talent new`: photos of a person in, a prepared or a trained likeness out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.photo_maker import write_photos

from talent_factory.cli.app import run as talent
from talent_factory.training.families.random_base import make_random_base

ARGUMENTS = ("--class-noun", "man", "--medium", "drawing", "--steps", "2", "--preset", "fast")


def _new(tmp_path: Path, *more: str, base: str = "mini") -> list[str]:
    photos = tmp_path / "photos"
    if not photos.is_dir():
        write_photos(photos, 5, size=(144, 128))
    return [
        "new",
        "Zwx",
        "--photos",
        str(photos),
        "-w",
        str(tmp_path / "w"),
        "--base",
        base,
        *ARGUMENTS,
        *more,
    ]


def test_checks_and_files_without_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talent(_new(tmp_path, "--no-train")) == 0
    shown = capsys.readouterr().out
    assert "5 photos of zwx at 128 px for mini" in shown
    assert "not measured" in shown
    assert "talent train" in shown
    assert (tmp_path / "w" / "people" / "zwx" / "photos" / "30_zwx" / "05.txt").is_file()
    assert not (tmp_path / "w" / "runs").exists()


def test_a_dry_run_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talent([*_new(tmp_path), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 5
    assert [step["name"] for step in told["plan"]["steps"]] == ["dataset", "train", "kit"]
    assert not (tmp_path / "w").exists()


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        talent(["new", "Zwx", "--photos", str(tmp_path / "gone"), "-w", str(tmp_path), "--base", "mini"]) == 1
    )
    error = capsys.readouterr().err
    assert "no such folder" in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_the_whole_way_ends_in_the_registry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / "base"
    make_random_base(base)
    command = _new(tmp_path, "--export", str(tmp_path / "webui"), "--notes", "first try", base=str(base))
    assert talent([*command, "--resolution", "64", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert Path(told["kit"]).is_dir()
    for folder in (tmp_path / "w" / "people" / "zwx" / "lora", tmp_path / "webui"):
        assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json", ".txt", ".png"}
    assert talent(["kit", "registry", "-w", str(tmp_path / "w"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["steps"], row["images"], row["notes"]) == ("Zwx", 2, 5, "first try")
    assert talent([*command, "--resolution", "64"]) == 0  # and again: nothing is done
    assert "prepared before" in capsys.readouterr().out
    # other steps are another training: the one before is put aside, not in the way
    assert talent([*command, "--resolution", "64", "--steps", "3"]) == 0
    assert "max_train_steps was 2 and is 3" in capsys.readouterr().err
    assert (tmp_path / "w" / "runs" / "avatar.identity.zwx.old1").is_dir()


def test_notes_can_be_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talent(["kit", "registry", "-w", str(tmp_path)]) == 0
    assert "no kits yet" in capsys.readouterr().out
    assert talent(["kit", "registry", "avatar.identity.gone", "--note", "x", "-w", str(tmp_path)]) == 1
    assert talent(["kit", "registry", "--note", "x", "-w", str(tmp_path)]) == 2
