"""`talent train import`: a kohya training becomes a YAML file, and every difference is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from talent_factory.cli.app import run as talent
from talent_factory.training.config import load_train_config


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A command line with one option that is not known, and its images."""
    folder = tmp_path / "img" / "10_zwx man"
    folder.mkdir(parents=True)
    Image.new("RGB", (32, 32), (9, 60, 90)).save(folder / "a.png")
    path = tmp_path / "run.sh"
    path.write_text(
        "accelerate launch train_network.py --pretrained_model_name_or_path=mini "
        f"--train_data_dir={tmp_path / 'img'} --output_name=zwx "
        "--max_train_epochs=3 --network_dim=8 --fancy=1\n"
    )
    return path


def test_the_config_is_written_and_the_rest_is_shown(
    script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "ours.yaml"
    assert talent(["train", "import", str(script), "--out", str(target)]) == 0
    shown = capsys.readouterr().out
    assert "fancy" in shown
    assert "1 unknown" in shown
    assert "talent train" in shown
    config = load_train_config(target)
    assert (config.token, config.max_train_steps, config.lora_rank) == ("zwx", 30, 8)


def test_json_tells_a_program_everything(
    script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "ours.yaml"
    assert talent(["train", "import", str(script), "--out", str(target), "--token", "abc", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["keys"]["token"] == "abc"
    assert {note["outcome"] for note in told["notes"]} >= {"mapped", "unknown"}


def test_an_existing_file_is_not_overwritten(
    script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "ours.yaml"
    target.write_text("mine")
    assert talent(["train", "import", str(script), "--out", str(target)]) == 2
    assert "--out" in capsys.readouterr().err
    assert target.read_text() == "mine"


def test_the_option_of_train_does_the_same(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(script.parent)
    assert talent(["train", "--import-kohya", "run.sh"]) == 0
    assert load_train_config(script.parent / "run.yaml").token == "zwx"
    assert talent(["train", "--import-kohya", "run.sh", "start", "x.yaml"]) == 2
    assert "trains nothing" in capsys.readouterr().err


def test_images_are_gathered_when_asked(
    script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, target = tmp_path / "all", tmp_path / "ours.yaml"
    assert talent(["train", "import", str(script), "--out", str(target), "--collect", str(out)]) == 0
    assert (out / "img" / "10_zwx man" / "1_a.png").is_file()
    assert load_train_config(target).train_data_dir == str(out)
