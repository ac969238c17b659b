"""`talent lipsync demo`: from nothing to a page, resumable, with what it will take said before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from talent_factory.cli.app import app

runner = CliRunner()


def test_a_dry_run_says_what_it_takes_and_writes_nothing(tmp_path: Path) -> None:
    done = runner.invoke(app, ["lipsync", "demo", "--workspace", str(tmp_path), "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    assert [step["name"] for step in plan["steps"]] == ["draw clips", "train", "speak", "score"]
    assert plan["totals"]["seconds"] <= 600
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_quick_demo_goes_the_whole_way_and_again_does_only_what_is_left(tmp_path: Path) -> None:
    call = ["lipsync", "demo", "--workspace", str(tmp_path), "--quick", "--json"]
    done = runner.invoke(app, call)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    page = Path(told["page"])
    text = page.read_text("utf-8")
    assert text.count("data:video/mp4;base64,") == 2
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert {check["what"] for check in told["checks"]} >= {"mouth follows the sound", "open on silence"}
    # the SyncNet that ships judged every row but that of silence
    rows = json.loads((page.parent / "demo.json").read_text())["score"]["rows"]
    assert [row["name"] for row in rows if row["sync_confidence"] is None] == ["silence"]
    actor = Path(told["actor"]) / "unet" / "diffusion_pytorch_model.safetensors"
    clip = sorted((page.parent / "clips" / "aligned-frames").iterdir())[0]
    before = (actor.stat().st_mtime_ns, clip.stat().st_mtime_ns)
    again = runner.invoke(app, call)
    assert again.exit_code == 0, again.output
    assert (actor.stat().st_mtime_ns, clip.stat().st_mtime_ns) == before
    assert json.loads(again.stdout)["checks"] == told["checks"]
