"""`talent dataset review`: by number, by page, and what a prepared dataset leaves out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cast_maker import write_face
from talent_factory.cli.app import run
from talent_factory.core.events import SilentReporter
from talent_factory.core.files import sha256_file
from talent_factory.datagen.review.book import load_review
from talent_factory.datagen.style import StyleOptions, cast_style
from talent_factory.providers.embedded import EmbeddedPainter
from talent_factory.providers.vision import make_vision

Talent = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def talent(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Talent:
    """Run `talent dataset ... --json`; returns exit code, document and stderr."""
    monkeypatch.setenv("TALENT_WORKSPACE", str(tmp_path / "space"))

    def call(*words: str | Path, as_json: bool = True) -> tuple[int, Any, str]:
        code = run(["--quiet", "dataset", *map(str, words), *(["--json"] if as_json else [])])
        out, err = capfd.readouterr()
        return code, json.loads(out) if as_json and code == 0 else out, err

    return call


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four captioned images."""
    for number, name in enumerate("abcd"):
        write_face(tmp_path / "mine" / f"{name}.png", (80 + number, 60))
        (tmp_path / "mine" / f"{name}.txt").write_text(f"dot woman, place {name}, grey light")
    return tmp_path / "mine"


def test_rejected_images_stay_out_of_the_dataset(talent: Talent, pictures: Path, tmp_path: Path) -> None:
    words = ("prepare", pictures, "--token", "dot", "--out", tmp_path / "data", "--resolution", "64")
    assert talent(*words)[1]["images"] == 4
    code, document, _ = talent("review", pictures, "--keep", "1", "--reject", "2-3")
    assert code == 0
    assert [image["choice"] for image in document["images"]] == ["keep", "reject", "reject", None]
    assert (document["kept"], document["rejected"]) == (1, 2)
    made = talent(*words)[1]
    assert made["images"] == 2
    said = [finding["message"] for finding in made["findings"] if finding["subject"] == "review"]
    assert said == ["2 images rejected by hand left out: b.png, c.png"]
    assert talent("review", pictures, "--clear", "3")[1]["rejected"] == 1
    assert talent(*words)[1]["images"] == 3
    assert "place b" not in " ".join(path.read_text() for path in (tmp_path / "data").rglob("*.txt"))


def test_exports_know_two_layouts(talent: Talent, pictures: Path, tmp_path: Path) -> None:
    made = talent("prepare", pictures, "--token", "dot", "--out", tmp_path / "data", "--resolution", "64")[1]
    code, document, _ = talent(
        "export", made["dataset"], "--out", tmp_path / "hub", "--layout", "imagefolder"
    )
    assert (code, document["images"], document["layout"]) == (0, 4, "imagefolder")
    assert len((tmp_path / "hub" / "metadata.jsonl").read_text().splitlines()) == 4
    code, _, err = talent("export", made["dataset"], "--out", tmp_path / "x", "--layout", "zip")
    assert code == 2
    assert "imagefolder" in err


def test_nothing_is_left_when_all_are_rejected(talent: Talent, pictures: Path, tmp_path: Path) -> None:
    talent("review", pictures, "--reject", "1-4")
    code, _, err = talent("prepare", pictures, "--token", "dot", "--out", tmp_path / "data")
    assert code == 1
    assert "all 4 images were rejected by hand" in err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--keep", "9"), "no image 9"),
        (("--reject", "one"), "no image number"),
        (("--keep", "1", "--reject", "1"), "two ways"),
        (("--list", "--keep", "1"), "--list changes nothing"),
    ],
)
def test_wrong_numbers_are_usage(
    talent: Talent, pictures: Path, options: tuple[str, ...], words: str
) -> None:
    code, _, err = talent("review", pictures, *options)
    assert code == 2
    assert words in err
    assert load_review(pictures).images == {}


def test_the_list_changes_nothing_and_reads_well(talent: Talent, pictures: Path) -> None:
    code, text, _ = talent("review", pictures, "--list", as_json=False)
    assert code == 0
    assert "4 images, 0 rejected" in text
    assert not (pictures / "review.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["done", "interrupt"])
def test_the_page_ends_when_asked_and_keeps_what_was_decided(pictures: Path, way: str) -> None:
    command = [
        sys.executable,
        "-m",
        "talent_factory.cli.app",
        "dataset",
        "review",
        str(pictures),
        "--no-open",
    ]
    process = subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/\S+/", process.stderr.readline())
        assert found is not None
        sha = sha256_file(pictures / "a.png")
        _post(found.group() + "decide", {"sha256": sha, "choice": "reject"})
        if way == "done":
            _post(found.group() + "done", {})
        else:
            process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert json.loads(out)["rejected"] == 1
    assert load_review(pictures).rejects(sha)


def _post(url: str, body: dict[str, str]) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=120) as answer:
        assert answer.status == 200


@pytest.mark.slow
def test_a_style_set_is_reviewed_and_prepared_by_its_folder(talent: Talent, tmp_path: Path) -> None:
    out = tmp_path / "style"
    cast_style(
        write_face(tmp_path / "look.png", (256, 256)),
        out=out,
        token="dot",
        options=StyleOptions(count=3, mode="direct", long_side=512),
        editor=EmbeddedPainter(),
        vision=make_vision(),
        reporter=SilentReporter(),
    )
    code, document, _ = talent("review", out, "--reject", "2")
    assert (code, len(document["images"]), document["rejected"]) == (0, 3, 1)
    code, made, _ = talent("prepare", out, "--out", tmp_path / "data", "--resolution", "64")
    assert (code, made["kind"], made["token"], made["images"]) == (0, "style", "dot", 2)
