"""The module commands keep their arguments, output and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kit_maker import KIT_ID, make_base, make_kit
from talent_factory.image import index_avatar_talents, train_avatar_lora, validator
from talent_factory.kits import keys


@pytest.fixture
def talents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default folder with a good kit and one whose weights are text."""
    base = make_base(tmp_path / "base")
    monkeypatch.setattr(keys, "MINI_FOLDER", base)
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "talents" / "avatar"
    make_kit(root, base, work=tmp_path / "work")
    mock = make_kit(root, base, work=tmp_path / "work", id="avatar.style.mock", token=None)
    (mock / "weights.safetensors").write_text("# Mock weights file\n")
    return root


def test_validator(talents: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validator.main([]) == 1
    assert "2 kits in talents/avatar: 1 valid, 1 invalid" in capsys.readouterr().out
    assert validator.main(["--talent-id", KIT_ID, "--verbose"]) == 0
    assert validator.main(["--talent-id", "avatar.style.mock"]) == 1
    capsys.readouterr()
    assert validator.main(["--json", "--base-dir", str(talents)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [kit["valid"] for kit in document["kits"]] == [True, False]


def test_index(talents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert index_avatar_talents.main([]) == 0
    assert [entry["id"] for entry in json.loads(capsys.readouterr().out)] == [KIT_ID]
    arguments = ["--output", "index.json", "--pretty", "--include-invalid", "--base-dir", str(talents)]
    assert index_avatar_talents.main(arguments) == 0
    assert capsys.readouterr().out == ""
    text = (tmp_path / "index.json").read_text()
    assert [entry["valid"] for entry in json.loads(text)] == [True, False]
    assert text.startswith("[\n  {")


def test_train_hands_the_config_to_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from talent_factory import pipeline

    called: list[Path] = []

    def train_kit(config_path: Path, **options: object) -> Path:
        called.append(config_path)
        return Path("talents/avatar") / KIT_ID

    monkeypatch.setattr(pipeline, "train_kit", train_kit)
    assert train_avatar_lora.main(["--config", "configs/avatar/dot_kairo.yaml"]) == 0
    assert called == [Path("configs/avatar/dot_kairo.yaml")]
    assert KIT_ID in capsys.readouterr().out


@pytest.mark.parametrize("module", ["train_avatar_lora", "validator", "index_avatar_talents"])
def test_help_and_usage_as_processes(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"talent_factory.image.{module}"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0
    assert f"talent_factory.image.{module}" in done.stdout
    wrong = subprocess.run([*command, "--wrong"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert wrong.returncode == 2


def test_a_missing_folder_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "talent_factory.image.validator"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: talents/avatar is no folder of kits\nnext: ")
    assert "Traceback" not in done.stderr
