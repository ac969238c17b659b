"""Trainings of kohya's world become configs of ours that say the same, and say where they do not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from talent_factory.core.config import parse, parse_yaml
from talent_factory.core.errors import ConfigError, DatasetError
from talent_factory.dataset.layout import read_folder
from talent_factory.training.config import TrainConfig, load_train_config
from talent_factory.training.config_text import config_text
from talent_factory.training.kohya import Imported, Wanted, collect_images, import_kohya
from talent_factory.training.kohya.shell import find_command, options_of

_SHORT = "train_network.py --pretrained_model_name_or_path=a --train_data_dir=b"
COMMAND = r"""#!/bin/bash
BASE="./models/v1-5-pruned-emaonly.safetensors"
# the real one
accelerate launch --num_cpu_threads_per_process 1 --mixed_precision=bf16 train_network.py \
  --pretrained_model_name_or_path="$BASE" --train_data_dir="{data}" --resolution=512,512 \
  --output_name="Dot Kairo" --network_module=networks.lora --network_dim=32 --network_alpha=16 \
  --network_args "conv_dim=8" "conv_alpha=4" "rank_dropout=0.1" "loraplus_lr_ratio=4" \
  --unet_lr=2e-4 --text_encoder_lr=5e-5 --optimizer_type=AdamW8bit \
  --optimizer_args weight_decay=0.1 betas=0.9,0.98 \
  --lr_scheduler=cosine --lr_warmup_steps=0.1 --max_train_steps 1200 --train_batch_size 2 \
  --gradient_accumulation_steps=4 --enable_bucket --min_snr_gamma=5 --noise_offset=0.05 --shuffle_caption \
  --keep_tokens 1 --caption_dropout_rate=0.1 --clip_skip=2 --save_every_n_steps=300 --save_last_n_steps=600 \
  --huggingface_token=hf_verysecret --xformers --seed=42 --prior_loss_weight=1.0 --sdpaa
"""


def _images(folder: Path, count: int, *, captions: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (32, 32), (number * 20, 60, 90)).save(folder / f"{number}.png")
        if captions:
            (folder / f"{number}.txt").write_text("a walk, green wood")
    return folder


def _script(tmp_path: Path, text: str = COMMAND, name: str = "run.sh") -> Path:
    data = tmp_path / "img"
    _images(data / "30_dot man", 3)
    path = tmp_path / name
    path.write_text(text.replace("{data}", data.as_posix()))
    return path


def _said(made: Imported, outcome: str) -> set[str]:
    return {note.key for note in made.of(outcome)}


def test_a_command_line_becomes_the_same_training(tmp_path: Path) -> None:
    made = import_kohya(_script(tmp_path))
    config = parse(TrainConfig, made.config, source="test")
    assert config.id == "avatar.identity.dot_kairo"
    assert (config.token, config.class_noun) == ("dot", "man")
    assert config.base_model == "./models/v1-5-pruned-emaonly.safetensors"
    assert (config.lora_rank, config.lora_alpha, config.targets) == (32, 16, "transformer+conv")
    assert (config.network.conv_rank, config.network.conv_alpha) == (8, 4)
    assert (config.learning_rate, config.text_encoder_lr, config.train_text_encoder) == (2e-4, 5e-5, True)
    assert (config.optimizer.name, config.optimizer.weight_decay) == ("adamw8bit", 0.1)
    assert (config.optimizer.beta1, config.optimizer.beta2, config.optimizer.lora_plus) == (0.9, 0.98, 4)
    assert (config.max_train_steps, config.warmup_steps, config.scheduler) == (1200, 120, "cosine")
    assert (config.batch_size, config.accumulation, config.precision) == (2, 4, "bf16")
    assert (config.resolution, config.mode, config.seed) == (512, "bucket", 42)
    assert (config.loss.weighting, config.loss.min_snr_gamma, config.noise.offset) == ("min-snr", 5, 0.05)
    assert (config.captions.shuffle, config.captions.keep_tokens, config.captions.dropout) == (True, 1, 0.1)
    assert (config.checkpoint_every, config.keep_checkpoints) == (300, 3)


def test_what_differs_and_what_is_unknown_is_named(tmp_path: Path) -> None:
    made = import_kohya(_script(tmp_path))
    assert _said(made, "unknown") == {"sdpaa"}
    assert {"clip_skip", "network_args rank_dropout"} <= _said(made, "differs")
    assert {"xformers", "prior_loss_weight"} <= _said(made, "needless") | _said(made, "mapped") | {
        "prior_loss_weight"
    }
    text = made.text()
    assert "# - clip_skip 2: the last layer of the text encoder is used" in text
    assert "hf_verysecret" not in text + json.dumps([note.model_dump() for note in made.notes])


def test_the_written_file_is_the_config(tmp_path: Path) -> None:
    made = import_kohya(_script(tmp_path))
    target = tmp_path / "ours.yaml"
    target.write_text(made.text())
    assert load_train_config(target) == parse(TrainConfig, made.config, source="test")


def test_nothing_of_a_script_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    text = "touch {data}/ran; X=$(touch {data}/ran)\n" + COMMAND + "\nrm -rf {data}\n"
    script = _script(tmp_path, text)
    import_kohya(script)
    assert not (tmp_path / "img" / "ran").exists()
    assert (tmp_path / "img").is_dir()


def test_defaults_of_sd_scripts_that_are_not_ours_are_written(tmp_path: Path) -> None:
    script = _script(tmp_path, "train_network.py --pretrained_model_name_or_path=a --train_data_dir={data}")
    config = import_kohya(script).config
    assert (config["lora_rank"], config["lora_alpha"], config["max_train_steps"]) == (4, 1, 1600)
    assert config["loss"] == {"weighting": "none"}
    assert config["captions"] == {"dropout": 0, "keep_tokens": 0}
    assert (config["scheduler"], config["train_text_encoder"]) == ("constant", True)
    assert config["text_encoder_lr"] == config["learning_rate"] == 2e-6
    assert config["optimizer"]["beta2"] == 0.999


@pytest.mark.parametrize(
    ("batch", "accumulation", "steps"), [(1, 1, 900), (2, 1, 450), (4, 1, 230), (2, 4, 120)]
)
def test_epochs_are_counted_in_steps(tmp_path: Path, batch: int, accumulation: int, steps: int) -> None:
    # 3 images x 30 repeats = 90 an epoch, ten epochs
    options = f"--train_batch_size={batch} --gradient_accumulation_steps={accumulation} --max_train_epochs=10"
    text = f"train_network.py --pretrained_model_name_or_path=a --train_data_dir={{data}} {options}"
    assert import_kohya(_script(tmp_path, text)).config["max_train_steps"] == steps


def test_epochs_without_the_images_are_said_to_be_unknown(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text(
        "train_network.py --pretrained_model_name_or_path=a --train_data_dir=gone "
        "--max_train_epochs=9 --output_name=zwx"
    )
    made = import_kohya(script)
    assert made.config["max_train_steps"] == 1600
    assert "max_train_epochs" in _said(made, "differs")


def test_a_config_toml_with_its_dataset_toml(tmp_path: Path) -> None:
    _images(tmp_path / "photos", 4)
    (tmp_path / "data.toml").write_text(
        f"""
