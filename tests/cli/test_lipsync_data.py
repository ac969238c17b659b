"""`talent lipsync metadata` and `pack`, and the script of the same arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lip_clips import make_clips
from talent_factory.cli.app import run
from talent_factory.lipsync.data.metadata import read_metadata


def test_scan_writes_what_training_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = make_clips(tmp_path)
    (tmp_path / "metadata.npz").unlink()
    command = ["lipsync", "metadata", "--mode", "scan", "--input", str(tmp_path), "--extractor", "mel-1"]
    assert run([*command, "--dry-run"]) == 0
    assert not (tmp_path / "metadata.npz").exists()
    assert run([*command, "--json"]) == 0
    assert read_metadata(tmp_path / "metadata.npz") == truth
    out = capsys.readouterr().out
    told = json.loads(out[out.index("{") :])
    assert (told["clips"], told["frames"], told["extractor"]) == (2, 23, "mel-1")


def test_broken_clips_are_refused_or_left_out_with_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clips(tmp_path)
    (tmp_path / "audio" / "HDTF-0001" / "000003.npy").unlink()
    out = tmp_path / "out.npz"
    command = ["lipsync", "metadata", "--input", str(tmp_path), "--output", str(out)]
    assert run(command) == 1
    assert "000003.npy" in capsys.readouterr().err
    assert not out.exists()
    assert run([*command, "--skip-broken"]) == 3
    assert "left out  HDTF-0001" in capsys.readouterr().out
    assert [clip.name for clip in read_metadata(out).clips] == ["HDTF-0002"]


def test_json_becomes_metadata_and_show_reads_legacy_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [{"folder_name": "HDTF-0001", "image_count": 2, "image_names": ["000000", "000001"]}]
    (tmp_path / "clips.json").write_text(json.dumps(folders))
    out = tmp_path / "m.npz"
    command = ["lipsync", "metadata", "--mode", "json", "--input", str(tmp_path / "clips.json")]
    assert run([*command, "--output", str(out)]) == 0
    assert read_metadata(out).clips[0].frames == ("000000", "000001")
    np.savez(tmp_path / "old.npz", folder_data=np.array(folders, object))
    capsys.readouterr()
    assert run(["lipsync", "metadata", "--mode", "show", "--input", str(tmp_path / "old.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 2


def test_clips_are_packed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_clips(tmp_path)
    assert run(["lipsync", "pack", str(tmp_path), "--dry-run"]) == 0
    assert not (tmp_path / "packs").exists()
    capsys.readouterr()
    counts = []
    for _ in range(2):
        assert run(["lipsync", "pack", str(tmp_path), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        counts.append((told["clips"], told["kept"]))
    assert counts == [(2, 0), (0, 2)]
    other = tmp_path / "elsewhere"
    assert run(["lipsync", "pack", str(tmp_path), "--out", str(other)]) == 0
    assert sorted(path.name for path in other.iterdir()) == ["metadata.npz", "packs"]


def test_the_script_takes_the_same_arguments(tmp_path: Path, repository: Path) -> None:
    make_clips(tmp_path)
    script, out = repository / "scripts" / "make_metadata.py", tmp_path / "m.npz"
    done = subprocess.run(
        [sys.executable, script, "--mode", "scan", "--input", tmp_path, "--output", out, "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(repository / "src")},
        check=True,
    )
    assert json.loads(done.stdout)["clips"] == 2
    assert read_metadata(out).image_size == 32
