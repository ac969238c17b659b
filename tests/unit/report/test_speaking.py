"""The page of the lip-sync demo: whole in itself, and true about what was reached."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from talent_factory.core.errors import FileError
from talent_factory.lipsync.demo.recipe import FULL
from talent_factory.lipsync.demo.records import DemoResult, Watched
from talent_factory.lipsync.score.records import Figures, Score, checks_of
from talent_factory.report.page import write_speaking_page
from talent_factory.report.speaking import embed_video, mouth_curve, speaking_content


def watched(folder: Path, name: str, correlation: float) -> Watched:
    (folder / f"{name}.mp4").write_bytes(b"not really a film")
    Image.new("RGB", (120, 10)).save(folder / f"{name}.png")
    return Watched(
        name=name,
        video=folder / f"{name}.mp4",
        strip=folder / f"{name}.png",
        made=(0.0, 0.4, 0.9, 0.1),
        meant=(0.0, 0.5, 1.0, 0.0),
        correlation=correlation,
        offset=0,
        articulation=0.9,
        leak=0.02,
        frames_per_second=40.0,
    )


@pytest.fixture
def result(tmp_path: Path) -> DemoResult:
    rows = {
        "ours": Figures(
            name="ours", correlation=0.91, offset=0, articulation=0.9, sync_offset=-3, sync_confidence=0.47
        ),
        "silence": Figures(name="silence", leak=0.02),
        "shuffled audio": Figures(name="shuffled audio", correlation=0.31),
    }
    return DemoResult(
        root=tmp_path,
        quick=False,
        size=FULL,
        steps=100,
        parameters=4_000_000,
        actor=tmp_path / "run",
        score=Score(clips=("A-1",), frames=10, rows=tuple(rows.values()), checks=checks_of(rows)),
        watched=(watched(tmp_path, "portrait", 0.92), watched(tmp_path, "video", 0.5)),
        seconds={"train": 200.0, "score": 40.0},
    )


def test_the_page_holds_its_videos_and_says_what_was_missed(result: DemoResult, tmp_path: Path) -> None:
    page = write_speaking_page(speaking_content(result), tmp_path / "report.html")
    text = page.read_text("utf-8")
    assert text.count('src="data:video/mp4;base64,') == 2
    assert "media-src data:" in text
    # the second video's correlation, and foreign sound that fits too well
    assert text.count('class="missed"') == 2
    assert "0.92" in text
    # what the SyncNet says, for the row that it judged
    assert "<td>-3</td><td>0.47</td></tr>" in text
    assert text.count("SyncNet, ") == 2
    assert "<script>" in text


def test_the_curve_follows_the_numbers(result: DemoResult) -> None:
    curve = str(mouth_curve(result.watched[0]))
    meant = curve.split('class="meant" points="')[1].split('"')[0].split()
    heights = [float(point.split(",")[1]) for point in meant]
    assert heights[2] < heights[1] < heights[0] == heights[3]


def test_a_video_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.mp4"):
        embed_video(tmp_path / "gone.mp4")
