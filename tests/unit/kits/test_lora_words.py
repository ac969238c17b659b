"""The header says how the file was trained, sizes come from the tensors, DoRA's lengths have their place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from kit_maker import KIT_ID, make_images, make_spec, make_tensors, write_lora
from talent_factory.core.errors import KitError
from talent_factory.kits.header_words import header_words
from talent_factory.kits.keys import folder_modules
from talent_factory.kits.lora_file import LoraSize, lora_bytes, lora_size
from talent_factory.kits.pack import pack_kit
from talent_factory.kits.validate import validate_kit
from talent_factory.training.config import TrainConfig

CONFIG: dict[str, Any] = {
    "id": "avatar.identity.someone",
    "kind": "lora",
    "sdx_version": "1.5",
    "base_model": "mini",
    "train_data_dir": "images",
    "resolution": 512,
    "lora_rank": 16,
    "max_train_steps": 1200,
    "learning_rate": 1e-4,
    "batch_size": 2,
    "accumulation": 2,
    "token": "someone",
    "text_encoder_lr": 5e-5,
    "train_text_encoder": True,
    "captions": {"shuffle": True, "keep_tokens": 2},
    "network": {"dora": True},
}


def words(**facts: Any) -> dict[str, str]:
    config = TrainConfig.model_validate(CONFIG).model_dump(mode="json", exclude_none=True)
    return header_words(
        name="avatar.identity.someone",
        base="sd15",
        base_model="stable-diffusion-v1-5/stable-diffusion-v1-5",
        rank=16,
        alpha=8.0,
        triggers=("someone", "someone robot"),
        facts={**config, **facts},
        texts={"title": "x", "date": "2026-01-31T12:00:00+00:00", "description": ""},
    )


def test_what_kohyas_readers_ask_for_is_there() -> None:
    found = words(images=30)
    assert found["ss_steps"] == found["ss_max_train_steps"] == "1200"
    assert (found["ss_unet_lr"], found["ss_text_encoder_lr"]) == ("0.0001", "5e-05")
    assert (found["ss_optimizer"], found["ss_lr_scheduler"]) == ("adamw", "cosine")
    assert (found["ss_shuffle_caption"], found["ss_keep_tokens"]) == ("True", "2")
    assert found["ss_min_snr_gamma"] == "5.0"
    assert found["ss_epoch"] == str(1200 * 2 * 2 // 30)
    assert json.loads(found["ss_network_args"]) == {"dora_wd": "True"}
    assert json.loads(found["ss_tag_frequency"]) == {
        "avatar.identity.someone": {"someone": 30, "someone robot": 30}
    }
    assert json.loads(found["ss_dataset_dirs"]) == {
        "avatar.identity.someone": {"n_repeats": 1, "img_count": 30}
    }
    assert json.loads(found["ss_bucket_info"])["buckets"] == {"0": {"resolution": [512, 512], "count": 30}}
    assert found["ss_training_finished_at"] == "1769860800.0"
    assert found["modelspec.trigger_phrase"] == "someone"
    assert "modelspec.description" not in found
    assert "ss_v_parameterization" not in found
    assert all(isinstance(value, str) for value in found.values())
    assert "images" not in found.values(), "the folder's name belongs to nobody"


def test_buckets_velocity_and_convolutions_are_told() -> None:
    found = words(
        images=3,
        buckets={"512x640": 1, "512x512": 2},
        prediction="v_prediction",
        conv_rank=4,
        conv_alpha=2.0,
    )
    buckets = json.loads(found["ss_bucket_info"])["buckets"]
    assert buckets == {
        "0": {"resolution": [512, 512], "count": 2},
        "1": {"resolution": [512, 640], "count": 1},
    }
    assert found["ss_enable_bucket"] == "True"
    assert (found["modelspec.prediction_type"], found["ss_v_parameterization"]) == ("v", "True")
    args = json.loads(found["ss_network_args"])
    assert (args["conv_dim"], args["conv_alpha"]) == ("4", "2.0")


@pytest.mark.parametrize("large", [False, True])
def test_the_hashes_are_those_of_their_definitions(tmp_path: Path, large: bool) -> None:
    rows = 400_000 if large else 8
    tensors = {"a.lora_up.weight": np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)}
    own = {"ss_v2": "False", "modelspec.title": "x"}
    path = tmp_path / "a.safetensors"
    path.write_bytes(lora_bytes(tensors, precision="fp32", words=own))
    with safe_open(str(path), framework="np") as opened:
        found = opened.metadata()
    # the file that kohya hashes holds the `ss_` words alone
    entry = {"dtype": "F32", "shape": [rows, 2], "data_offsets": [0, rows * 8]}
    header = json.dumps(
        {"__metadata__": {"ss_v2": "False"}, "a.lora_up.weight": entry}, separators=(",", ":")
    )
    header += " " * (-len(header) % 8)
    body = tensors["a.lora_up.weight"].tobytes()
    plain = len(header).to_bytes(8, "little") + header.encode() + body
    assert found["sshs_model_hash"] == hashlib.sha256(body).hexdigest()
    assert found["sshs_legacy_hash"] == hashlib.sha256(plain[0x100000:0x110000]).hexdigest()[:8]


def sized(conv: tuple[int, float] | None, plain: tuple[int, float] = (4, 2.0)) -> dict[str, Any]:
    rank, alpha = plain
    tensors: dict[str, Any] = {}
    for number in range(3):
        tensors[f"m{number}.lora_down.weight"] = np.ones((rank, 8), np.float32)
        tensors[f"m{number}.alpha"] = np.array(alpha, np.float32)
    if conv is not None:
        tensors["c.lora_down.weight"] = np.ones((conv[0], 8, 3, 3), np.float32)
        tensors["c.alpha"] = np.array(conv[1], np.float32)
    return tensors


def test_sizes_come_from_the_tensors() -> None:
    assert lora_size(sized(None)) == LoraSize(4, 2.0)
    assert lora_size(sized((4, 2.0))) == LoraSize(4, 2.0)
    assert lora_size(sized((2, 1.0))) == LoraSize(4, 2.0, 2, 1.0)
    folded = 2.0 * 3**0.5
    assert lora_size(sized(None, (3, folded))) == LoraSize(3, float(f"{folded:.6g}"))
    with pytest.raises(KitError, match="different ranks"):
        lora_size({**sized(None), "x.lora_down.weight": np.ones((5, 8), np.float32)})
    with pytest.raises(KitError, match="0 different ranks"):
        lora_size({})


def test_a_kit_with_its_own_rank_for_convolutions_and_a_folded_alpha_is_valid(
    tmp_path: Path, base: Path
) -> None:
    tensors = make_tensors(base, rank=3, alpha=2.0 * 3**0.5)
    small = make_tensors(base, rank=2, alpha=1.0, seed=1)
    wide = {name for name, shape in folder_modules(base).items() if shape.kernel == 3}
    assert wide
    tensors |= {name: array for name, array in small.items() if name.partition(".")[0] in wide}
    size = lora_size(tensors)
    lora = write_lora(tmp_path / "lora.safetensors", tensors)
    images = make_images(tmp_path / "images")

    def pack(**sizes: Any) -> Path:
        spec = make_spec(rank=size.rank, alpha=size.alpha, **sizes)
        return pack_kit(spec, lora=lora, examples=images, root=tmp_path / "talents", base_folder=base)

    kit = pack(conv_rank=size.conv_rank, conv_alpha=size.conv_alpha)
    assert validate_kit(kit, base_folder=base).valid
    manifest = json.loads((kit / "talent.json").read_text())
    assert (manifest["metadata"]["conv_rank"], manifest["metadata"]["conv_alpha"]) == (2, 1.0)
    with pytest.raises(KitError, match="rank 2"):
        pack()
    with pytest.raises(KitError, match="alpha"):
        pack(conv_rank=2, conv_alpha=3.0)


def test_lengths_of_inputs_make_a_valid_kit(tmp_path: Path, base: Path) -> None:
    tensors = make_tensors(base)
    for name, shape in folder_modules(base).items():
        tail = (1, 1) if shape.kernel else ()
        tensors[f"{name}.dora_scale"] = np.ones((1, shape.in_features, *tail), np.float32)
    kit = pack_kit(
        make_spec(),
        lora=write_lora(tmp_path / "lora.safetensors", tensors),
        examples=make_images(tmp_path / "images"),
        root=tmp_path / "talents",
        base_folder=base,
    )
    assert kit.name == KIT_ID
    assert validate_kit(kit, base_folder=base).valid


def test_a_wrong_text_prefix_is_told_with_the_right_one(tmp_path: Path, base: Path) -> None:
    tensors = {name.replace("lora_te_", "lora_te1_"): array for name, array in make_tensors(base).items()}
    with pytest.raises(KitError) as refused:
        pack_kit(
            make_spec(),
            lora=write_lora(tmp_path / "lora.safetensors", tensors),
            examples=(),
            root=tmp_path / "talents",
            base_folder=base,
        )
    assert "lora_te_text_model_" in refused.value.remedy
