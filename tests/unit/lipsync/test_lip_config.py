"""The four files: the keys that users know, and one clear line for everything that cannot be meant."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talent_factory.core.errors import ConfigError
from talent_factory.lipsync.config import LipsyncConfig, TrainConfig
from talent_factory.lipsync.config_files import (
    PARTS,
    change_config,
    learning_rate,
    make_config,
    parse_changes,
    read_config,
)

SHIPPED = Path(__file__).resolve().parents[3] / "configs" / "lipsync"


def test_the_shipped_files_hold_what_they_promise() -> None:
    config = read_config(SHIPPED)
    assert (config.train.train_batch_size, config.train.gradient_accumulation_steps) == (12, 512)
    assert config.train.effective_batch == 6144
    assert config.train.mixed_precision == "fp16"
    assert (config.train.audio_length_left, config.train.audio_length_right) == (2, 2)
    assert (config.train.max_train_steps, config.train.validation_steps) == (5000, 100)
    assert config.train.checkpoints_total_limit == 1000
    assert config.data.image_size == 256
    assert config.model.vae_pretrained_model_name_or_path == "madebyollin/taesd"
    assert learning_rate(config) == 5e-5
    assert config.optimizer.lr_scheduler == "cosine"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("lerning_rate=1e-4", "nearest valid key: 'learning_rate'"),
        ("model.learning_rate=1e-4", "unknown key 'model.learning_rate'"),
        ("scale_lr=true", "0.31 would destroy the network"),
        ("learning_rate=fast", "'optimizer.learning_rate'"),
        ("micro_batch_size=5", "does not divide the 6144 samples"),
        ("sync_loss=0.1", "sync_loss needs a sync_model"),
        ("temporal=true", "model.temporal needs train.frames"),
        ("mixed_precision=fp8", "mixed_precision"),
        ("no sign", "not of the form key=value"),
        ("train_batch_size=100000", "'train.train_batch_size'"),
        ("cache_gb=.inf", "'data.cache_gb'"),
        ("learning_rate=.nan", "'optimizer.learning_rate'"),
        ("learning_rate=0.05", "'optimizer.learning_rate': input should be less than or equal to 0.01"),
        ("validation_clips=2", "'data.validation_clips': write a share between 0 and 1, or names of clips"),
        ("validation_clips=[HDTF-1, a/b]", "'data.validation_clips': 'a/b' is no name of a clip"),
        ("validation_clips={a: 1}", "'data.validation_clips': write a share between 0 and 1"),
    ],
)
def test_a_change_that_cannot_be_meant_is_refused(change: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(SHIPPED, parse_changes([change]))
    assert words in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train_batchsize: 3", "nearest valid key: 'train_batch_size'"),
        ("learning_rate: 1e-4", "belongs into optimizer.yaml"),
    ],
)
def test_a_file_with_a_key_of_no_use_is_refused(tmp_path: Path, line: str, words: str) -> None:
    folder = shutil.copytree(SHIPPED, tmp_path / "configs")
    with open(folder / "train.yaml", "a") as stream:
        stream.write(line + "\n")
    with pytest.raises(ConfigError) as caught:
        read_config(folder)
    assert words in str(caught.value)
    assert "train.yaml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = shutil.copytree(SHIPPED, tmp_path / "configs")
    (folder / "model.yaml").unlink()
    with pytest.raises(ConfigError, match=r"holds no model\.yaml"):
        read_config(folder)


def test_both_spellings_of_the_image_size_replace_the_files() -> None:
    for key in ("IMAGE_SIZE", "image_size", "data.IMAGE_SIZE"):
        assert read_config(SHIPPED, parse_changes([f"{key}=64"])).data.image_size == 64


def test_values_are_read_as_yaml_reads_them() -> None:
    changes = parse_changes(["validation_clips=[HDTF-0001, b]", "learning_rate=1e-4", "metadata_url=null"])
    config = read_config(SHIPPED, changes)
    assert config.data.validation_clips == ("HDTF-0001", "b")
    assert config.optimizer.learning_rate == 1e-4
    assert read_config(SHIPPED, {"validation_clips": "HDTF-0001"}).data.validation_clips == ("HDTF-0001",)
    assert config.data.metadata_url is None


def test_a_scaled_rate_within_reason_is_taken() -> None:
    changes: dict[str, Any] = {"scale_lr": True, "learning_rate": 1e-5, "train_batch_size": 4}
    config = read_config(SHIPPED, {**changes, "gradient_accumulation_steps": 8})
    assert learning_rate(config) == pytest.approx(3.2e-4)


def test_what_is_written_is_read_back_equal() -> None:
    config = read_config(SHIPPED, {"mask": {"kind": "ellipse", "top": 0.45}, "micro_batch_size": 96})
    assert LipsyncConfig.model_validate_json(config.model_dump_json()) == config
    assert change_config(config, {}) == config
    assert change_config(config, {"IMAGE_SIZE": 96}).data.image_size == 96
    with pytest.raises(ConfigError, match="does not divide"):
        make_config({"train": {"micro_batch_size": 7}}, source="x")


def test_checkpoints_follow_validation_unless_said() -> None:
    assert TrainConfig(validation_steps=100).checkpoint_every == 100
    assert TrainConfig(validation_steps=100, checkpointing_steps=7).checkpoint_every == 7
    assert TrainConfig(validation_steps=0).checkpoint_every == TrainConfig().max_train_steps


KEYS = sorted(field.alias or name for part in PARTS.values() for name, field in part.model_fields.items())
VALUES = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.text(max_size=12),
    st.sampled_from(["~", "[]", "{}", "[1]", "{a: b}", "1e400", "../..", "https://[", "- - -", "latest"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=3))
def test_whatever_is_written_is_understood_or_refused(changes: list[tuple[str, object]]) -> None:
    try:
        config = read_config(SHIPPED, parse_changes([f"{key}={value}" for key, value in changes]))
    except ConfigError:
        return
    assert LipsyncConfig.model_validate_json(config.model_dump_json(by_alias=True)) == config
