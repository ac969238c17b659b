"""`talent base random|check|list|fetch`: bases other than the embedded one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from talent_factory.cli.app import app

runner = CliRunner()


def test_random_is_found_and_checked(tmp_path: Path) -> None:
    out = tmp_path / "bases" / "one.safetensors"
    made = runner.invoke(
        app, ["base", "random", "tiny-sdxl", "--out", str(out), "--form", "checkpoint", "--json"]
    )
    assert made.exit_code == 0, made.output
    card = json.loads(made.stdout)
    assert (card["family"], card["form"], card["sdx_version"], card["resolution"]) == (
        "sdxl",
        "checkpoint",
        "xl",
        64,
    )
    checked = json.loads(runner.invoke(app, ["base", "check", str(out), "--json"]).stdout)
    assert checked["revision"]
    listed = json.loads(runner.invoke(app, ["base", "list", "--folder", str(out.parent), "--json"]).stdout)
    assert [card["family"] for card in listed] == ["mini", "sdxl"]
    shown = runner.invoke(app, ["base", "check", "mini"])
    assert shown.exit_code == 0
    assert "mini" in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["sd14", "--out", "base"],
        ["tiny", "--out", "base.safetensors", "--form", "checkpoint"],
        ["sdxl", "--out", "base", "--form", "checkpoint"],
        ["tiny", "--out", "base", "--precision", "fp8"],
        ["tiny", "--out", "."],
    ],
)
def test_what_cannot_be_made_is_said_before_anything_is(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = runner.invoke(app, ["base", "random", *arguments])
    assert answer.exit_code != 0
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"\x80\x04")
    answer = runner.invoke(app, ["base", "check", str(path)])
    assert answer.exit_code != 0
    assert "pickle" in str(answer.exception)
