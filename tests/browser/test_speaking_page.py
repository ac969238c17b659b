"""The page of the lip-sync demo in a real browser: videos are decoded, nothing is fetched."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import browse

from talent_factory.lipsync.animate.mux import AUDIO_RATE, movie
from talent_factory.lipsync.demo.recipe import FULL
from talent_factory.lipsync.demo.records import DemoResult, Watched
from talent_factory.lipsync.score.records import Figures, Score, checks_of
from talent_factory.report.page import write_speaking_page
from talent_factory.report.speaking import speaking_content

pytestmark = pytest.mark.browser
GREEN = (30, 190, 60)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with one video that is green all over."""
    video, strip = tmp_path / "v.mp4", tmp_path / "s.png"
    with movie(video, size=(256, 256), rate=Fraction(25), origin={}) as out:
        for _ in range(25):
            out.show(np.full((256, 256, 3), GREEN, np.uint8))
        out.hear(np.zeros(AUDIO_RATE, np.float32))
    Image.new("RGB", (120, 10)).save(strip)
    rows = {"ours": Figures(name="ours", correlation=0.91, offset=0, articulation=0.9)}
    seen = Watched(
        name="portrait", video=video, strip=strip, made=(0.0, 0.9, 0.1), meant=(0.0, 1.0, 0.0),
        correlation=0.9, offset=0, articulation=0.9, leak=0.0, frames_per_second=40.0,
    )  # fmt: skip
    result = DemoResult(
        root=tmp_path, quick=True, size=FULL, steps=1, parameters=1, actor=tmp_path,
        score=Score(clips=("A-1",), frames=3, rows=tuple(rows.values()), checks=checks_of(rows)),
        watched=(seen,), seconds={"train": 1.0},
    )  # fmt: skip
    return write_speaking_page(speaking_content(result), tmp_path / "report.html")


def test_the_policy_lets_our_script_run_and_nothing_else(page: Path) -> None:
    seen = browse(page, "--dump-dom")
    assert "Content Security Policy" not in seen
    assert re.search(r'<button[^>]*id="theme"[^>]*>(Dark|Light)</button>', seen)
    assert "ERR_" not in seen


@pytest.mark.parametrize("width", [420, 1200])
def test_the_video_shows_its_first_frame(page: Path, width: int) -> None:
    picture = page.with_suffix(f".{width}.png")
    browse(page, f"--window-size={width},1400", "--virtual-time-budget=4000", f"--screenshot={picture}")
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    green = (np.abs(pixels - GREEN).sum(axis=2) < 40).mean()
    assert green > 0.02
