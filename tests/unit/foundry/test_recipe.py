"""A picture carries what made it, in a form that others read too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from talent_factory.core.errors import UsageError
from talent_factory.foundry.recipe import KitUse, RenderRecipe, encode_png, read_recipe

PICTURE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


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
        "kits": (KitUse(id="avatar.identity.dot_test", sha256="cd" * 32, weight=0.8),),
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
    assert lines[0] == "ink portrait of dot_test woman"
    assert lines[1] == "Negative prompt: blurry"
    assert lines[2].startswith(
        "Steps: 20, Sampler: DPM++ 2M, CFG scale: 3.5, Seed: 7, Size: 8x8, Model hash: ab"
    )
    assert 'Lora hashes: "avatar.identity.dot_test: cdcdcdcdcdcd"' in lines[2]


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
