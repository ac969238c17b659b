"""`talent mix`: render, check, choose and export from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foundry_maker import IDENTITY, STYLE, add_kit
from talent_factory.cli.app import run
from talent_factory.core.records import read_record
from talent_factory.foundry.discover import load_kit
from talent_factory.foundry.recipe import read_recipe
from talent_factory.foundry.ways import MixChoice
from talent_factory.training.families.random_base import make_random_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random base of 32 px."""
    return make_random_base(tmp_path_factory.mktemp("base"), seed=1)


@pytest.fixture
def workspace(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with an identity and a style; the current folder is it."""
    root = tmp_path / "talents" / "avatar"
    root.mkdir(parents=True)
    add_kit(root, base, IDENTITY, seed=1, token="dot_test")
    add_kit(root, base, STYLE, seed=2, token="wobble", rank=3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], base: Path, *words: str) -> Any:
    capsys.readouterr()
    assert run(["mix", *words, "--base", str(base), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    capsys.readouterr()
    assert run(["mix", *words]) != 0
    return capsys.readouterr().err.splitlines()


def test_a_mix_is_drawn_as_it_was_written(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{IDENTITY}:0.9", f"{STYLE}:0.5@0.5-1/down=0.5", "--projection", "0.5"]
    found = answer(capsys, base, *words, "--prompt", "a", "--steps", "2", "--guidance", "1")
    recipe = read_recipe(Path(found["images"][0]))
    assert [(kit.weight, kit.blocks, kit.begin) for kit in recipe.kits] == [
        (0.9, (), 0.0),
        (0.5, (("down", 0.5),), 0.5),
    ]
    assert recipe.projection == 0.5


def test_kits_take_turns_on_request(workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawing = ["--prompt", "a", "--steps", "3", "--guidance", "1"]
    found = answer(capsys, base, "render", IDENTITY, STYLE, "--switch", *drawing)
    assert read_recipe(Path(found["images"][0])).switch
    plain = answer(capsys, base, IDENTITY, STYLE, *drawing)
    assert Path(found["images"][0]).read_bytes() != Path(plain["images"][0]).read_bytes()
    assert found["folder"] != plain["folder"]


def test_a_pair_is_checked_without_drawing(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, base, "check", f"{IDENTITY}:1.0", f"{STYLE}:0.9")
    (pair,) = found["pairs"]
    assert (pair["first"], pair["second"]) == (IDENTITY, STYLE)
    assert 0 <= pair["score"] <= 1
    assert "1.9" in found["warning"]
    assert run(["mix", "check", IDENTITY, STYLE, "--base", str(base)]) == 0
    assert f"{IDENTITY} and {STYLE}" in capsys.readouterr().out
    assert not (workspace / "renders").exists()


@pytest.mark.slow
def test_the_best_way_is_chosen_and_kept(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, base, "choose", IDENTITY, STYLE, "--encoder", "layout", "--out", "chosen")
    folder = Path(found.pop("folder"))
    assert read_record(folder / "choice.json", MixChoice).model_dump(mode="json") == found
    assert (folder / "sheet.png").is_file()
    assert found["chosen"] in {one["name"] for one in found["tried"]}


def test_a_mix_becomes_a_kit(workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = "avatar.identity.both"
    words = ["export", f"{IDENTITY}:0.9", f"{STYLE}:0.5", "--id", new]
    assert answer(capsys, base, *words, "--dry-run")["kit"] is None
    assert not (workspace / "talents" / "avatar" / new).exists()
    folder = Path(answer(capsys, base, *words)["kit"])
    assert json.loads((folder / "talent.json").read_text())["lora_rank"] == 5
    assert refusal(capsys, *words, "--base", str(base))[-1].startswith("next: add --replace")
    answer(capsys, base, *words, "--replace")
    assert load_kit(folder.parent, new, base_folder=base).manifest.token == "dot_test"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([IDENTITY], "two kits"),
        ([f"{IDENTITY}:3", STYLE], "no weight"),
        ([f"{IDENTITY}@0.5-0.2", STYLE], "no part of the steps"),
        ([f"{IDENTITY}/side=1", STYLE], "no block"),
        ([f"{IDENTITY}/content", STYLE], "SDXL"),
        (["check", IDENTITY, "avatar.style.wobbel"], "no kit"),
        (["choose", STYLE, IDENTITY], "identity and a style"),
        (["choose", IDENTITY, STYLE], "nobody is named"),
        (["export", IDENTITY, f"{STYLE}@0.5-1", "--id", "avatar.style.new"], "step to step"),
        (["export", IDENTITY, STYLE, "--id", "avatar.style.new", "--precision", "int8"], "no precision"),
        ([IDENTITY, STYLE, "--switch", "--projection", "1"], "take turns"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_with_a_way_out(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    lines = refusal(capsys, *words, "--base", str(base))
    assert said in lines[-2]
    assert lines[-1].startswith("next: ")


def test_kits_of_dora_are_mixed_but_make_no_single_file(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "avatar.identity.long"
    add_kit(workspace / "talents" / "avatar", base, own, seed=3, token="long", dora=True)
    drawn = answer(capsys, base, own, STYLE, "--prompt", "a", "--steps", "1", "--guidance", "1")
    assert Path(drawn["images"][0]).is_file()
    for words, said in (
        (["export", own, STYLE, "--id", "avatar.style.new", "--dry-run"], "as no single LoRA can"),
        ([own, STYLE, "--projection", "0.5", "--dry-run"], "no projection is exact"),
    ):
        lines = refusal(capsys, *words, "--base", str(base))
        assert said in lines[-2]
