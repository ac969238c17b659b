"""Who uses a kit: every persona that names it and every render that was made with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from talent_factory.core.workspace import Workspace
from talent_factory.foundry.recipe import KitUse, RenderRecipe, encode_png
from talent_factory.foundry.usage import Use, find_uses

KAIRO, INK, OLD = "avatar.identity.kairo", "avatar.style.ink", "avatar.style.old"


def render(path: Path, *kits: tuple[str, str]) -> None:
    recipe = RenderRecipe(
        prompt="x", seed=1, steps=1, guidance=1.0, sampler="s", width=8, height=8, base="mini",
        base_revision="0" * 64, version="1", kits=tuple(KitUse(id=a, sha256=b, weight=1.0) for a, b in kits),
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8), recipe))


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    place = Workspace(tmp_path)
    place.personas.mkdir()
    (place.personas / "hero.json").write_text(
        json.dumps({"kits": [{"id": KAIRO}], "sliders": {"a": {"low": INK}}})
    )
    (place.personas / "broken.json").write_text(json.dumps([[{"anything": KAIRO}]]))
    (place.personas / "worse.json").write_text("{")
    render(place.root / "renders" / "one" / "1.png", (KAIRO, "aa"), (OLD, "bb"))
    render(place.root / "renders" / "one" / "2.png", (KAIRO, "aa"))
    render(place.reports / "kairo" / "renders" / "kit" / "1.png", (KAIRO, "aa"))
    Image.new("RGB", (4, 4)).save(place.root / "renders" / "mine.png")
    (place.root / "renders" / "text.png").write_text("no picture")
    return place


def test_personas_and_renders_are_counted(place: Workspace) -> None:
    uses = find_uses(place)
    assert uses.of(KAIRO) == Use(("broken", "hero"), 3)
    assert uses.of(INK) == Use(("hero",), 0)
    assert uses.of("avatar.style.none") == Use((), 0)


def test_a_renamed_kit_is_known_by_its_weights(place: Workspace) -> None:
    uses = find_uses(place)
    assert uses.of("avatar.style.new", "bb") == Use((), 1)
    assert uses.of("avatar.style.new") == Use((), 0)


def test_without_renders_only_personas_are_read(place: Workspace) -> None:
    assert find_uses(place, renders=False).of(KAIRO) == Use(("broken", "hero"), 0)


def test_an_empty_workspace_uses_nothing(tmp_path: Path) -> None:
    assert find_uses(Workspace(tmp_path)).of(KAIRO) == Use()
