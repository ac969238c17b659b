"""A kit is filled with pictures it drew itself, and stays valid."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from foundry_maker import IDENTITY
from talent_factory.core.errors import KitError
from talent_factory.core.events import SilentReporter
from talent_factory.foundry.examples import example_session, fill_examples
from talent_factory.foundry.recipe import read_recipe
from talent_factory.kits.refill import refill_examples
from talent_factory.kits.validate import inspect_kit


@pytest.fixture
def own(talents: Path, tmp_path: Path) -> Path:
    """A copy of the kits that a test may change."""
    return Path(shutil.copytree(talents, tmp_path / "kits"))


def contents(kit: Path) -> dict[str, str]:
    return {
        path.relative_to(kit).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(kit.rglob("*"))
        if path.is_file()
    }


def test_a_kit_shows_what_it_draws(base_folder: Path, own: Path, tmp_path: Path) -> None:
    kit = own / IDENTITY
    before = contents(kit)
    session = example_session(IDENTITY, root=own, base=str(base_folder), count=3, seed=7, steps=2)
    filled = fill_examples(session, out=tmp_path / "out", reporter=SilentReporter())
    after = contents(kit)
    assert filled.examples == ("examples/01.png", "examples/02.png", "examples/03.png")
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {*filled.examples, "preview.png", "talent.json"}
    stated = json.loads((kit / "talent.json").read_text())["metadata"]["digests"]
    assert stated == {name: digest for name, digest in after.items() if name != "talent.json"}
    assert inspect_kit(kit, base_folder=base_folder).report.valid
    # two prompts: the third picture is the first prompt with the next seed
    recipes = [read_recipe(kit / name) for name in filled.examples]
    assert [(recipe.prompt, recipe.seed) for recipe in recipes] == [
        ("ink portrait", 7),
        ("flat portrait", 7),
        ("ink portrait", 8),
    ]
    assert recipes[0].kits[0].sha256 == after["weights.safetensors"]


def test_fewer_pictures_replace_more_and_signatures_go(base_folder: Path, own: Path, tmp_path: Path) -> None:
    kit, pictures = own / IDENTITY, []
    for number in range(3):
        pictures.append(tmp_path / f"{number}.png")
        Image.new("RGB", (24, 24), (9, 60 * number, 9)).save(pictures[-1])
    refill_examples(kit, pictures, base_folder=base_folder)
    (kit / "SIGNATURE.openssf.json").write_text("{}")
    once = refill_examples(kit, pictures[1:2], base_folder=base_folder)
    assert once.unsigned == ("SIGNATURE.openssf.json",)
    assert sorted(path.name for path in (kit / "examples").iterdir()) == ["01.png"]
    assert inspect_kit(kit, base_folder=base_folder).report.valid


def test_what_is_no_picture_leaves_the_kit_as_it_was(base_folder: Path, own: Path, tmp_path: Path) -> None:
    kit = own / IDENTITY
    before = contents(kit)
    text = tmp_path / "a.png"
    text.write_text("hello")
    for images in ([text], [tmp_path / "missing.png"], []):
        with pytest.raises(KitError):
            refill_examples(kit, images, base_folder=base_folder)
    assert contents(kit) == before
    assert [path.name for path in own.iterdir() if path.name.startswith(".")] == []
