"""`talent run`, `talent render` and `talent mix`: what a person types, sees and gets as an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from foundry_maker import IDENTITY, STYLE, add_kit
from photo_maker import astronaut
from pipeline_maker import write_portrait, write_recipe
from talent_factory.cli.app import run
from talent_factory.foundry.recipe import read_recipe
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.revision import base_revision
from talent_factory.world.samples import kairo_portrait

Talent = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random base."""
    return make_random_base(tmp_path_factory.mktemp("base"), side=64)


@pytest.fixture
def talent(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Talent:
    """Run `talent ... --json` in a workspace of its own; returns exit code, document and stderr."""
    monkeypatch.setenv("TALENT_WORKSPACE", str(tmp_path / "space"))

    def call(*words: str | Path, as_json: bool = True) -> tuple[int, Any, str]:
        code = run([*map(str, words), *(["--json"] if as_json else [])])
        out, err = capfd.readouterr()
        return code, json.loads(out) if as_json else out, err

    return call


@pytest.fixture
def kits(base: Path, tmp_path: Path) -> None:
    """An identity and a style in the workspace."""
    revision = base_revision(base)
    root = tmp_path / "space" / "talents" / "avatar"
    add_kit(root, base, IDENTITY, revision=revision, seed=1, token="dot_test")
    add_kit(root, base, STYLE, revision=revision, seed=2)


@pytest.mark.usefixtures("kits")
def test_render_makes_pictures_that_know_their_kit(talent: Talent, base: Path) -> None:
    words = (
        "render",
        "--kit",
        f"{IDENTITY}:0.5",
        "--base",
        base,
        "--steps",
        "2",
        "--count",
        "2",
        "--seed",
        "8",
    )
    code, made, _ = talent(*words, "--prompt", "ink portrait of dot_test woman")
    assert code == 0
    recipes = [read_recipe(Path(image)) for image in made["images"]]
    assert [recipe.seed for recipe in recipes] == [8, 9]
    assert recipes[0].kits[0].weight == 0.5
    assert Path(made["sheet"]).is_file()
    before = [Path(image).read_bytes() for image in made["images"]]
    assert talent(*words, "--prompt", "ink portrait of dot_test woman")[1] == made
    assert [Path(image).read_bytes() for image in made["images"]] == before


@pytest.mark.usefixtures("kits")
def test_a_strong_mix_is_remarked_on_and_made(talent: Talent, base: Path) -> None:
    words = (
        "mix",
        f"{IDENTITY}:1.0",
        f"{STYLE}:0.8",
        "--base",
        base,
        "--steps",
        "2",
        "--prompt",
        "ink portrait",
    )
    code, made, err = talent(*words)
    assert code == 0
    assert [kit["weight"] for kit in made["kits"]] == [1.0, 0.8]
    assert "1.8" in made["warning"]
    assert "1.8" in err


@pytest.mark.usefixtures("kits")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("render", "--kit", "avatar.identity.dot_tost"), 1, "did you mean"),
        (("render", "--kit", "../../etc"), 2, "talent id"),
        (("render", "--kit", IDENTITY), 1, ""),
        (("render", "--prompt", "x", "--base", "nowhere"), 1, "nowhere"),
        (("render",), 2, "nothing to draw"),
        (("mix", IDENTITY), 2, "second kit"),
        (("run", "missing.png", "--token", "dot_test", "--base", "BASE"), 1, "missing.png"),
        (("run", "missing.png", "--token", "Dot Test"), 2, "token"),
        (("run", "missing.png", "--token", "dot", "--quality", "ultra"), 2, "ultra"),
    ],
)
def test_every_refusal_is_one_line_with_a_next_step(
    talent: Talent, base: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    found, _, err = talent(*(str(base) if word == "BASE" else word for word in words), as_json=False)
    assert found == code
    lines = err.strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("next: ")
    assert says in err


def test_a_dry_run_shows_the_steps_and_writes_nothing(talent: Talent, base: Path, tmp_path: Path) -> None:
    write_portrait(tmp_path / "face.png")
    write_recipe(tmp_path / "three.toml")
    words = ("run", tmp_path / "face.png", "--token", "dot_test", "--base", base)
    code, made, _ = talent(*words, "--recipe", tmp_path / "three.toml", "--dry-run")
    assert code == 0
    assert [step["name"] for step in made["steps"]] == [
        "cast",
        "dataset",
        "train",
        "kit",
        "renders",
        "report",
    ]
    assert made["totals"]["seconds"] > 0
    assert not (tmp_path / "space").exists()


@pytest.mark.slow
def test_from_portrait_to_report(talent: Talent, base: Path, tmp_path: Path) -> None:
    write_portrait(tmp_path / "face.png")
    write_recipe(tmp_path / "three.toml")
    words = ("run", tmp_path / "face.png", "--token", "dot_test", "--base", base, "--sex", "woman")
    more = ("--recipe", tmp_path / "three.toml", "--quality", "draft")
    code, made, _ = talent(*words, *more)
    assert (code, made["changed"], made["talent_id"]) == (0, True, IDENTITY)
    assert Path(made["report"]).is_file()
    assert Path(made["kit"], "talent.json").is_file()
    code, again, _ = talent(*words, *more)
    assert (code, again["changed"], again["report"]) == (0, False, made["report"])
    code, text, _ = talent(*words, *more, as_json=False)
    assert "nothing changed" in text


def test_who_photographed_somebody_is_told_what_mini_can_draw(talent: Talent, tmp_path: Path) -> None:
    photograph, drawing = tmp_path / "photograph.png", tmp_path / "drawing.png"
    astronaut().save(photograph)
    Image.fromarray(kairo_portrait()).save(drawing)
    plan = ("run", "--token", "ada_v", "--dry-run")
    assert "renders will not look like it" in talent(*plan, photograph, as_json=False)[1]
    assert "will not look" not in talent(*plan, drawing, as_json=False)[1]
    assert "will not look" in talent(*plan, drawing, "--portrait-medium", "photo", as_json=False)[1]
    assert "will not look" not in talent(*plan, photograph, "--portrait-medium", "flat", as_json=False)[1]
