"""`talent persona`: from kits to a saved mix, its versions, its pictures and its files for others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foundry_maker import IDENTITY, add_kit
from talent_factory.cli.app import run
from talent_factory.training.families.random_base import make_random_base

MECHA, CREATURE = "avatar.style.anime_mecha", "avatar.style.anime_creature"
FIELD = {
    "dot_id": "test",
    "version": "2.1.0",
    "sliders": {"mecha": 0.25},
    "finish": "flat",
    "palette": {"primary": "#00A8FF"},
    "voice": {"provider": "piper", "voice": "en_GB-alba"},
    "tone": {"warmth": 0.7, "pace": "medium"},
    "phrasebook": {"say": ["Got it!"], "avoid": ["As an AI"]},
    "boundaries": {"legal": "avoid_specifics"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random base of 32 px."""
    return make_random_base(tmp_path_factory.mktemp("base"), seed=1)


@pytest.fixture
def workspace(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with an identity and two styles; the current folder is it."""
    root = tmp_path / "talents" / "avatar"
    root.mkdir(parents=True)
    add_kit(root, base, IDENTITY, seed=1, token="dot_test")
    add_kit(root, base, MECHA, seed=2, token="mecha")
    add_kit(root, base, CREATURE, seed=3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(base: Path, *more: str) -> int:
    words = ["--identity", f"{IDENTITY}:0.7", "--slider", "mecha=0.25", "--steps", "2", "--guidance", "1.5"]
    return run(["persona", "new", "kairo", *words, "--base", str(base), *more])


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert run(["persona", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_from_kits_to_the_same_pictures_twice(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(base, "--palette", "primary=#00A8FF") == 0
    shown = answer(capsys, "show", "kairo")
    assert shown["weights_now"] == {IDENTITY: 0.7, MECHA: 0.4, CREATURE: 0.0}
    planned = answer(capsys, "render", "kairo", "--dry-run")
    assert not Path(planned["folder"]).exists()
    assert planned["prompts"] == ["mecha portrait"]
    for name in ("one", "two"):
        drawn = answer(capsys, "render", "kairo", "--out", name)
    assert [Path(path).name for path in drawn["images"]] == ["001.png"]
    assert Path("one/001.png").read_bytes() == Path("two/001.png").read_bytes()
    turned = answer(capsys, "render", "kairo", "--slider", "mecha=1", "--out", "three")
    assert turned["kits"][1] == {"id": CREATURE, "weight": 0.8}
    assert Path("one/001.png").read_bytes() != Path("three/001.png").read_bytes()
    assert answer(capsys, "show", "kairo")["version"] == "1.0.0"


def test_set_counts_versions_and_takes_words_away(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(base, "--palette", "primary=#00A8FF", "--palette", "accent=#ffd166") == 0
    made = answer(capsys, "set", "kairo", "--slider", "mecha=0.9", "--weight", f"{IDENTITY}=1.1")["persona"]
    assert (made["version"], made["sliders"]["mecha"]["value"]) == ("1.1.0", 0.9)
    assert made["kits"][0]["weight"] == 1.1
    words = ["--tone", "warmth=0.7", "--tone", "pace=slow", "--say", "Got it!", "--boundary", "legal=no"]
    made = answer(capsys, "set", "kairo", *words)["persona"]
    assert (made["version"], made["tone"]) == ("1.1.1", {"warmth": 0.7, "pace": "slow"})
    made = answer(capsys, "set", "kairo", "--palette", "accent=", "--tone", "pace=")["persona"]
    assert (made["palette"], made["tone"]) == ({"primary": "#00A8FF"}, {"warmth": 0.7})
    dry = answer(capsys, "set", "kairo", "--finish", "ink", "--size", "48x32", "--dry-run")
    assert dry["path"] is None
    assert dry["persona"]["draw"]["size"] == [48, 32]
    assert answer(capsys, "show", "kairo")["draw"]["size"] is None


def test_a_changed_kit_is_named_until_it_is_taken(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(base) == 0
    assert run(["persona", "check"]) == 0
    add_kit(workspace / "talents" / "avatar", base, MECHA, seed=9, token="mecha")
    capsys.readouterr()
    assert run(["persona", "render", "kairo"]) == 1
    told = capsys.readouterr().err
    assert f"kit {MECHA} changed since persona kairo was saved" in told
    assert "next: restore the kit, or take it as it is now: talent persona set kairo --accept-kits" in told
    assert run(["persona", "check", "kairo"]) == 1
    assert "BROKEN  kairo" in capsys.readouterr().out
    assert run(["persona", "set", "kairo", "--accept-kits"]) == 0
    assert answer(capsys, "check", "kairo") == {"good": True, "personas": {"kairo": []}}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["new", "../x", "--identity", IDENTITY], 2, "no persona id"),
        (["new", "x"], 2, "a persona needs a kit"),
        (["new", "x", "--identity", f"{IDENTITY}:3"], 2, "no weight from -2 to 2"),
        (["new", "x", "--identity", "avatar.identity.dot_tset"], 1, "there is no kit"),
        (["new", "x", "--identity", IDENTITY, "--slider", "animal=0.5"], 1, "avatar.style.abstract"),
        (["new", "x", "--identity", IDENTITY, "--slider", "mecha=a,b,c"], 2, "needs two kits"),
        (["new", "x", "--identity", IDENTITY, "--slider", "mecha=7"], 2, "from 0 to 1"),
        (["new", "x", "--identity", IDENTITY, "--palette", "primary=blue"], 2, "palette"),
        (["new", "x", "--identity", IDENTITY, "--size", "big"], 2, "is no size"),
        (["new", "x", "--identity", IDENTITY, "--size", "30x32"], 2, "30x32 is not possible"),
        (["new", "kairo", "--identity", IDENTITY], 2, "already"),
        (["set", "kairo", "--weight", f"{IDENTITY}=2.5"], 2, "kits.0.weight"),
        (["set", "kairo", "--weight", "avatar.style.none=1"], 2, "has no kit"),
        (["set", "kairo", "--slider", "animal=1"], 2, "has no slider"),
        (["set", "kairo", "--tone", "warm"], 2, "is no NAME=VALUE"),
        (["set", "kairo", "--base", "mini"], 1, "cannot be used"),
        (["render", "kairos"], 2, "there is no persona"),
        (["render", "kairo", "--slider", "mecha=low"], 2, "needs a number"),
        (["export", "kairo", "--out", "x.json", "--form", "xml"], 2, "no form"),
        (["import", "nowhere.json"], 1, "does not exist"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, told: str
) -> None:
    assert new(base) == 0
    before = Path("personas/kairo.json").read_bytes()
    capsys.readouterr()
    assert run(["persona", *words, *(["--base", str(base)] if words[0] == "new" else [])]) == code
    lines = capsys.readouterr().err.splitlines()
    assert told in lines[0]
    assert len(lines) == 2
    assert lines[1].startswith("next: ")
    assert Path("personas/kairo.json").read_bytes() == before


def test_a_file_of_persona_foundry_comes_in_and_goes_out_again(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("field.json").write_text(json.dumps(FIELD))
    made = answer(capsys, "import", "field.json", "--base", str(base))["persona"]
    assert (made["id"], made["version"], made["finish"]) == ("test", "2.1.0", "flat")
    assert made["sliders"] == {"mecha": {"low": MECHA, "high": CREATURE, "value": 0.25}}
    assert [kit["id"] for kit in made["kits"]] == [IDENTITY, MECHA, CREATURE]
    answer(capsys, "export", "test", "--out", "out.json", "--form", "field")
    assert json.loads(Path("out.json").read_text()) == FIELD
    Path("field.json").write_text(json.dumps({**FIELD, "slider": {}, "dot_id": "other"}))
    assert run(["persona", "import", "field.json", "--base", str(base)]) == 2
    assert "nearest valid key: 'sliders'" in capsys.readouterr().err
    Path("field.json").write_text(json.dumps({**FIELD, "dot_id": "other"}))
    assert run(["persona", "import", "field.json", "--base", str(base)]) == 1
    assert "avatar.identity.dot_other" in capsys.readouterr().err


def test_ours_travels_without_paths_and_comes_in_where_its_base_lies(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(base) == 0
    answer(capsys, "export", "kairo", "--out", "kairo.json")
    assert str(base.parent) not in Path("kairo.json").read_text()
    made = answer(capsys, "import", "kairo.json", "--id", "second", "--base", str(base))["persona"]
    assert made["base"]["name"] == str(base)
    ids = [row["id"] for row in answer(capsys, "list")]
    assert ids == ["kairo", "second"]
    Path("personas/broken.json").write_text("{")
    capsys.readouterr()
    assert run(["persona", "list"]) == 0
    assert "cannot be used" in capsys.readouterr().out
    assert run(["persona", "import", "kairo.json", "--id", "third", "--base", "mini"]) == 1
    assert "was saved for the base" in capsys.readouterr().err


def test_a_sheet_shows_the_range_of_the_slider(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    assert new(base) == 0
    drawn = answer(capsys, "sheet", "kairo", "--out", "page")
    assert len(drawn["images"]) == 4
    assert len({Path(path).read_bytes() for path in drawn["images"]}) == 4
    with Image.open(drawn["sheet"]) as page:
        assert page.width > page.height > 400


def test_a_sheet_without_sliders_shows_other_prompts(
    workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    prompts = ["--prompt", "one {subject}", "--prompt", "two {subject}"]
    kits = ["--identity", IDENTITY, "--base", str(base), "--steps", "2"]
    assert run(["persona", "new", "plain", *kits, *prompts]) == 0
    drawn = answer(capsys, "sheet", "plain", "--out", "page")
    said = []
    for path in drawn["images"]:
        with Image.open(path) as picture:
            said.append(picture.text["parameters"].partition(" ")[0])
    assert said == ["one", "two"]
    with Image.open(drawn["sheet"]) as page:
        beside = page.crop((450, 72, 642, 264)).getcolors(maxcolors=1 << 16)
    assert beside is None or len(beside) > 100


def test_a_page_shows_it_all(workspace: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new(base, "--palette", "primary=#00A8FF") == 0
    written = Path(answer(capsys, "page", "kairo")["page"])
    assert written == workspace / "reports" / "persona_kairo.html"
    html = written.read_text("utf-8")
    assert "Across the sliders" in html
    assert "In person" in html
    assert MECHA in html
