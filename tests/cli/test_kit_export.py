"""`talent kit export`, `prompt` and `subject`: what they write, print, refuse, and hand back to `import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kit_maker import KIT_ID, make_base, make_kit
from talent_factory.cli.app import run
from talent_factory.kits import keys


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with one good kit; the current folder is it."""
    base = make_base(tmp_path / "base")
    monkeypatch.setattr(keys, "MINI_FOLDER", base)
    monkeypatch.setenv("TALENT_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    make_kit(tmp_path / "talents" / "avatar", base, work=tmp_path / "work")
    return tmp_path


def tree(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_export_writes_what_it_says(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["kit", "export", KIT_ID, "--target", "a1111", "--out", "loras"]
    assert run([*words, "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert not (workspace / "loras").exists()
    assert run([*words, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (said["written"], done["written"]) == (False, True)
    assert {**said, "written": True} == done
    assert all((workspace / file["path"]).stat().st_size == file["bytes"] for file in done["files"])
    assert run([*words, "--name", "dot", "--minimal-metadata"]) == 0
    shown = capsys.readouterr().out
    assert "called dot" in shown
    assert b"nobody" not in (workspace / "loras" / "dot.safetensors").read_bytes()


def test_mistakes_of_an_export_are_one_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls: tuple[tuple[list[str], int, str], ...] = (
        ([KIT_ID, "-t", "photoshop", "-o", "x"], 2, "choose from a1111"),
        (["avatar.identity.gone", "-t", "a1111", "-o", "x"], 1, "there is no kit avatar.identity.gone"),
        (["../x", "-t", "a1111", "-o", "x"], 2, "no talent id"),
        ([KIT_ID, "-t", "a1111", "-o", "x", "--name", "weights"], 2, "cannot be the name"),
        ([KIT_ID, "-t", "zip", "-o", "x", "--minimal-metadata"], 2, "as it is"),
    )
    for words, code, said in calls:
        assert run(["kit", "export", *words]) == code
        shown = capsys.readouterr().err
        assert said in shown
        assert "next: " in shown
    assert not (workspace / "x").exists()


def test_publishing_asks_for_consent_and_subject_gives_it(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["kit", "subject", KIT_ID, "--real-person"]) == 0
    capsys.readouterr()
    publish = ["kit", "export", KIT_ID, "-t", "hf", "-o", "hub"]
    assert run(publish) == 3
    assert f"talent kit subject {KIT_ID} --real-person --consent self" in capsys.readouterr().err
    assert run(["kit", "export", KIT_ID, "-t", "zip", "-o", "hub", "--publish"]) == 3
    assert run(["kit", "subject", KIT_ID, "--consent", "written"]) == 2
    (workspace / "paper.txt").write_text("yes")
    assert run(["kit", "subject", KIT_ID, "--consent", "written", "--evidence", "paper.txt"]) == 0
    capsys.readouterr()
    assert run(["kit", "subject", KIT_ID, "--json"]) == 0
    stated = json.loads(capsys.readouterr().out)["subject"]
    assert (stated["real_person"], stated["consent"]) == (True, "written")
    assert run(publish) == 0
    assert "real person" in (workspace / "hub" / "dot_test_lora" / "README.md").read_text()
    assert run(["kit", "subject", KIT_ID, "--minor"]) == 0
    assert run(publish) == 1, "the validator refuses the kit before anybody asks for consent"
    assert run(["kit", "subject", KIT_ID, "--consent", "maybe"]) == 2


def test_prompt_speaks_each_program(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kit", "prompt", KIT_ID, "Dot climbing a tree", "--weight", "0.8"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "<lora:dot_test_lora:0.8>, dot_test climbing a tree"
    assert "negative: blurry" in shown
    assert run(["kit", "prompt", KIT_ID, "Dot", "--tool", "comfy", "--name", "my_dot", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["positive"], made["kits"][0]["name"]) == ("dot_test", "my_dot")
    for words in (["--tool", "x"], ["--name", "a", "--name", "b"], ["--with", KIT_ID], ["--weight", "7"]):
        assert run(["kit", "prompt", KIT_ID, "Dot", *words]) == 2


def test_an_archive_comes_back_bit_for_bit(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Signed, sent, taken in elsewhere, verified there."""
    kit = workspace / "talents" / "avatar" / KIT_ID
    assert run(["kit", "keygen", "--name", "studio"]) == 0
    assert run(["kit", "sign", KIT_ID]) == 0
    before = tree(kit)
    assert "SIGNATURE.json" in before
    assert run(["kit", "export", KIT_ID, "-t", "zip", "-o", "sent"]) == 0
    assert run(["kit", "import", f"sent/{KIT_ID}.zip", "--workspace", "elsewhere"]) == 0
    assert tree(workspace / "elsewhere" / "talents" / "avatar" / KIT_ID) == before
    capsys.readouterr()
    verify: list[Any] = ["kit", "verify", KIT_ID, "--workspace", "elsewhere"]
    assert run([*verify, "--key", "config/keys/kits.pem.pub", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "trusted"
