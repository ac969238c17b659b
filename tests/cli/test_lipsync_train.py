"""`talent lipsync train` and `resume`: a bill before, one JSON document after, one line for mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lip_clips import make_clips
from lip_training import small_unet
from talent_factory.cli.app import run as command

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "lipsync"


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    """Options that make the shipped configs a training of a second."""
    make_clips(tmp_path / "clips", (14, 9, 11))
    keys = {
        "local_data_base_url": tmp_path / "clips",
        "metadata_url": "null",
        "output_dir": tmp_path / "run",
        "IMAGE_SIZE": 32,
        "validation_clips": 0.4,
        "unet_config_file": small_unet(tmp_path),
        "vae_pretrained_model_name_or_path": "dct8",
        "gradient_accumulation_steps": 1,
        "train_batch_size": 2,
        "max_train_steps": 2,
        "validation_steps": 1,
        "validation_samples": 2,
        "device": "cpu",
    }
    return [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def talent(*arguments: str) -> int:
    return command(["--progress", "none", "lipsync", *arguments])


def test_train_then_resume(tmp_path: Path, sets: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert talent("train", "-c", str(CONFIGS), *sets, "--json") == 0
    done = answer(capsys)
    assert done["step"] == 2
    assert Path(done["checkpoint"]).is_dir()
    assert set(done["validation"]) == {"latent_l1", "mouth_psnr", "mouth_ssim"}
    shutil.rmtree(tmp_path / "run" / "checkpoint-2")
    assert talent("resume", str(tmp_path / "run"), "--json") == 0
    assert answer(capsys)["loss"] == done["loss"]
    assert talent("train", "-c", str(CONFIGS), *sets) == 2
    assert "talent lipsync resume" in capsys.readouterr().err


def test_a_dry_run_shows_the_bill_and_makes_nothing(
    tmp_path: Path, sets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert talent("train", "-c", str(CONFIGS), *sets, "--dry-run", "--json") == 0
    bill = answer(capsys)["bill"]
    assert bill["samples"] == 4
    assert bill["checkpoints"] == 2
    assert bill["weights_each"] == 4 * bill["parameters"]
    assert bill["state_each"] == 4 * bill["weights_each"]
    assert not (tmp_path / "run").exists()


def test_a_bill_counts_what_a_loss_on_pixels_costs(
    sets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = (
        "train",
        "-c",
        str(CONFIGS),
        *sets,
        "--set",
        "vae_pretrained_model_name_or_path=mini",
        "--dry-run",
    )
    assert talent(*line) == 0
    assert "for its pixels" in capsys.readouterr().out
    assert talent(*line, "--set", "pixel_loss=0", "--json") == 0
    bill = answer(capsys)["bill"]
    assert bill["decoding"] == 0
    assert talent(*line, "--json") == 0
    told = answer(capsys)["bill"]
    assert told["decoding"] > 0
    assert told["flops"] == bill["flops"]


def test_a_dry_run_refuses_frames_of_another_size(
    sets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert talent("train", "-c", str(CONFIGS), *sets, "--set", "IMAGE_SIZE=64", "--dry-run") == 1
    assert "--set IMAGE_SIZE=32" in capsys.readouterr().err


def test_without_files_all_keys_are_at_their_defaults(
    tmp_path: Path, sets: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert talent("train", *sets, "--dry-run", "--json") == 0
    assert answer(capsys)["bill"]["samples"] == 4
    assert talent("train", *sets, "--set", "local_data_base_url=null", "--dry-run") == 0
    assert "no clips are named yet" in capsys.readouterr().out
    shutil.copytree(CONFIGS, tmp_path / "configs" / "lipsync")
    (tmp_path / "configs" / "lipsync" / "data.yaml").unlink()
    assert talent("train", *sets, "--dry-run") == 2
    assert "holds no data.yaml" in capsys.readouterr().err


def test_a_dry_run_tells_that_the_list_of_clips_is_missing(
    tmp_path: Path, sets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ("train", "-c", str(CONFIGS), *sets, "--dry-run", "--json")
    assert talent(*line) == 0
    assert answer(capsys)["missing"] is None
    # the shipped files look beside the frames, so one key changes the dataset
    assert talent(*line, "--set", f"local_data_base_url={tmp_path / 'mine'}") == 0
    assert answer(capsys)["missing"] == str(tmp_path / "mine" / "metadata.npz")


def test_the_bill_of_the_full_network_warns_of_its_disk(capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--set", "vae_pretrained_model_name_or_path=dct4", "--set", "device=cpu")
    assert talent("train", "-c", str(CONFIGS), *small, "--dry-run", "--json") == 0
    bill = answer(capsys)["bill"]
    assert bill["parameters"] > 849e6
    assert bill["checkpoints"] == 50
    assert bill["disk"] > 150e9
    assert talent("train", "-c", str(CONFIGS), *small, "--set", "learning_rate=0.005", "--dry-run") == 0
    assert "learning rate 0.005 at its highest, which is likely to destroy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "-c", "nowhere"), "data.yaml"),
        (("train", "-c", str(CONFIGS), "--set", "scale_lr=true"), "would destroy the network"),
        (("train", "-c", str(CONFIGS), "--set", "max_steps=3"), "max_train_steps"),
        (("resume", "nowhere"), "run.json"),
        (
            ("train", "-c", str(CONFIGS), "--set", "resume_from_checkpoint=gone", "--dry-run"),
            "gone holds neither a state nor UNet weights",
        ),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talent(*arguments) != 0
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
