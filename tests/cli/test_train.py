"""`talent train`: status and resume without a pipeline, errors as one line with the next step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talent_factory.cli.app import run as talent
from talent_factory.core.errors import Cancelled
from talent_factory.core.events import SilentReporter
from talent_factory.core.stop import StopSignal
from talent_factory.training.config import TrainConfig
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.loop import train
from talent_factory.training.tiny_data import make_tiny_dataset

TALENT_ID = "avatar.identity.selftest"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random base and a dataset."""
    folder = tmp_path_factory.mktemp("material")
    make_random_base(folder / "base")
    make_tiny_dataset(folder / "dataset")
    return folder


class _StopAfterTwo(SilentReporter):
    def __init__(self) -> None:
        self.stop = StopSignal()

    def event(self, kind: str, **fields: object) -> None:
        if kind == "step" and fields["step"] == 2:
            self.stop.request()


@pytest.fixture
def workspace(material: Path, tmp_path: Path) -> Path:
    """A workspace with one run that was stopped at step 2 of 4."""
    config = TrainConfig(
        id=TALENT_ID,
        kind="lora",
        sdx_version="1.5",
        base_model=str(material / "base"),
        train_data_dir="unused",
        resolution=64,
        lora_rank=2,
        max_train_steps=4,
        learning_rate=1e-3,
        batch_size=2,
        token="selftest",
        sample_every=0,
        device="cpu",
    )
    reporter = _StopAfterTwo()
    with pytest.raises(Cancelled):
        train(
            config,
            dataset=material / "dataset",
            run=tmp_path / "runs" / TALENT_ID,
            reporter=reporter,
            stop=reporter.stop,
        )
    return tmp_path


def test_status_tells_how_to_go_on(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talent(["train", "status", "--workspace", str(workspace), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["state"] == "stopped"
    assert (found["step"], found["steps"]) == (2, 4)
    assert found["next"].startswith("talent train resume")
    assert talent(["train", "status", "--workspace", str(workspace)]) == 0
    assert TALENT_ID in capsys.readouterr().out


def test_resume_by_id_and_by_path(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talent(["--quiet", "train", "resume", TALENT_ID, "-w", str(workspace), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["resumed_from"], found["steps"]) == (2, 4)
    assert found["kit"] == str(workspace / "talents" / "avatar" / TALENT_ID)
    packed = (Path(found["kit"]) / "talent.json").stat().st_mtime_ns
    assert talent(["train", "resume", str(workspace / "runs" / TALENT_ID)]) == 0
    assert f"is ready: {found['kit']}" in capsys.readouterr().out
    assert (Path(found["kit"]) / "talent.json").stat().st_mtime_ns == packed


def test_a_run_in_no_workspace_is_trained_without_a_kit(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = (workspace / "runs" / TALENT_ID).rename(tmp_path / "elsewhere")
    assert talent(["--quiet", "train", "resume", str(moved)]) == 0
    assert "no kit" in capsys.readouterr().out
    assert (moved / "lora.safetensors").is_file()
    assert not (tmp_path / "talents").exists()


def test_an_empty_workspace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talent(["train", "status", "-w", str(tmp_path)]) == 0
    assert "no runs" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../nowhere", "Avatar", "avatar.identity.x\n"])
def test_an_unsafe_name_is_no_path(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert talent(["train", "resume", name, "-w", str(tmp_path / "w")]) == 2
    assert "talent id" in capsys.readouterr().err


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talent(["train", "resume", TALENT_ID, "-w", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "holds no run" in error
    assert "next: " in error


def test_a_bad_config_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("id: avatar.style.x\nlora_rnak: 4\n")
    for words in (["train", str(path)], ["train", "start", str(path), "--dry-run"]):
        assert talent([*words, "-w", str(tmp_path)]) == 2
        assert "nearest valid key: 'lora_rank'" in capsys.readouterr().err


def test_what_cannot_begin_puts_no_earlier_run_aside(
    material: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = workspace / "fresh.yaml"
    config.write_text(
        f"""id: {TALENT_ID}
kind: lora
sdx_version: "1.5"
base_model: {material / "base"}
train_data_dir: nowhere
resolution: 64
lora_rank: 2
max_train_steps: 4
learning_rate: 1e-3
batch_size: 2
token: selftest
"""
    )
    assert talent(["train", str(config), "--fresh", "-w", str(workspace)]) == 1
    assert "no such folder" in capsys.readouterr().err
    assert [path.name for path in (workspace / "runs").iterdir()] == [TALENT_ID]
