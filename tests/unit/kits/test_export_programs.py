"""Exported files under the loading rules of the programs they are for, with the names of full-size bases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit_maker import make_images, make_spec, write_lora
from lora_files import kohya_arrays
from talent_factory.core.errors import KitError
from talent_factory.kits.conform import conform_by_rules, open_lora
from talent_factory.kits.conform.family import FamilyName
from talent_factory.kits.export import Target, export_kit
from talent_factory.kits.header import parse_header
from talent_factory.kits.keys import expected_modules
from talent_factory.kits.lora_file import lora_bytes, read_lora
from talent_factory.kits.manifest import WEIGHTS_FILE
from talent_factory.kits.pack import pack_kit

MODELS: dict[FamilyName, tuple[str, str, str, str]] = {
    "sd15": ("stable-diffusion-v1-5/stable-diffusion-v1-5", "1.5", "SD1", "SD 1.5"),
    "sdxl": ("stabilityai/stable-diffusion-xl-base-1.0", "xl", "SDXL", "SDXL 1.0"),
}
PROGRAMS: dict[Target, str] = {"a1111": "a1111", "forge": "forge", "comfy": "comfyui", "invoke": "invokeai"}


def full_kit(folder: Path, base: FamilyName, *, dora: bool = False, **changes: Any) -> Path:
    """Pack a kit with every module that kohya adapts in a full-size base."""
    model, version, _, _ = MODELS[base]
    arrays = kohya_arrays(base, rank=2, alpha=1.0)
    if dora:
        for name, shape in expected_modules(base).items():
            if f"{name}.alpha" in arrays:
                tail = (1, 1) if shape.kernel else ()
                arrays[f"{name}.dora_scale"] = np.ones((1, shape.in_features, *tail), np.float32)
    lora = write_lora(folder / "lora.safetensors", arrays)
    fields = {"base_model": model, "sdx_version": version, "rank": 2, "alpha": 1.0, "default_weight": 0.8}
    spec = make_spec(**{**fields, **changes})
    return pack_kit(spec, lora=lora, examples=make_images(folder / "images"), root=folder / "kits")


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[FamilyName, Path]:
    """A base and a kit for it."""
    return request.param, full_kit(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("target", PROGRAMS)
def test_each_program_reads_its_export_fully_under_its_name(
    made: tuple[FamilyName, Path], target: Target, tmp_path: Path
) -> None:
    base, kit = made
    done = export_kit(kit, target=target, out=tmp_path)
    assert done.remarks == ()
    file = open_lora(tmp_path / "dot_test_lora.safetensors")
    (report,) = conform_by_rules(file, base, [PROGRAMS[target]])
    assert (report.verdict, report.unmatched) == ("full", 0)
    assert "dot_test_lora" in report.called
    # a web UI hides a file that it takes for another base, and one that shares its name
    assert not [remark for remark in report.remarks if "listed under" in remark or "hide" in remark]
    if target != "comfy":
        card = json.loads((tmp_path / "dot_test_lora.json").read_text())
        assert (card["sd version"], card["preferred weight"]) == (MODELS[base][2], 0.8)
    else:
        card = json.loads((tmp_path / "dot_test_lora.metadata.json").read_text())
        assert card["base_model"] == MODELS[base][3]


def test_with_minimal_metadata_they_read_it_too(made: tuple[FamilyName, Path], tmp_path: Path) -> None:
    base, kit = made
    export_kit(kit, target="a1111", out=tmp_path, minimal=True)
    for report in conform_by_rules(open_lora(tmp_path / "dot_test_lora.safetensors"), base):
        assert report.verdict == "full"
        assert not [remark for remark in report.remarks if "listed under" in remark]


def test_the_old_hash_follows_the_new_name(made: tuple[FamilyName, Path], tmp_path: Path) -> None:
    """It covers a part of the file that moves with the header's length."""
    _, kit = made
    export_kit(kit, target="comfy", out=tmp_path, name="a_name_that_makes_the_header_longer_than_it_was")
    (path,) = tmp_path.glob("*.safetensors")
    data = path.read_bytes()
    assert len(data) > 1 << 20
    words = parse_header(data).metadata
    plain = {key: text for key, text in words.items() if "hash_sha256" not in key and "sshs" not in key}
    assert lora_bytes(read_lora(kit / WEIGHTS_FILE), precision="fp16", words=plain) == data


def test_dora_goes_only_where_it_is_computed_as_trained(tmp_path: Path) -> None:
    kit = full_kit(tmp_path, "sd15", dora=True)
    for target in ("diffusers", "hf"):
        with pytest.raises(KitError, match="wrong axis"):
            export_kit(kit, target=target, out=tmp_path / target)  # type: ignore[arg-type]
        assert not (tmp_path / target).exists()
    export_kit(kit, target="comfy", out=tmp_path / "comfy")
    (report,) = conform_by_rules(
        open_lora(tmp_path / "comfy" / "dot_test_lora.safetensors"), "sd15", ["comfyui"]
    )
    assert report.verdict == "full"
