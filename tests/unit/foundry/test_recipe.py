"""A picture carries what made it, in a form that others read too."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from talent_factory.core.errors import UsageError
from talent_factory.foundry.recipe import (
    ControlUse,
    KitUse,
    RenderRecipe,
    encode_png,
    holds_recipe,
    read_recipe,
)

PICTURE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
KIT = KitUse(
    id="avatar.identity.dot_test",
    sha256="cd" * 32,
    weight=0.8,
    name="dot_test_lora",
    tensors_sha256="ef" * 32,
)


def recipe(**changes: object) -> RenderRecipe:
    facts: dict[str, object] = {
        "prompt": "ink portrait of dot_test woman",
        "negative": "blurry",
        "seed": 7,
        "steps": 20,
        "guidance": 3.5,
        "sampler": "DPM++ 2M",
        "width": 8,
        "height": 8,
        "base": "mini",
        "base_revision": "ab" * 32,
        "kits": (KIT,),
        "version": "0.1.0",
    }
    return RenderRecipe.model_validate({**facts, **changes})


@given(st.text(max_size=200), st.text(max_size=80), st.integers(0, 2**63 - 1))
def test_what_was_written_is_read_back(prompt: str, negative: str, seed: int) -> None:
    import tempfile

    made = recipe(prompt=prompt, negative=negative, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        path.write_bytes(encode_png(PICTURE, made))
        assert read_recipe(path) == made
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), PICTURE)


def test_equal_recipes_are_equal_bytes() -> None:
    assert encode_png(PICTURE, recipe()) == encode_png(PICTURE, recipe())


def test_the_text_of_a1111_has_its_usual_lines() -> None:
    lines = recipe().parameters().splitlines()
    assert lines[0] == "ink portrait of dot_test woman <lora:dot_test_lora:0.8>"
    assert lines[1] == "Negative prompt: blurry"
    assert lines[2].startswith(
        "Steps: 20, Sampler: DPM++ 2M, CFG scale: 3.5, Seed: 7, Size: 8x8, Model hash: ab"
    )
    assert 'Lora hashes: "dot_test_lora: efefefefefef"' in lines[2]


def test_a_picture_says_that_a_model_made_it() -> None:
    with Image.open(io.BytesIO(encode_png(PICTURE, recipe()))) as image:
        packet = image.info["XML:com.adobe.xmp"]
    start, end = packet.index("<x:xmpmeta"), packet.index("<?xpacket end")
    described = ElementTree.fromstring(packet[start:end])[0][0]
    facts = {name.rpartition("}")[2]: value for name, value in described.attrib.items()}
    assert facts["DigitalSourceType"].endswith("/digitalsourcetype/trainedAlgorithmicMedia")
    assert facts["CreatorTool"] == "talent-factory 0.1.0"


def test_a_control_is_told() -> None:
    steer = ControlUse(model="openpose", model_sha256="ab" * 32, image_sha256="cd" * 32, strength=0.5)
    made = recipe(control=steer)
    assert 'ControlNet 0: "Module: none, Model: openpose [abababab], Weight: 0.5' in made.parameters()
    assert RenderRecipe.model_validate_json(made.model_dump_json()) == made


def test_only_a_whole_image_of_the_same_recipe_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert not holds_recipe(path, recipe())
    path.write_bytes(encode_png(PICTURE, recipe()))
    assert holds_recipe(path, recipe())
    assert not holds_recipe(path, recipe(seed=8))
    path.write_bytes(path.read_bytes()[:-40])
    assert not holds_recipe(path, recipe())


def test_a_prompt_cannot_forge_lines() -> None:
    text = recipe(prompt="a\nSteps: 1, Seed: 9\nb", negative="").parameters()
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize("kind", ["text", "jpeg", "plain", "foreign", "missing"])
def test_what_carries_no_recipe_is_said_so(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    image = Image.fromarray(PICTURE)
    if kind == "text":
        path.write_text("hello")
    elif kind == "jpeg":
        image.save(path, "JPEG")
    elif kind == "plain":
        image.save(path)
    elif kind == "foreign":
        info = PngInfo()
        info.add_text("talent", '{"prompt": 3}')
        image.save(path, pnginfo=info)
    with pytest.raises(UsageError):
        read_recipe(path)
