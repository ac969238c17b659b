"""`talent lipsync synth`, `score` and `sync-train` from the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from talent_factory.cli.app import app
from talent_factory.core.errors import UsageError
from talent_factory.lipsync.actor import ActorCard, save_actor
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.models.unet import build_unet, read_unet_config

run = CliRunner()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "clips"
    line = ["lipsync", "synth", "--out", str(root), "--clips", "2", "--seconds", "1.6", "--size", "64"]
    told = run.invoke(app, [*line, "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["frames"] == 80
    assert len(list((root / "aligned-frames" / "SYNTH-0001").glob("*.png"))) == 40
    return root


@pytest.mark.parametrize("wanted", [None, "active"])
def test_threads_that_wait_leave_the_processor_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    """Spinning ones took a minute for what takes three seconds, where other processes wanted the cores."""
    monkeypatch.setenv("OMP_WAIT_POLICY", wanted or "")
    if wanted is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    run.invoke(app, ["lipsync", "synth", "--out", str(tmp_path / "x"), "--dry-run"])
    assert os.environ["OMP_WAIT_POLICY"] == (wanted or "passive")


def test_a_dry_run_draws_nothing(tmp_path: Path) -> None:
    told = run.invoke(app, ["lipsync", "synth", "--out", str(tmp_path / "x"), "--dry-run"])
    assert told.exit_code == 0
    assert "2400 frames" in told.stdout
    assert not (tmp_path / "x").exists()


def test_an_untrained_actor_misses_the_targets_and_says_so(dataset: Path, tmp_path: Path) -> None:
    codec = open_codec("dct8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = build_unet(read_unet_config("demo"), codec)
    card = ActorCard(
        image_size=64,
        codec="dct8",
        codec_id="dct8",
        extractor="mel",
        extractor_id="mel-1",
        audio_left=2,
        audio_right=2,
    )
    save_actor(tmp_path / "actor", unet, card)
    figures = tmp_path / "score.json"
    line = ["lipsync", "score", str(dataset), "--model", str(tmp_path / "actor"), "--out", str(figures)]
    told = run.invoke(app, [*line, "--json"])
    assert told.exit_code == 1, told.output
    rows = {row["name"]: row for row in json.loads(told.stdout)["rows"]}
    assert json.loads(figures.read_text()) == json.loads(told.stdout)
    for good in ("true video", "codec round trip"):
        assert rows[good]["correlation"] > 0.95
        assert rows[good]["offset"] == 0
        assert rows[good]["sync_offset"] == 0
        assert rows[good]["sync_confidence"] > 0.3
    assert rows["ours"]["correlation"] < 0.6
    assert abs(rows["copied reference"]["correlation"]) < 0.01
    assert rows["copied reference"]["sync_confidence"] < 0.1
    assert rows["silence"]["leak"] is not None
    human = run.invoke(app, [*line, "--clips", "1"])
    assert "fail" in human.stdout
    assert "codec round trip" in human.stdout


def test_a_dataset_needs_an_actor(dataset: Path) -> None:
    told = run.invoke(app, ["lipsync", "score", str(dataset)])
    assert isinstance(told.exception, UsageError)
    assert "--model" in str(told.exception.remedy)


def test_sync_train_writes_a_network_that_says_what_it_hears(dataset: Path, tmp_path: Path) -> None:
    from talent_factory.lipsync.sync.network import load_syncnet

    out = tmp_path / "sync.safetensors"
    told = run.invoke(
        app, ["lipsync", "sync-train", str(dataset), "--out", str(out), "--steps", "3", "--json"]
    )
    assert told.exit_code == 0, told.output
    assert load_syncnet(out).extractor == "mel-1"


def test_a_filmed_clip_scores_as_what_it_is(tmp_path: Path) -> None:
    pytest.importorskip("av")
    root = tmp_path / "clips"
    line = [
        "lipsync",
        "synth",
        "--out",
        str(root),
        "--clips",
        "1",
        "--seconds",
        "2",
        "--size",
        "64",
        "--video",
    ]
    assert run.invoke(app, line).exit_code == 0
    video, truth = root / "video" / "SYNTH-0001.mp4", root / "truth" / "SYNTH-0001.npz"
    told = run.invoke(
        app, ["lipsync", "score", str(video), "--truth", str(truth), "--detector", "center", "--json"]
    )
    assert told.exit_code == 0, told.output
    figures = json.loads(told.stdout)
    assert figures["frames"] == 50
    assert figures["correlation"] > 0.9
    assert figures["offset"] == 0
    assert figures["sync_offset"] == 0
    assert np.isfinite(figures["sync_confidence"])
    assert figures["articulation"] == pytest.approx(1, abs=0.3)
    # a detector that finds a face in half of the frames: those are scored
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({video.name: [[0, 0, 64, 64]] * 25 + [None] * 25}))
    half = run.invoke(app, ["lipsync", "score", str(video), "--detector", f"boxes:{boxes}", "--json"])
    assert half.exit_code == 0, half.output
    told = json.loads(half.stdout)
    assert (told["frames"], told["without_face"]) == (25, 25)
    loud = run.invoke(app, ["lipsync", "score", str(video), "--detector", "center", "--json"])
    assert json.loads(loud.stdout)["articulation"] is None  # openings and loudness have no common size


def test_a_face_that_says_nothing_is_told_from_a_bad_score(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from fractions import Fraction

    from talent_factory.lipsync.animate.mux import movie

    path = tmp_path / "still.mp4"
    with movie(path, size=(64, 64), rate=Fraction(25), origin={}) as made:
        for _ in range(25):
            made.show(np.full((64, 64, 3), 200, np.uint8))
        made.hear(np.sin(np.arange(48000) / 20).astype(np.float32) * 0.3)
    told = run.invoke(app, ["lipsync", "score", str(path), "--detector", "center", "--reader", "dark"])
    assert told.exit_code == 0, told.output
    assert "no moving mouth was read" in told.output
    assert "--reader drawn" in told.output
