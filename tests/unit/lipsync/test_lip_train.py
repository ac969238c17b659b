"""Training: it learns, stops and goes on bit for bit, counts the same samples however they are cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lip_clips import make_clips
from lip_training import StopAfter, small_config, train_in_parts
from talent_factory.core.errors import (
    Cancelled,
    ClipError,
    ConfigError,
    FileError,
    ResumeRefused,
    TrainingDiverged,
    UsageError,
)
from talent_factory.lipsync.actor import WEIGHTS, load_actor
from talent_factory.lipsync.config import LipsyncConfig
from talent_factory.lipsync.train.folders import TENSORS
from talent_factory.lipsync.train.run import train
from talent_factory.lipsync.train.session import make_pace, read_run


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    make_clips(tmp_path / "clips", (14, 9, 11))
    return tmp_path / "clips"


def log(run: Path, name: str = "metrics.jsonl") -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def same(one: Path, other: Path, *names: str) -> None:
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


EVERYTHING = (
    "metrics.jsonl",
    "validation.jsonl",
    f"checkpoint-4/{TENSORS}",
    f"checkpoint-4/unet/{WEIGHTS}",
    "checkpoint-4/lipsync.json",
    "validation/step-000004.png",
)


def test_it_learns_and_says_so(dataset: Path, tmp_path: Path) -> None:
    config = small_config(
        dataset, tmp_path / "run", max_train_steps=16, validation_steps=8, ema_decay=0.5, learning_rate=1e-2
    )
    told = StopAfter(10**9)
    result = train(config, reporter=told)
    lines = log(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(1, 17))
    losses = [line["loss"] for line in lines]
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:2])
    assert lines[0]["learning_rate"] == 1e-2
    assert lines[-1]["learning_rate"] < 2e-4
    assert result.step == 16
    assert result.checkpoint == tmp_path / "run" / "checkpoint-16"
    assert [line["step"] for line in log(tmp_path / "run", "validation.jsonl")] == [8, 16]
    assert set(result.validation) == {"latent_l1", "mouth_psnr", "mouth_ssim"}
    assert any("2 clips" in line or "1 clips" in line for line in told.lines)
    assert read_run(tmp_path / "run").config == config


def test_a_stop_anywhere_leaves_no_trace(dataset: Path, tmp_path: Path) -> None:
    train(small_config(dataset, tmp_path / "one"))
    # at the end of a step, and twice within one
    train_in_parts(small_config(dataset, tmp_path / "two"), 6, 10, 16)
    same(tmp_path / "one", tmp_path / "two", *EVERYTHING)


def test_a_judge_and_time_resume_exactly_too(dataset: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "gan_loss": 0.1, "gan_start": 1, "perceptual_loss": 0.1, "frames": 2, "temporal": True,
        "feed_mask": True, "residual": True, "mask": {"kind": "ellipse"}, "gradient_checkpointing": True,
    }  # fmt: skip
    train(small_config(dataset, tmp_path / "one", **changes))
    train_in_parts(small_config(dataset, tmp_path / "two", **changes), 14)
    same(tmp_path / "one", tmp_path / "two", *EVERYTHING, "checkpoint-4/temporal.safetensors")
    lines = log(tmp_path / "one")
    assert lines[0]["judge"] == 0.0
    assert lines[1]["judge"] > 0
    assert lines[1]["features"] > 0
    moved = load_file(tmp_path / "one" / "checkpoint-4" / "temporal.safetensors")
    assert any(bool(value.any()) for name, value in moved.items() if name.endswith("out.weight"))


@pytest.mark.parametrize("micro", [3, 6])
def test_the_cut_of_a_step_changes_only_rounding(dataset: Path, tmp_path: Path, micro: int) -> None:
    train(small_config(dataset, tmp_path / "one", max_train_steps=2))
    train(small_config(dataset, tmp_path / "cut", max_train_steps=2, micro_batch_size=micro))
    for one, other in zip(log(tmp_path / "one"), log(tmp_path / "cut"), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_the_exported_actor_holds_the_average(dataset: Path, tmp_path: Path) -> None:
    train(small_config(dataset, tmp_path / "run", ema_decay=0.5))
    actor = load_actor(tmp_path / "run")
    assert actor.card.step == 4
    assert actor.card.codec_id == "dct8"
    assert actor.card.extractor_id == "mel-1"
    state = load_file(tmp_path / "run" / "checkpoint-4" / TENSORS)
    average = [state[f"ema.{number}"] for number in range(len(list(actor.unet.parameters())))]
    for found, wanted in zip(actor.unet.parameters(), average, strict=True):
        assert torch.equal(found, wanted)
    name = "conv_in.weight"
    assert not torch.equal(actor.unet.state_dict()[name], state[f"painter/weights.{name}"])


def test_another_training_is_not_resumed(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(small_config(dataset, run, max_train_steps=1))
    for changes, words in (
        ({"learning_rate": 1e-3}, "optimizer.learning_rate"),
        ({"seed": 5}, "train.seed"),
        ({"vae_pretrained_model_name_or_path": "dct4"}, "codec was dct8"),
        ({"mask": {"top": 0.4}}, "mask"),
        ({"train_batch_size": 4}, "samples_of_a_step"),
    ):
        with pytest.raises(ResumeRefused, match=words):
            train(small_config(dataset, run, max_train_steps=1, resume_from_checkpoint="latest", **changes))
    free = small_config(
        dataset, run, max_train_steps=1, resume_from_checkpoint="latest", validation_samples=2,
        micro_batch_size=6,
    )  # fmt: skip
    assert train(free).step == 1
    make_clips(tmp_path / "others", (14, 9, 12))
    with pytest.raises(ResumeRefused, match="dataset_sha256"):
        train(small_config(tmp_path / "others", run, max_train_steps=1, resume_from_checkpoint="latest"))


def test_a_refused_resume_changes_nothing(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(small_config(dataset, run, max_train_steps=1))
    before = (run / "run.json").read_bytes()
    with pytest.raises(ResumeRefused):
        train(small_config(dataset, run, max_train_steps=1, seed=5, resume_from_checkpoint="latest"))
    assert (run / "run.json").read_bytes() == before


def test_a_run_is_never_begun_over(dataset: Path, tmp_path: Path) -> None:
    train(small_config(dataset, tmp_path / "run", max_train_steps=1))
    with pytest.raises(UsageError, match="holds a training already") as caught:
        train(small_config(dataset, tmp_path / "run", max_train_steps=1))
    assert "talent lipsync resume" in caught.value.remedy


def test_fine_tuning_begins_from_bare_weights(dataset: Path, tmp_path: Path) -> None:
    train(small_config(dataset, tmp_path / "run", ema_decay=0.0, validation_steps=0))
    weights = tmp_path / "run" / "checkpoint-4" / "unet"
    config = small_config(
        dataset, tmp_path / "more", resume_from_checkpoint=str(weights), max_train_steps=1, validation_steps=0
    )
    train(config)
    alone = train(small_config(dataset, tmp_path / "fresh", max_train_steps=1, validation_steps=0))
    assert alone.loss is not None
    # the same first samples: what was learnt shows at once
    assert log(tmp_path / "more")[0]["loss"] < 0.97 * alone.loss
    with pytest.raises(FileError, match="neither a state nor UNet weights"):
        train(small_config(dataset, tmp_path / "none", resume_from_checkpoint=str(tmp_path / "nothing")))
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ResumeRefused, match="do not fit the network"):
        train(small_config(dataset, tmp_path / "bad", resume_from_checkpoint=str(tmp_path / "x.safetensors")))
    # told at once: hours of clips are listened to for minutes
    assert not (tmp_path / "none").exists()
    assert not list((tmp_path / "bad").rglob("energies-*"))


def test_a_loss_that_is_no_number_stops_before_the_weights(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    told = StopAfter(12)
    with pytest.raises(Cancelled):
        train(small_config(dataset, run), reporter=told, stop=told.stop)
    before = (run / "checkpoint-2" / TENSORS).read_bytes()
    for path in (dataset / "audio").rglob("*.npy"):
        np.save(path, np.full((10, 384), 3e38, np.float32), allow_pickle=False)
    with pytest.raises(TrainingDiverged, match="step 3 is no finite number") as caught:
        train(small_config(dataset, run, resume_from_checkpoint="latest"))
    assert "resume" in caught.value.remedy
    assert (run / "checkpoint-2" / TENSORS).read_bytes() == before


def test_a_missing_file_stops_with_its_name(dataset: Path, tmp_path: Path) -> None:
    for path in (dataset / "audio" / "HDTF-0001").glob("*.npy"):
        path.unlink()
    config = small_config(
        dataset, tmp_path / "run", silence=0, mouth_reference=0, validation_clips=["HDTF-0002"]
    )
    with pytest.raises(ClipError, match="HDTF-0001"):
        train(config)


def test_a_clip_without_files_is_refused_before_the_first_step(dataset: Path, tmp_path: Path) -> None:
    (dataset / "aligned-frames" / "HDTF-0003").rename(dataset / "aligned-frames" / "away")
    with pytest.raises(ClipError, match=r"1 of 3 clips are not whole .* lacks 11 files"):
        train(small_config(dataset, tmp_path / "run"))
    assert not (tmp_path / "run" / "latest").exists()


def test_half_precision_on_a_processor_is_full_precision(dataset: Path, tmp_path: Path) -> None:
    told = StopAfter(10**9)
    train(small_config(dataset, tmp_path / "half", max_train_steps=1, mixed_precision="fp16"), reporter=told)
    assert any("training in fp32 on cpu" in line for line in told.lines)
    train(small_config(dataset, tmp_path / "full", max_train_steps=1))
    same(tmp_path / "half", tmp_path / "full", "metrics.jsonl")


def test_the_size_of_the_frames_must_be_that_of_the_config(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="32 pixels"):
        train(small_config(dataset, tmp_path / "run", image_size=64))


def test_processes_share_a_step_or_are_refused() -> None:
    config = LipsyncConfig()
    pace = make_pace(config, processes=8, rank=3)
    assert (pace.pieces, pace.samples) == (64, 6144)
    seen = sorted(
        g
        for rank in range(8)
        for piece in (0, 63)
        for first in (make_pace(config, processes=8, rank=rank).first(2, piece),)
        for g in range(first, first + 12)
    )
    assert seen == [*range(2 * 6144, 2 * 6144 + 96), *range(3 * 6144 - 96, 3 * 6144)]
    with pytest.raises(ConfigError, match="5 processes") as refused:
        make_pace(config, processes=5, rank=0)
    assert "as a multiple of 5" in refused.value.remedy


def test_pieces_that_fit_the_processes_are_named() -> None:
    sizes = {"train_batch_size": 12, "gradient_accumulation_steps": 1}
    config = LipsyncConfig.model_validate({"train": sizes})
    with pytest.raises(ConfigError, match="12 samples of a step do not divide") as refused:
        make_pace(config, processes=3, rank=0)
    assert refused.value.remedy == "--set micro_batch_size=4: the step stays the same"
    smaller = LipsyncConfig.model_validate({"train": {**sizes, "micro_batch_size": 4}})
    assert make_pace(smaller, processes=3, rank=0).pieces == 1
