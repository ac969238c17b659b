"""`talent kit import`: what it prints, its JSON and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_files import kohya_arrays, words_for, write_arrays
from talent_factory.cli.app import run


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A small LoRA file."""
    arrays = kohya_arrays("sd15", keep=lambda name: "mid_block_attentions_0_transformer" in name)
    return write_arrays(tmp_path / "in" / "peter.safetensors", arrays, words_for("sd15"))


def test_a_file_becomes_a_valid_kit(lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--workspace", str(tmp_path)]
    assert run(["kit", "import", str(lora), *place]) == 0
    shown = capsys.readouterr().out
    assert "imported  avatar.identity.peter  from " in shown
    assert "token: someone" in shown
    assert "next: talent kit show avatar.identity.peter" in shown
    assert run(["kit", "validate", "avatar.identity.peter", *place]) == 0
    capsys.readouterr()
    assert run(["kit", "import", str(lora), *place]) == 0
    assert capsys.readouterr().out.startswith("known     avatar.identity.peter")


def test_json_tells_what_was_inferred_and_refused(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lora.parent / "bad\x1b[31m.ckpt").write_bytes(b"x")
    command = ["kit", "import", str(lora.parent), "--workspace", str(tmp_path / "space")]
    assert run([*command, "--dry-run", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["dry_run"], document["imported"], document["refused"]) == (True, 1, 1)
    refused, imported = document["items"]
    assert (refused["code"], imported["id"]) == ("pickle", "avatar.identity.peter")
    assert {"field": "token", "value": "someone", "why": "a trigger of one word"} in imported["reasons"]
    assert not (tmp_path / "space" / "talents").exists()
    assert run(command) == 3
    assert "\x1b[31m" not in capsys.readouterr().out


def test_what_cannot_be_taken_says_why_and_what_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.zip").write_bytes(b"hello")
    assert run(["kit", "import", str(tmp_path / "a.zip"), "--workspace", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "REFUSED" in shown
    assert "[archive]" in shown
    assert "try: " in shown
    for wrong in (["--token", "two words"], ["--id", "peter"], ["--id", "avatar.style.con"]):
        assert run(["kit", "import", str(tmp_path / "a.zip"), *wrong]) == 2
    assert run(["kit", "import", str(tmp_path / "nowhere")]) == 2
