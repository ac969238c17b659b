"""`talent kit list|search|show|duplicates|unused|rm|restore|trash|rename`: text, JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kit_maker import KIT_ID, make_base, make_kit
from talent_factory.cli.app import run
from talent_factory.kits import keys
from talent_factory.kits.registry import update_registry

INK, NEW = "avatar.style.ink", "avatar.identity.dot_new"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with two good kits and an invalid one; the current folder is it."""
    base = make_base(tmp_path / "base")
    monkeypatch.setattr(keys, "MINI_FOLDER", base)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TALENT_WORKSPACE", raising=False)
    monkeypatch.delenv("TALENT_ENCODER", raising=False)
    root = tmp_path / "talents" / "avatar"
    make_kit(root, base, work=tmp_path / "work", default_weight=0.7)
    make_kit(root, base, work=tmp_path / "work", id=INK, token=None, tags=("ink",), description="Ink lines")
    (root / "avatar.style.empty").mkdir()
    return tmp_path


@pytest.fixture
def asked(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command with --json and return its document."""

    def ask(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert run(["kit", *words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return ask


def test_a_list_is_filtered_and_sorted(asked: Any, workspace: Path) -> None:
    assert [item["id"] for item in asked("list")] == [KIT_ID, "avatar.style.empty", INK]
    assert [item["id"] for item in asked("list", "--kind", "style", "--fits", "mini")] == [INK]
    assert [item["id"] for item in asked("list", "--tag", "INK")] == [INK]
    assert [item["id"] for item in asked("list", "--sort", "weight", "--fits", "mini")] == [INK, KIT_ID]
    assert asked("list", "--fits", "sdxl") == []
    assert (workspace / "cache" / "kits.sqlite").is_file()
    assert asked("list", "--kind", "clip", code=2)["error"]["remedy"] == "choose identity, style"
    assert "no base" in asked("list", "--fits", "sd3", code=2)["error"]["message"]


def test_words_find_kits(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked("search", "lines")
    assert [(item["id"], item["base"], item["weight"]) for item in found] == [(INK, "mini", 1.0)]
    assert asked("search", "lines", "--kind", "identity") == []
    assert run(["kit", "search", "lnies"]) == 0
    shown = capsys.readouterr().out
    assert "lnies: no kit says so; lines was taken" in shown
    assert INK in shown
    assert run(["kit", "search", "zzzz"]) == 0
    assert "no kit fits" in capsys.readouterr().out
    assert "nothing to look for" in asked("search", "", code=2)["error"]["message"]


def test_an_encoder_finds_by_pictures(asked: Any, workspace: Path) -> None:
    found = asked("search", "grey turquoise", "--encoder", "colours")
    assert found
    assert found[0]["by"] == ["pictures"]
    picture = next((workspace / "talents" / "avatar" / INK / "examples").iterdir())
    assert len(asked("search", "--like", str(picture), "--encoder", "colours")) == 2
    assert asked("search", "--like", str(picture), code=2)["error"]["remedy"] == "add --encoder clip:FOLDER"
    assert "no encoder" in asked("search", "x", "--encoder", "magic", code=2)["error"]["message"]


def test_show_tells_twins_and_personas(
    asked: Any, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "personas").mkdir()
    (workspace / "personas" / "hero.json").write_text(json.dumps({"kits": [{"id": KIT_ID}]}))
    document = asked("show", KIT_ID)
    assert (document["twins"], document["personas"]) == ([INK], ["hero"])
    assert run(["kit", "show", KIT_ID]) == 0
    shown = capsys.readouterr().out
    assert f"same weights: {INK}" in shown
    assert "used by: hero" in shown


def test_duplicates_and_unused(asked: Any, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked("duplicates") == [[KIT_ID, INK]]
    (workspace / "personas").mkdir()
    (workspace / "personas" / "hero.json").write_text(json.dumps({"kits": [{"id": KIT_ID}]}))
    assert [kit["id"] for kit in asked("unused", "--fits", "mini")] == [INK]
    for command in ("duplicates", "unused"):
        assert run(["kit", command]) == 0
        assert "next: talent kit rm ID" in capsys.readouterr().out


def test_a_kit_is_put_away_and_taken_back(
    asked: Any, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = workspace / "talents" / "avatar" / INK
    assert asked("rm", INK, "--dry-run")["moved"] == []
    assert kit.is_dir()
    moved = asked("rm", INK, "avatar.style.empty")["moved"]
    assert [item["id"] for item in moved] == [INK, "avatar.style.empty"]
    assert [item["id"] for item in asked("list")] == [KIT_ID]
    assert {item["id"] for item in asked("trash")["trash"]} == {INK, "avatar.style.empty"}
    assert asked("restore", INK) == {"restored": INK}
    assert kit.is_dir()
    assert asked("trash", "--empty", "--dry-run")["emptied"] is False
    assert asked("trash", "--empty")["emptied"] is True
    assert asked("trash")["trash"] == []
    assert run(["kit", "rm", "avatar.style.imk"]) == 1
    assert f"did you mean {INK}?" in capsys.readouterr().err


def test_what_a_persona_uses_stays_unless_forced(asked: Any, workspace: Path) -> None:
    (workspace / "personas").mkdir()
    (workspace / "personas" / "hero.json").write_text(json.dumps({"kits": [{"id": KIT_ID}]}))
    assert "used by persona hero" in asked("rm", INK, KIT_ID, code=3)["error"]["message"]
    assert len(asked("list")) == 3
    assert asked("rm", KIT_ID, "--force")["moved"][0]["id"] == KIT_ID


def test_a_new_id(asked: Any, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    update_registry(workspace, workspace / "talents" / "avatar", notes={KIT_ID: "mine"})
    (workspace / "personas").mkdir()
    (workspace / "personas" / "hero.json").write_text(json.dumps({"kits": [{"id": KIT_ID}]}))
    assert asked("rename", KIT_ID, NEW, "--dry-run")["personas"] == ["hero"]
    assert run(["kit", "rename", KIT_ID, NEW]) == 0
    shown = capsys.readouterr().out
    assert f"{KIT_ID} is {NEW}" in shown
    assert f"persona hero still names {KIT_ID}" in shown
    assert [item["id"] for item in asked("list", "--kind", "identity")] == [NEW]
    rows = [json.loads(line) for line in (workspace / "registry.jsonl").read_text().splitlines()]
    assert next(row["notes"] for row in rows if row["id"] == NEW) == "mine"
    assert run(["kit", "validate", NEW]) == 0


def test_verify_reads_all_and_says_nothing_when_all_is_well(workspace: Path, capsys: Any) -> None:
    for words in (["list"], ["list", "--verify"], ["index", "--verify"]):
        assert run(["kit", *words]) == 0
        assert "behind" not in capsys.readouterr().err