[general]
shuffle_caption = true
keep_tokens = 2
[[datasets]]
resolution = 1024
batch_size = 3
enable_bucket = true
  [[datasets.subsets]]
  image_dir = '{(tmp_path / "photos").as_posix()}'
  class_tokens = 'Ohwx woman'
  num_repeats = 10
  flip_aug = true
"""
    )
    (tmp_path / "train.toml").write_text(
        """
[model]
pretrained_model_name_or_path = "sd_xl_base_1.0.safetensors"
[train]
dataset_config = "data.toml"
network_dim = 8
network_alpha = 8.0
network_train_unet_only = true
learning_rate = 1e-4
max_train_epochs = 2
optimizer_type = "prodigy"
optimizer_args = ["decouple=True", "weight_decay=0.01"]
loss_type = "huber"
huber_schedule = "constant"
mixed_precision = "bf16"
lr_scheduler = "constant"
output_name = "ohwx"
sample_every_n_epochs = 1
"""
    )
    made = import_kohya(tmp_path / "train.toml")
    config = parse(TrainConfig, made.config, source="test")
    assert (config.sdx_version, config.resolution, config.mode) == ("xl", 1024, "bucket")
    assert (config.token, config.class_noun, config.batch_size) == ("ohwx", "woman", 3)
    assert config.max_train_steps == 2 * 14  # 40 pictures in batches of 3
    assert config.sample_every == 14
    assert (config.captions.keep_tokens, config.flip, config.train_text_encoder) == (2, True, False)
    assert (config.optimizer.name, config.loss.kind, config.loss.huber_schedule) == (
        "prodigy",
        "huber",
        "constant",
    )
    assert (config.learning_rate, config.text_encoder_lr) == (1.0, None)
    assert {"optimizer_args decouple", "learning_rate"} <= _said(made, "differs")
    assert config.train_data_dir.endswith("photos")


def test_a_saved_window_of_kohya_ss(tmp_path: Path) -> None:
    saved: dict[str, Any] = {
        "pretrained_model_name_or_path": "runwayml/stable-diffusion-v1-5",
        "train_data_dir": _images(tmp_path / "img" / "5_zwx cat", 2).parent.as_posix(),
        "LoRA_type": "Standard", "conv_dim": 4, "network_dim": 16, "network_alpha": 8, "epoch": 4,
        "max_train_steps": 0, "max_train_epochs": "", "lr_warmup": 10, "lr_scheduler": "cosine",
        "max_resolution": "512,512", "optimizer": "AdamW", "learning_rate": "0.0001", "unet_lr": 0.0001,
        "text_encoder_lr": 0, "learning_rate_te": 1e-5, "train_batch_size": 1,
        "mixed_precision": "no", "xformers": "sdpa",
        "noise_offset": 0.05, "noise_offset_type": "Multires", "multires_noise_iterations": 8,
        "min_snr_gamma": 0, "sample_prompts": "zwx cat on a roof --w 512\n# no\nzwx cat", "sdxl": False,
        "flux1_checkbox": False, "flux1_clip_l": "", "huggingface_token": "hf_secret", "seed": 7,
        "caption_dropout_rate": 0.05, "clip_skip": 1, "max_token_length": 75, "enable_bucket": True,
        "stop_text_encoder_training": 0, "additional_parameters": "--debug_dataset", "output_name": "cat",
    }  # fmt: skip
    path = tmp_path / "lora.json"
    path.write_text(json.dumps(saved))
    made = import_kohya(path)
    config = parse(TrainConfig, made.config, source="test")
    assert (config.max_train_steps, config.warmup_steps) == (40, 4)
    assert (config.train_text_encoder, config.targets, config.precision) == (False, "transformer", "fp32")
    assert config.noise.offset == 0.0
    assert "multires_noise_iterations" in _said(made, "differs")
    assert config.loss.weighting == "none"
    assert config.sample_prompts == ("zwx cat on a roof", "zwx cat")
    assert "additional_parameters" in _said(made, "differs")
    assert not _said(made, "unknown")
    assert not {"flux1_clip_l", "clip_skip", "max_token_length"} & {note.key for note in made.notes}


def test_windows_scripts_keep_their_paths(tmp_path: Path) -> None:
    script = tmp_path / "train.ps1"
    script.write_text(
        '$base = "C:\\models\\v1-5.safetensors"\r\n'
        "accelerate launch train_network.py `\r\n"
        "  --pretrained_model_name_or_path=$base `\r\n"
        '  --train_data_dir="D:\\new\\train" --output_name=x --max_train_steps=10\r\n'
    )
    made = import_kohya(script, Wanted(token="zwx"))
    assert made.config["base_model"] == "C:\\models\\v1-5.safetensors"
    assert made.config["train_data_dir"] == "D:\\new\\train"
    assert "train_data_dir" in _said(made, "differs")
    assert parse_yaml(made.text(), source="text")["train_data_dir"] == "D:\\new\\train"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo hello", "holds no command line of sd-scripts"),
        ("flux_train_network.py --pretrained_model_name_or_path=a", "another kind of model"),
        ("train_db.py --pretrained_model_name_or_path=a", "trains no LoRA"),
        ("train_network.py --v2 --pretrained_model_name_or_path=a --train_data_dir=b", "Stable Diffusion 2"),
        ("train_network.py --train_data_dir=b", "says nothing of base_model"),
        ("train_network.py --pretrained_model_name_or_path=a", "says nothing of train_data_dir"),
        (
            "train_network.py --pretrained_model_name_or_path=a --train_data_dir=b --network_dim=x",
            "no number",
        ),
        ('train_network.py --pretrained_model_name_or_path="a', "in: train_network.py"),
        ("train_network.py --pretrained_model_name_or_path=a --dataset_config=no.toml", "does not exist"),
        ("train_network.py --pretrained_model_name_or_path=a --train_data_dir=b", "says nothing of token"),
        (f"{_SHORT} --output_name=x --network_dim=999", "lora_rank"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    script = tmp_path / "run.sh"
    script.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        import_kohya(script)
    assert "\n" not in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.toml", b"x = [", "not valid TOML"),
        ("a.json", b"{", "not valid JSON"),
        ("a.json", b"[]", "no JSON object"),
        ("a.sh", b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=said):
        import_kohya(tmp_path / name)


def test_shell_variables_that_are_not_known_are_no_values(tmp_path: Path) -> None:
    script = _script(
        tmp_path, "train_network.py --pretrained_model_name_or_path=a --train_data_dir={data} --seed=$RANDOM"
    )
    made = import_kohya(script)
    assert "seed" not in made.config
    assert "seed" in _said(made, "differs")


def test_numbers_that_begin_with_a_minus_are_values() -> None:
    assert options_of(["--a", "-1", "--b", "-.5", "--c"]) == {"a": "-1", "b": "-.5", "c": True}
    assert options_of(["x", "-q", "--net-args", "a=1", "b=2"]) == {"net_args": ["a=1", "b=2"]}


def test_only_the_training_command_is_read() -> None:
    text = (
        "pip install --upgrade torch && python train_network.py --pretrained_model_name_or_path a; rm --x y"
    )
    script, options, _ = find_command(text, source="t")
    assert (script, options) == ("train_network", {"pretrained_model_name_or_path": "a"})


def test_folders_far_apart_are_gathered_into_one(tmp_path: Path) -> None:
    _images(tmp_path / "a", 2)
    _images(tmp_path / "b", 1, captions=False)
    _images(tmp_path / "class", 2, captions=False)
    Image.new("L", (32, 32), 255).save(_images(tmp_path / "m", 0) / "0.png")
    (tmp_path / "data.toml").write_text(
        f"""
