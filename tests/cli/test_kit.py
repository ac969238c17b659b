"""`talent kit`: what it prints, its JSON and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit_maker import KIT_ID, make_base, make_kit
from talent_factory.cli.app import run
from talent_factory.kits import keys
from talent_factory.kits.manifest import schema_text


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with one good kit; the current folder is it."""
    base = make_base(tmp_path / "base")
    monkeypatch.setattr(keys, "MINI_FOLDER", base)
    monkeypatch.chdir(tmp_path)
    make_kit(tmp_path / "talents" / "avatar", base, work=tmp_path / "work")
    return tmp_path


def spoil(workspace: Path) -> None:
    (workspace / "talents" / "avatar" / KIT_ID / "weights.safetensors").write_text("# Mock weights file\n")


def test_a_good_folder_is_valid(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kit", "validate"]) == 0
    assert f"valid    {KIT_ID}" in capsys.readouterr().out
    assert run(["kit", "validate", KIT_ID, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["valid"] is True
    assert document["kits"][0]["id"] == KIT_ID
    assert document["kits"][0]["path"] == f"talents/avatar/{KIT_ID}"


def test_an_invalid_kit_gives_exit_code_1_and_says_why(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(workspace)
    assert run(["kit", "validate", "--verbose"]) == 1
    shown = capsys.readouterr().out
    assert f"INVALID  {KIT_ID}" in shown
    assert "[weights-header]" in shown
    assert "try: " in shown
    assert run(["kit", "validate", "--json", "--workspace", str(workspace)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["valid"] is False
    assert "weights-header" in {finding["code"] for finding in document["kits"][0]["findings"]}


def test_an_unknown_kit_is_invalid_and_a_wrong_id_is_a_usage_error(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["kit", "validate", "avatar.style.none"]) == 1
    assert "kit-missing" in capsys.readouterr().out
    for wrong in ("../../etc", "avatar.identity.Dot", KIT_ID + "\n"):
        assert run(["kit", "show", wrong]) == 2
        assert "no talent id" in capsys.readouterr().err


def test_a_missing_folder_says_what_to_do(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("validate", "index", "list"):
        assert run(["kit", command, "--base-dir", "nowhere"]) == 1
        shown = capsys.readouterr().err
        assert "nowhere is no folder of kits" in shown
        assert "next: " in shown


def test_index_prints_an_array_or_writes_a_file(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(workspace)
    assert run(["kit", "index"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(["kit", "index", "--include-invalid", "--pretty"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["valid"] is False
    assert run(["kit", "index", "--include-invalid", "--output", "out/index.json"]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads((workspace / "out" / "index.json").read_text())[0]["id"] == KIT_ID


def test_list_and_show(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kit", "list"]) == 0
    assert "dot_test" in capsys.readouterr().out
    assert run(["kit", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["lora_rank"] == 4
    assert run(["kit", "show", KIT_ID]) == 0
    shown = capsys.readouterr().out
    assert "about        A test kit" in shown
    assert "words        dot_test" in shown
    assert run(["kit", "show", KIT_ID, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["manifest"]["id"] == KIT_ID
    assert document["findings"] == []


def test_tokens_are_not_cut_where_there_is_room(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kit = workspace / "talents" / "avatar" / KIT_ID
    manifest = json.loads((kit / "talent.json").read_text())
    manifest["token"] = "a_word_of_twenty_two_x"
    (kit / "talent.json").write_text(json.dumps(manifest))
    assert run(["kit", "list"]) == 0
    assert "a_word_of_twenty_two_x" in capsys.readouterr().out


def test_a_broken_manifest_cannot_style_the_table(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = workspace / "talents" / "avatar" / KIT_ID
    manifest = json.loads((kit / "talent.json").read_text())
    manifest["token"] = "[red]x[/nothing]"
    (kit / "talent.json").write_text(json.dumps(manifest))
    assert run(["kit", "list"]) == 0
    assert "[red]" in capsys.readouterr().out


def test_schema_is_the_one_of_the_package(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["kit", "schema"]) == 0
    assert capsys.readouterr().out == schema_text()
    assert run(["kit", "schema", "--output", str(tmp_path / "schema.json")]) == 0
    assert (tmp_path / "schema.json").read_text() == schema_text()


def test_a_hostile_name_is_one_plain_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = workspace / "talents" / "avatar"
    (root / "avatar.identity.x\nvalid    avatar.identity.y\x1b[2J").mkdir()
    assert run(["kit", "validate"]) == 1
    shown = capsys.readouterr().out
    assert r"avatar.identity.x\nvalid    avatar.identity.y\x1b[2J" in shown.splitlines()[-7]
    assert run(["kit", "list"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_name_that_is_no_utf_8_hides_no_other_kit(workspace: Path) -> None:
    (workspace / "talents" / "avatar" / "avatar.identity.\udcff").mkdir()
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    talent = [sys.executable, "-m", "talent_factory.cli.app", "kit"]
    calls = (["validate"], ["validate", "--json"], ["list", "--json"], ["index", "--include-invalid"])
    for words in calls:
        done = subprocess.run(
            [*talent, *words], capture_output=True, env=environment, cwd=workspace, check=False
        )
        text = done.stdout.decode()
        assert KIT_ID in text, done.stderr
        if words != ["validate"]:
            json.loads(text)
    index = workspace / "index.json"
    assert run(["kit", "index", "--include-invalid", "--output", str(index)]) == 0
    assert [entry["id"] for entry in json.loads(index.read_text())] == [KIT_ID, "avatar.identity.\udcff"]
