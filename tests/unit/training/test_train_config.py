"""Configs: every mistake is named with its remedy, and numbers mean what people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from talent_factory.core.errors import ConfigError
from talent_factory.training.config import NEUTRAL_KEYS, TrainConfig, load_train_config

GOOD = """\
id: avatar.identity.dot_kairo
kind: lora
sdx_version: "1.5"
base_model: mini
train_data_dir: data/avatar/identity/dot_kairo/images
resolution: 128
lora_rank: 8
max_train_steps: 300
learning_rate: 1e-4
batch_size: 4
token: dot_kairo
"""


def _load(tmp_path: Path, text: str) -> TrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_train_config(path)


def test_a_good_config(tmp_path: Path) -> None:
    config = _load(tmp_path, GOOD)
    assert config.learning_rate == 1e-4
    assert config.subject == "identity"
    assert config.alpha == 8.0
    assert config.sample_interval == 75
    assert config.preservation_batch == 0


def test_a_version_without_quotes_and_a_lone_negative(tmp_path: Path) -> None:
    text = GOOD.replace('"1.5"', "1.5") + "negatives: blurry\nprior_weight: 1\n"
    config = _load(tmp_path, text)
    assert config.sdx_version == "1.5"
    assert config.negatives == ("blurry",)
    assert config.preservation_batch == 2


@pytest.mark.parametrize(
    ("line", "instead", "said"),
    [
        ("lora_rank: 8", "lora_rnak: 8", "lora_rank"),
        ("token: dot_kairo", "", "token"),
        ("id: avatar.identity.dot_kairo", "id: avatar.identity.../x", "talent id"),
        ("id: avatar.identity.dot_kairo", "id: avatar.identity.Kairo", "talent id"),
        ("id: avatar.identity.dot_kairo", 'id: "avatar.identity.kairo\\n"', "talent id"),
        ("token: dot_kairo", 'token: "dot kairo"', "token"),
        ("resolution: 128", "resolution: 100", "resolution"),
        ("resolution: 128", "resolution: 32", "resolution"),
        ("lora_rank: 8", "lora_rank: 129", "lora_rank"),
        ("learning_rate: 1e-4", "learning_rate: -1", "learning_rate"),
        ("learning_rate: 1e-4", "learning_rate: .nan", "learning_rate"),
        ("batch_size: 4", "", "batch_size"),
        ("max_train_steps: 300", "max_train_steps: 0", "max_train_steps"),
        ('sdx_version: "1.5"', "sdx_version: 2.1", "sdx_version"),
        ("kind: lora", "kind: dreambooth", "kind"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, line: str, instead: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _load(tmp_path, GOOD.replace(line, instead))


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(
            tmp_path, GOOD.replace("lora_rank: 8", "lora_rnak: 8").replace("batch_size: 4", "batch_size: 0")
        )
    assert all(word in str(caught.value) for word in ("lora_rnak", "lora_rank", "batch_size"))


def test_a_style_needs_no_token(tmp_path: Path) -> None:
    text = GOOD.replace("identity.dot_kairo", "style.anime_mecha").replace("token: dot_kairo", "")
    assert _load(tmp_path, text).subject == "style"


def test_every_field_is_explained() -> None:
    assert all(field.description for field in TrainConfig.model_fields.values())
    assert set(TrainConfig.model_fields) >= NEUTRAL_KEYS


@pytest.mark.parametrize(
    ("learning_rate", "extra", "said"),
    [
        ("1e-4", "optimizer: {name: prodigy}", "write learning_rate: 1"),
        ("1", "optimizer: {name: prodigy, lora_plus: 4}", "one rate for all layers"),
        ("1", "optimizer: {name: prodigy}\ntrain_text_encoder: true\ntext_encoder_lr: 0.5", "one rate"),
        ("1e-4", "optimizer: {name: adamw-schedulefree}\nema: 0.99", "averages the weights itself"),
        ("1e-4", "optimizer: {name: adamw-schedulefree, beta1: 0}", "leaves it nothing: write beta1: 0.9"),
    ],
)
def test_what_an_optimiser_cannot_do_is_said(
    tmp_path: Path, learning_rate: str, extra: str, said: str
) -> None:
    text = GOOD.replace("learning_rate: 1e-4", f"learning_rate: {learning_rate}") + extra + "\n"
    with pytest.raises(ConfigError, match=said):
        _load(tmp_path, text)


def test_the_text_encoder_has_its_own_rate_but_for_prodigy(tmp_path: Path) -> None:
    text = GOOD + "train_text_encoder: true\n"
    assert _load(tmp_path, text).text_rate == pytest.approx(1e-5)
    assert _load(tmp_path, text + "text_encoder_lr: 3e-5\n").text_rate == 3e-5
    own = text.replace("learning_rate: 1e-4", "learning_rate: 1") + "optimizer: {name: prodigy}\n"
    assert _load(tmp_path, own).text_rate == 1.0
