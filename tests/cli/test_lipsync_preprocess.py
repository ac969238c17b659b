"""`talent lipsync preprocess` and `features`, as people call them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from film_maker import empty, film, portrait, steady, tone
from talent_factory.cli.app import run
from talent_factory.lipsync.data.metadata import read_metadata

Talent = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def talent(capfd: pytest.CaptureFixture[str]) -> Talent:
    """Run `talent lipsync ... --json`; returns exit code, document and stderr."""

    def call(*words: str | Path, as_json: bool = True) -> tuple[int, Any, str]:
        code = run(["--quiet", "lipsync", *map(str, words), *(["--json"] if as_json else [])])
        out, err = capfd.readouterr()
        return code, json.loads(out) if as_json and out else out, err

    return call


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with a speaker and a scene with nobody."""
    film(tmp_path / "in" / "speaker.mp4", lambda time: portrait(), steady(2.4, 30), sound=tone(2.4))
    film(tmp_path / "in" / "nobody.mp4", lambda time: empty(), steady(1), sound=tone(1))
    return tmp_path / "in"


def test_a_folder_of_videos_becomes_a_dataset(talent: Talent, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, plan, _ = talent("preprocess", videos, "--out", out, "--dry-run")
    assert (code, plan["frames_at_most"], out.exists()) == (0, 85, False)
    code, made, err = talent("preprocess", videos, "--out", out, "--size", "64")
    assert code == 3
    assert "no face was found in 25 frames" in err
    assert (made["clips"], made["frames"]) == (1, 60)
    assert [Path(path).is_file() for path in made["sheets"]] == [True]
    assert read_metadata(out / "metadata.npz").clips[0].name == "speaker-0001"
    code, text, _ = talent("preprocess", videos / "speaker.mp4", "--out", out, "--size", "64", as_json=False)
    assert code == 0
    assert "1 clip, 60 frames" in text
    assert "contact-sheet-001.png" in text
    code, heard, _ = talent("features", out)
    assert (code, heard["changed"], heard["extractor"]) == (0, False, "mel-1")
    code, heard, _ = talent("features", out, "--dry-run")
    assert (code, heard["frames"]) == (0, 60)


def test_no_face_at_all_is_one_clear_line(talent: Talent, videos: Path, tmp_path: Path) -> None:
    code, _, err = talent(
        "preprocess", videos / "nobody.mp4", "--out", tmp_path / "out", "--size", "64", as_json=False
    )
    assert code == 1
    assert "no face was found in 25 frames" in err
    assert "--detector" in err
    assert len(err.strip().splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("preprocess", "nowhere", "--out", "out"), 1, "does not exist"),
        (("features", "nowhere"), 1, "does not exist"),
        (("features", "nowhere", "--extractor", "ear"), 2, "no extractor 'ear'"),
    ],
)
def test_wrong_words(
    talent: Talent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    answer, _, err = talent(*words, as_json=False)
    assert answer == code
    assert says in err


def test_an_unknown_detector_is_a_wrong_word(talent: Talent, videos: Path, tmp_path: Path) -> None:
    code, _, err = talent("preprocess", videos, "--out", tmp_path / "out", "--detector", "eye", as_json=False)
    assert code == 2
    assert "use skimage" in err