[[datasets]]
resolution = 64
  [[datasets.subsets]]
  image_dir = '{(tmp_path / "a").as_posix()}'
  class_tokens = 'zwx man'
  num_repeats = 5
  caption_prefix = 'zwx man, '
  conditioning_data_dir = '{(tmp_path / "m").as_posix()}'
  [[datasets.subsets]]
  image_dir = '{(tmp_path / "b").as_posix()}'
  class_tokens = 'zwx man'
  num_repeats = 2
  [[datasets.subsets]]
  is_reg = true
  image_dir = '{(tmp_path / "class").as_posix()}'
  class_tokens = 'man'
"""
    )
    out = tmp_path / "gathered"
    assert collect_images(tmp_path / "data.toml", out=out) == 5
    sources = read_folder(out)
    assert [(source.repeats, source.regular, source.caption) for source in sources] == [
        (2, False, "zwx man"),
        (5, False, "zwx man, a walk, green wood"),
        (5, False, "zwx man, a walk, green wood"),
        (1, True, "man"),
        (1, True, "man"),
    ]
    assert [source.mask is not None for source in sources] == [False, True, False, False, False]
    with pytest.raises(DatasetError, match="not empty"):
        collect_images(tmp_path / "data.toml", out=out)
    made = import_kohya(tmp_path / "data.toml", Wanted(base="x", data=str(out)))
    assert made.config["train_data_dir"] == str(out)


def test_several_folders_without_gathering_are_said_to_be_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _images(tmp_path / name, 1)
    subsets = "".join(
        f"[[datasets.subsets]]\nimage_dir = '{(tmp_path / n).as_posix()}'\n" for n in ("a", "b")
    )
    (tmp_path / "data.toml").write_text(f"[[datasets]]\nresolution = 64\n{subsets}")
    made = import_kohya(tmp_path / "data.toml", Wanted(base="x", token="zwx"))
    assert "image_dir" in _said(made, "differs")


def test_images_of_the_class_beside_img_are_read_with_it(tmp_path: Path) -> None:
    _images(tmp_path / "p" / "img" / "2_zwx man", 3)
    _images(tmp_path / "p" / "reg" / "1_man", 2)
    script = tmp_path / "run.sh"
    script.write_text(
        f"train_network.py --pretrained_model_name_or_path=a --train_data_dir={tmp_path}/p/img "
        f"--reg_data_dir={tmp_path}/p/reg --prior_loss_weight=0.5 --max_train_epochs=1"
    )
    made = import_kohya(script)
    assert made.config["train_data_dir"] == str(tmp_path / "p")
    assert made.config["regular_weight"] == 0.5
    assert made.config["max_train_steps"] == 12  # one image of the class for each of the subject's


def test_any_text_survives_being_written_as_yaml() -> None:
    odd = {
        "a": "08", "b": "1e5", "c": "no", "d": "x: y # z", "e": "", "f": " lead", "g": "C:\\x", "h": "~",
        "i": ["yes", "a, b", 3, 0.5], "j": {"k": True, "l": 1e-5, "m": "null"}, "n": "naïve \u2028 \"q\"",
        "o": None, "p": "2026-01-01", "q": "- a", "r": "?", "s": "&a", "t": "1_000",
    }  # fmt: skip
    assert parse_yaml(config_text(odd, head=["a: b", "", "# c"]), source="t") == odd


@pytest.mark.parametrize("value", ["inf", "nan", "1e99", "abc"])
@pytest.mark.parametrize(
    "option", ["seed", "network_dim", "max_train_steps", "resolution", "text_encoder_lr"]
)
def test_numbers_that_are_none_are_named(tmp_path: Path, option: str, value: str) -> None:
    script = tmp_path / "run.sh"
    script.write_text(f"{_SHORT} --output_name=zwx --{option}={value}")
    with pytest.raises(ConfigError, match=f"{option} is '{value}', no number"):
        import_kohya(script)


def test_a_batch_of_less_than_one_is_one(tmp_path: Path) -> None:
    options = "--train_batch_size=0.2 --max_train_epochs=1"
    text = f"train_network.py --pretrained_model_name_or_path=a --train_data_dir={{data}} {options}"
    assert import_kohya(_script(tmp_path, text)).config["batch_size"] == 1
