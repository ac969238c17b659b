"""PEFT's form: every module under its name, alpha folded in, and nothing that it cannot hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lora_files import kohya_arrays
from talent_factory.core.errors import KitError
from talent_factory.kits.conform.family import FamilyName
from talent_factory.kits.keys import expected_modules
from talent_factory.kits.peft_form import PEFT_FILE, peft_tensors, write_peft_folder


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_every_module_has_its_own_name_and_the_scale_is_inside(base: FamilyName) -> None:
    arrays = kohya_arrays(base, rank=4, alpha=1.0, keep=lambda name: True)
    found = peft_tensors(arrays, base=base)
    assert len(found) == 2 * len(expected_modules(base))
    name = next(name for name in expected_modules(base) if name.endswith("transformer_blocks_0_attn2_to_k"))
    level = {"sd15": "down_blocks.0", "sdxl": "down_blocks.1"}[base]
    path = f"unet.{level}.attentions.0.transformer_blocks.0.attn2.to_k"
    np.testing.assert_array_equal(found[f"{path}.lora_A.weight"], arrays[f"{name}.lora_down.weight"])
    np.testing.assert_array_equal(found[f"{path}.lora_B.weight"], arrays[f"{name}.lora_up.weight"] / 4)
    text = "text_encoder.text_model.encoder.layers.11.mlp.fc2.lora_A.weight"
    assert text in found
    assert ("text_encoder_2.text_model.encoder.layers.31.self_attn.out_proj.lora_B.weight" in found) == (
        base == "sdxl"
    )


def test_the_folder_is_what_the_library_reads(tmp_path: Path) -> None:
    path = write_peft_folder(tmp_path / "kit", kohya_arrays("sd15", rank=1), base="sd15")
    assert path == tmp_path / "kit" / PEFT_FILE
    assert {array.dtype for array in load_file(str(path)).values()} == {np.dtype(np.float16)}


def test_what_the_form_cannot_hold_is_refused() -> None:
    arrays = kohya_arrays("sd15", rank=1)
    first = "lora_unet_mid_block_attentions_0_proj_in"
    with pytest.raises(KitError, match="DoRA"):
        peft_tensors({**arrays, f"{first}.dora_scale": np.ones((1, 1280, 1, 1))}, base="sd15")
    odd = {
        "lora_unet_nowhere.lora_down.weight": np.ones((1, 4)),
        "lora_unet_nowhere.lora_up.weight": np.ones(1),
    }
    with pytest.raises(KitError, match="no module of sd15"):
        peft_tensors({**arrays, **odd}, base="sd15")
    half = {name: array for name, array in arrays.items() if name != f"{first}.lora_up.weight"}
    with pytest.raises(KitError, match="no lora_up"):
        peft_tensors(half, base="sd15")
    with pytest.raises(KitError, match="no lora_down"):
        peft_tensors({}, base="sd15")
