"""Presets, the quality dial and device profiles fill what a user left open, say why, and never more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from talent_factory.core.errors import ConfigError, UsageError
from talent_factory.core.workspace import Workspace
from talent_factory.training import devices, profiles
from talent_factory.training.config import NEUTRAL_KEYS, TrainConfig, load_train_config
from talent_factory.training.devices import DeviceFacts, known_flops
from talent_factory.training.filling import filled
from talent_factory.training.presets import PRESETS

GB = 1 << 30


def _facts(kind: Any, memory: float, *, bf16: bool = True, free: float | None = None) -> DeviceFacts:
    return DeviceFacts(
        kind=kind,
        name=f"a {kind}",
        memory=int(memory * GB),
        free=int((memory if free is None else free) * GB),
        cores=8,
        bf16=bf16,
    )


CARD_12, CARD_140 = _facts("cuda", 12), _facts("cuda", 140)
APPLE, CPU = _facts("mps", 12), _facts("cpu", 16)


def _data(**keys: Any) -> dict[str, Any]:
    return {
        "id": "avatar.identity.someone",
        "kind": "lora",
        "sdx_version": "1.5",
        "base_model": "someone/some-model",
        "train_data_dir": "nowhere",
        "resolution": 512,
        "token": "someone_x",
        **keys,
    }


def _filled(facts: DeviceFacts, **keys: Any) -> tuple[TrainConfig, str]:
    chosen = filled(_data(**keys), source="test", facts=facts)
    return TrainConfig(**chosen.values), "\n".join(chosen.reasons)


def test_a_config_without_the_three_words_is_left_as_it_is() -> None:
    chosen = filled(_data(batch_size=3), source="test", facts=CARD_12)
    assert chosen.values == _data(batch_size=3)
    assert chosen.reasons == ()


def test_standard_is_what_its_name_promises() -> None:
    config, reasons = _filled(CARD_12, preset="standard")
    assert (config.lora_rank, config.alpha, config.learning_rate) == (16, 8.0, 1e-4)
    assert (config.train_text_encoder, config.text_encoder_lr) == (True, 5e-5)
    assert (config.scheduler, config.max_train_steps, config.checkpoint_every) == ("cosine", 1200, 400)
    assert (config.precision, config.gradient_checkpointing) == ("fp32", True)
    assert "preset standard" in reasons


def test_fast_and_quality() -> None:
    fast, _ = _filled(CARD_12, preset="fast")
    assert (fast.precision, fast.train_text_encoder) == ("fp16", False)
    quality, _ = _filled(CARD_12, preset="quality")
    assert (quality.lora_rank, quality.alpha) == (32, 16.0)
    assert quality.max_train_steps >= 3000
    for name in PRESETS:
        _filled(CPU, preset=name)


def test_what_is_written_always_stays() -> None:
    config, _ = _filled(
        APPLE, preset="fast", lora_rank=4, accumulation=2, precision="bf16", optimizer={"weight_decay": 0.5}
    )
    assert (config.lora_rank, config.accumulation, config.precision) == (4, 2, "bf16")
    config, _ = _filled(CARD_12, profile="auto", lora_rank=4, max_train_steps=9, learning_rate=1e-3,
                        optimizer={"weight_decay": 0.5})  # fmt: skip
    assert config.optimizer.weight_decay == 0.5


def test_a_small_card_takes_one_image_and_small_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "find_spec", lambda name: object())
    config, reasons = _filled(CARD_12, preset="fast")
    assert (config.batch_size, config.optimizer.name) == (1, "adamw8bit")
    assert not config.gradient_checkpointing  # 4 of 12 GB: not needed
    monkeypatch.setattr(profiles, "find_spec", lambda name: None)
    config, reasons = _filled(CARD_12, preset="fast")
    assert config.optimizer.name == "adamw"
    assert "pip install" in reasons


def test_checkpointing_only_when_needed() -> None:
    keys = {"profile": "auto", "lora_rank": 16, "max_train_steps": 10, "learning_rate": 1e-4}
    assert not _filled(CARD_12, **keys)[0].gradient_checkpointing
    assert _filled(_facts("cuda", 3.6), **keys, batch_size=1, sample_every=0)[0].gradient_checkpointing
    xl = {**keys, "sdx_version": "xl", "resolution": 1024}
    assert _filled(_facts("cuda", 14), **xl)[0].gradient_checkpointing
    assert not _filled(CARD_140, **xl)[0].gradient_checkpointing


def test_a_preset_gives_way_where_the_device_cannot_follow() -> None:
    assert _filled(APPLE, preset="fast")[0].precision in ("fp32", "bf16")
    assert _filled(CPU, preset="fast")[0].precision == "bf16"
    assert _filled(_facts("cpu", 16, bf16=False), preset="fast")[0].precision == "fp32"
    # SDXL in fp32 is far beyond 12 GB
    config, reasons = _filled(CARD_12, preset="standard", sdx_version="xl", resolution=768)
    assert config.precision == "bf16" or "may not fit" in reasons


def test_reasons_of_a_preset_leave_out_what_the_config_says_itself() -> None:
    _, reasons = _filled(CPU, preset="quality")
    assert "max_train_steps" in reasons
    config, reasons = _filled(CPU, preset="quality", max_train_steps=12)
    assert config.max_train_steps == 12
    assert "max_train_steps" not in reasons


def test_apple_silicon_accumulates_and_never_takes_fp16() -> None:
    for memory in (6, 12, 48):
        config, reasons = _filled(_facts("mps", memory), preset="fast")
        assert (config.batch_size, config.accumulation) == (1, 8)
        assert config.precision in ("fp32", "bf16")
        assert "fp16 turns to NaN" in reasons
        assert "0.6 / 0.4" in reasons
    with pytest.raises(UsageError, match="NaN"):
        devices.check_precision(_filled(APPLE, preset="fast", precision="fp16")[0], APPLE)


def test_what_is_free_at_the_moment_changes_nothing() -> None:
    """A resume must derive the same config while another program runs."""
    busy = _facts("cuda", 12, free=1)
    assert _filled(busy, preset="standard") == _filled(CARD_12, preset="standard")


def test_the_dial_follows_the_number_of_images(tmp_path: Path) -> None:
    from PIL import Image

    def steps(quality: str, images: int) -> int:
        folder = tmp_path / f"{images}"
        folder.mkdir(exist_ok=True)
        for index in range(images):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / f"{index}.png")
            (folder / f"{index}.txt").write_text("someone_x, a person")
        config, _ = _filled(CARD_12, quality=quality, train_data_dir=str(folder))
        assert config.checkpoint_every * config.keep_checkpoints >= config.max_train_steps
        return config.max_train_steps

    assert steps("draft", 20) < steps("standard", 20) < steps("best", 20)
    assert steps("standard", 20) < steps("standard", 40)


def test_the_dial_counts_images_not_steps() -> None:
    one, _ = _filled(CARD_12, quality="standard")
    eight, _ = _filled(APPLE, quality="standard")
    assert eight.max_train_steps * 8 == pytest.approx(one.max_train_steps, rel=0.02)


def test_the_dial_on_the_embedded_base_is_that_of_the_whole_path() -> None:
    config, _ = _filled(CPU, quality="standard", base_model="mini", resolution=128)
    assert (config.learning_rate, config.targets, config.precision) == (8e-4, "transformer+conv", "fp32")
    assert config.loss.weighting == "none"


def test_wrong_words() -> None:
    with pytest.raises(ConfigError, match="nearest: 'standard'"):
        _filled(CPU, preset="standart")
    with pytest.raises(ConfigError, match=r"quality.*'good'"):
        _filled(CPU, quality="good")
    with pytest.raises(ConfigError, match="both say"):
        _filled(CPU, preset="fast", quality="draft")
    with pytest.raises(ConfigError, match="is no word"):
        _filled(CPU, preset=3)
    with pytest.raises(ConfigError, match="nearest valid key: 'lora_rank'"):
        _filled(CPU, preset="fast", lora_rnak=3)


def test_from_the_file_and_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = "\n".join(f"{key}: {value!r}" for key, value in _data(preset="standard", device="cpu").items())
    path.write_text(text)
    place = Workspace(tmp_path)
    assert load_train_config(path, place=place).max_train_steps == 1200
    assert load_train_config(path, choices={"preset": "quality"}, place=place).lora_rank == 32
    assert {"preset", "quality", "profile", "quiet"} <= NEUTRAL_KEYS


def test_quiet_mode_sets_what_libraries_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "apple_silicon", lambda: True)
    for name in ("OMP_NUM_THREADS", "PYTORCH_MPS_HIGH_WATERMARK_RATIO", "PYTORCH_MPS_LOW_WATERMARK_RATIO",
                 "PYTORCH_ENABLE_MPS_FALLBACK"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "restored afterwards")
        monkeypatch.delenv(name)
    made = devices.prepare_environment({})
    assert made["OMP_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"] == "4"
    assert made["PYTORCH_MPS_HIGH_WATERMARK_RATIO"] == "0.6"
    assert made["PYTORCH_MPS_LOW_WATERMARK_RATIO"] == "0.4"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in devices.prepare_environment({})
    monkeypatch.delenv("PYTORCH_MPS_HIGH_WATERMARK_RATIO")
    assert "PYTORCH_MPS_HIGH_WATERMARK_RATIO" not in devices.prepare_environment({"quiet": False})
    monkeypatch.setattr(devices, "apple_silicon", lambda: False)
    assert devices.prepare_environment({}) == {}


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H200", 790), ("NVIDIA GeForce RTX 3060", 25.5), ("NVIDIA GeForce RTX 4090", 165),
     ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA RTX 6000 Ada Generation", 364), ("NVIDIA L4", 121)],
)  # fmt: skip
def test_known_cards(name: str, tflops: float) -> None:
    assert known_flops(name) == tflops * 1e12


def test_an_unknown_card() -> None:
    assert known_flops("Somebody's GPU 1") is None
