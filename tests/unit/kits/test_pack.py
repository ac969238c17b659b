"""Packing: the shipped file is what readers expect, equal inputs give equal bytes, nothing leaks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.numpy import load_file

from kit_maker import (
    ALPHA,
    CREATED,
    KIT_ID,
    RANK,
    make_images,
    make_kit,
    make_spec,
    make_tensors,
    read_manifest_json,
    write_lora,
)
from talent_factory.core.errors import KitError
from talent_factory.kits.header_words import header_words
from talent_factory.kits.lora_file import lora_bytes, read_lora
from talent_factory.kits.pack import pack_kit
from talent_factory.kits.validate import validate_kit


def pack(tmp_path: Path, base: Path, **changes: Any) -> Path:
    return make_kit(tmp_path / "talents", base, work=tmp_path / "work", **changes)


def words_of(kit: Path) -> dict[str, str]:
    with safe_open(str(kit / "weights.safetensors"), framework="np") as opened:
        found: dict[str, str] = opened.metadata()
    return found


def all_bytes(kit: Path) -> dict[str, bytes]:
    return {path.relative_to(kit).as_posix(): path.read_bytes() for path in kit.rglob("*") if path.is_file()}


def test_a_kit_has_all_its_parts(kit: Path) -> None:
    assert kit.name == KIT_ID
    assert sorted(all_bytes(kit)) == [
        "LICENSE.txt",
        "base.txt",
        "controls/README.txt",
        "examples/01.png",
        "examples/02.png",
        "examples/03.png",
        "preview.png",
        "prompts.json",
        "talent.json",
        "weights.safetensors",
    ]
    assert (kit / "base.txt").read_text() == "Base model: mini\nSDX version: 1.5\nLoRA rank: 4\n"
    assert set(json.loads((kit / "prompts.json").read_text())) == {
        "positive_prompts",
        "negative_prompts",
        "style_prompts",
    }
    assert "CC0-1.0" in (kit / "LICENSE.txt").read_text()


def test_the_reference_reader_sees_kohya_tensors_in_half_precision_with_the_true_alpha(
    kit: Path, base: Path
) -> None:
    wanted = make_tensors(base)
    found = load_file(str(kit / "weights.safetensors"))
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert tensor.shape == wanted[name].shape
        if name.endswith(".alpha"):
            assert tensor.dtype == np.float32
            assert tensor == ALPHA
        else:
            assert tensor.dtype == np.float16
            np.testing.assert_array_equal(tensor, wanted[name].astype(np.float16))


def test_single_precision_keeps_every_bit(tmp_path: Path, base: Path) -> None:
    kit = pack(tmp_path, base, precision="fp32")
    wanted = make_tensors(base)
    for name, tensor in load_file(str(kit / "weights.safetensors")).items():
        assert tensor.tobytes() == wanted[name].tobytes()


def test_the_header_names_base_rank_trigger_and_hash(kit: Path) -> None:
    words = words_of(kit)
    assert words["ss_network_module"] == "networks.lora"
    assert (words["ss_network_dim"], words["ss_network_alpha"]) == (str(RANK), str(ALPHA))
    assert words["ss_output_name"] == KIT_ID
    assert words["modelspec.sai_model_spec"] == "1.0.1"
    assert words["modelspec.trigger_phrase"] == "dot_test"
    assert json.loads(words["ss_tag_frequency"]) == {KIT_ID: {"dot_test": 1}}
    raw = (kit / "weights.safetensors").read_bytes()
    tensors = raw[8 + int.from_bytes(raw[:8], "little") :]
    assert words["modelspec.hash_sha256"] == "0x" + hashlib.sha256(tensors).hexdigest()
    assert words["modelspec.resolution"] == "128x128"


@pytest.mark.parametrize(
    ("base", "version", "architecture"),
    [
        ("sd15", "sd_v1", "stable-diffusion-v1/lora"),
        ("sdxl", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"),
    ],
)
def test_readers_recognise_the_base_by_the_header(base: str, version: str, architecture: str) -> None:
    words = header_words(
        name="x", base=base, base_model="some/model", rank=8, alpha=4.0, triggers=(), facts={}, texts={}
    )
    assert words["ss_base_model_version"] == version
    assert words["modelspec.architecture"] == architecture
    assert all(isinstance(value, str) for value in words.values())


def test_equal_inputs_make_equal_bytes(tmp_path: Path, base: Path) -> None:
    first = all_bytes(pack(tmp_path / "a", base))
    second = all_bytes(pack(tmp_path / "b", base))
    assert first == second


def test_the_manifest_stays_within_the_bounds_of_version_1(kit: Path) -> None:
    manifest = read_manifest_json(kit)
    # version 1 knows resolutions from 256 on
    assert "resolution" not in manifest["training_config"]
    assert manifest["metadata"]["training"] == {"resolution": 128}
    assert manifest["training_config"]["max_train_steps"] == 600
    assert manifest["size_mb"] >= 0.1
    assert manifest["created_at"] == "2026-01-31T12:00:00Z"


def test_every_file_but_the_manifest_has_its_digest(kit: Path) -> None:
    digests = read_manifest_json(kit)["metadata"]["digests"]
    files = all_bytes(kit)
    assert digests.keys() == files.keys() - {"talent.json"}
    assert all(hashlib.sha256(files[name]).hexdigest() == digest for name, digest in digests.items())


def test_no_path_of_the_maker_leaves_the_machine(tmp_path: Path, base: Path) -> None:
    secret = "/home/somebody/secret"
    config = {
        "train_data_dir": f"{secret}/dataset",
        "seed": 3,
        "more": [{"cache": r"C:\secret\cache"}, "~/secret/x"],
    }
    kit = pack(
        tmp_path,
        base,
        training_config=config,
        provenance={"portrait": f"{secret}/me.png", "run": "./secret/run_1"},
        base_model=f"{secret}/mini",
    )
    for name, data in all_bytes(kit).items():
        assert b"secret" not in data, name
        assert b"somebody" not in data, name
    manifest = read_manifest_json(kit)
    assert manifest["training_config"]["train_data_dir"] == "dataset"
    assert manifest["training_config"]["more"] == [{"cache": "cache"}, "x"]
    assert manifest["metadata"]["provenance"] == {"portrait": "me.png", "run": "run_1"}
    assert words_of(kit)["ss_sd_model_name"] == "mini"


def test_the_preview_is_small(tmp_path: Path, base: Path) -> None:
    big = tmp_path / "big.jpg"
    Image.new("RGB", (1024, 700), (200, 30, 30)).save(big)
    lora = write_lora(tmp_path / "lora.safetensors", make_tensors(base))
    kit = pack_kit(
        make_spec(),
        lora=lora,
        examples=make_images(tmp_path / "i"),
        root=tmp_path / "t",
        preview=big,
        base_folder=base,
    )
    with Image.open(kit / "preview.png") as preview:
        assert preview.size == (512, 350)


def test_a_kit_is_replaced_as_a_whole(tmp_path: Path, base: Path) -> None:
    kit = pack(tmp_path, base)
    (kit / "examples" / "09.png").write_bytes(b"old")
    assert pack(tmp_path, base, description="newer") == kit
    assert not (kit / "examples" / "09.png").exists()
    assert read_manifest_json(kit)["metadata"]["description"] == "newer"
    assert [path.name for path in kit.parent.iterdir()] == [KIT_ID]


def test_without_examples_the_kit_is_valid_with_a_warning(tmp_path: Path, base: Path) -> None:
    lora = write_lora(tmp_path / "lora.safetensors", make_tensors(base))
    kit = pack_kit(make_spec(), lora=lora, examples=(), root=tmp_path / "t", base_folder=base)
    report = validate_kit(kit, base_folder=base)
    assert report.valid
    assert [finding.code for finding in report.warnings] == ["examples-few"]


def spoiled(base: Path, part: str, value: float) -> dict[str, Any]:
    tensors = make_tensors(base)
    return {
        name: np.full_like(array, value) if name.endswith(part) else array for name, array in tensors.items()
    }


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("lora_up.weight", 0.0, "untrained"),
        ("lora_up.weight", 1e-9, "untrained"),
        ("lora_up.weight", np.nan, "cannot"),
        ("lora_up.weight", 1e6, "cannot"),
        ("alpha", 9.0, "alpha is 9"),
    ],
)
def test_what_would_be_invalid_is_not_written(
    part: str, value: float, words: str, tmp_path: Path, base: Path
) -> None:
    lora = tmp_path / "lora.safetensors"
    tensors = spoiled(base, part, value)
    if np.isnan(value):
        from kit_maker import raw_tensors

        lora.write_bytes(raw_tensors(tensors))
    else:
        write_lora(lora, tensors)
    with pytest.raises(KitError, match=words):
        pack_kit(make_spec(), lora=lora, examples=(), root=tmp_path / "t", base_folder=base)
    assert not (tmp_path / "t").exists() or not list((tmp_path / "t").iterdir())


def test_examples_are_named_by_what_they_are(tmp_path: Path, base: Path) -> None:
    lora = write_lora(tmp_path / "lora.safetensors", make_tensors(base))
    paths = []
    for number, kind in enumerate(("PNG", "JPEG", "WEBP")):
        paths.append(tmp_path / f"{number}.image")
        Image.new("RGB", (32, 32), (9, 9, 200)).save(paths[-1], format=kind)
    kit = pack_kit(make_spec(), lora=lora, examples=paths, root=tmp_path / "t", base_folder=base)
    assert sorted(path.name for path in (kit / "examples").iterdir()) == ["01.png", "02.jpg", "03.webp"]


def test_bad_inputs_are_named(tmp_path: Path, base: Path) -> None:
    lora = write_lora(tmp_path / "lora.safetensors", make_tensors(base))
    root = tmp_path / "t"
    text = tmp_path / "x.png"
    text.write_text("no image")
    with pytest.raises(KitError, match=r"x\.png is no readable image"):
        pack_kit(make_spec(), lora=lora, examples=[text], root=root, base_folder=base)
    with pytest.raises(KitError, match="neither PNG nor JPEG nor WebP"):
        pack_kit(
            make_spec(), lora=lora, examples=[text.rename(tmp_path / "x.gif")], root=root, base_folder=base
        )
    with pytest.raises(KitError, match="No such file"):
        pack_kit(make_spec(), lora=lora, examples=[tmp_path / "y.png"], root=root, base_folder=base)
    with pytest.raises(KitError, match="No such file"):
        pack_kit(make_spec(), lora=tmp_path / "none.safetensors", examples=(), root=root, base_folder=base)
    with pytest.raises(KitError, match=r"x\.gif.*safetensors"):
        pack_kit(make_spec(), lora=tmp_path / "x.gif", examples=(), root=root, base_folder=base)


@pytest.mark.parametrize(
    "changes",
    [
        {"token": None},
        {"token": "Dot"},
        {"id": "avatar.identity.../x"},
        {"id": "avatar.identity.x\n"},
        {"rank": 0},
        {"alpha": 0.0},
        {"created_at": CREATED.replace(tzinfo=None)},
        {"surprise": 1},
    ],
)
def test_a_spec_refuses_what_a_kit_could_not_be(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_spec(**changes)


def test_reading_back_widens_to_single(tmp_path: Path) -> None:
    tensors = {"m.lora_up.weight": np.array([[0.5, -1.25]], np.float32), "m.alpha": np.array(0.1, np.float32)}
    path = tmp_path / "lora.safetensors"
    path.write_bytes(lora_bytes(tensors, precision="fp16", words={"a": "b"}))
    found = read_lora(path)
    assert all(found[name].tobytes() == tensors[name].tobytes() for name in tensors)
