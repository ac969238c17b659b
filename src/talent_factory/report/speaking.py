"""What the page of the lip-sync demo shows: videos, how well mouth and sound agree, how long it took."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from talent_factory.core.errors import FileError
from talent_factory.core.plan import duration
from talent_factory.core.records import Record
from talent_factory.lipsync.demo.records import MOST_SECONDS, DemoResult, Watched
from talent_factory.lipsync.score.records import Check, Figures
from talent_factory.report.content import LossPoint

_WIDTH, _HEIGHT = 1040, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 12, 30
_RATE = 25
_MAX_VIDEO = 24_000_000


class SpokenVideo(Record):
    """One video with what was read from its frames."""

    title: str
    about: str
    watched: Watched
    checks: tuple[Check, ...]


class SpeakingContent(Record):
    """All that the page shows."""

    quick: bool
    lead: str
    videos: tuple[SpokenVideo, ...]
    rows: tuple[Figures, ...]
    checks: tuple[Check, ...]
    timings: tuple[tuple[str, float], ...]
    total: float
    loss: tuple[LossPoint, ...]
    facts: tuple[tuple[str, str], ...]
    command: str


def speaking_content(result: DemoResult) -> SpeakingContent:
    """The page's content from what the demo found."""
    told = {
        "portrait": (
            "A still portrait",
            "One drawn picture of somebody the network never saw. Everything that moves was made.",
        ),
        "video": (
            "A moving head",
            "A drawn head that nods, blinks and said something else; only its mouth was replaced.",
        ),
    }
    videos = tuple(
        SpokenVideo(
            title=told[watched.name][0],
            about=told[watched.name][1],
            watched=watched,
            checks=_checks(watched),
        )
        for watched in result.watched
    )
    within = Check(
        what="seconds in all",
        value=result.total_seconds,
        target=f"<= {MOST_SECONDS}",
        reached=result.total_seconds <= MOST_SECONDS,
    )
    size = result.size
    facts = (
        ("network", f"{result.parameters / 1e6:.1f} million weights, {result.steps} steps"),
        ("trained on", f"{size.clips} drawn speakers, {size.clips * size.seconds:.0f} s of made-up speech"),
        ("scored on", f"{size.unseen} other speakers, {size.unseen * size.unseen_seconds:.0f} s"),
        ("downloads", "none"),
    )
    return SpeakingContent(
        quick=result.quick,
        lead=f"A network trained from nothing in {duration(result.seconds.get('train', 0.0))} moves the "
        "mouths of people it never saw to a sentence it never heard. Sound on.",
        videos=videos,
        rows=result.score.rows,
        checks=(*result.score.checks, within),
        timings=tuple(result.seconds.items()),
        total=result.total_seconds,
        loss=tuple(_losses(result.root / "run")),
        facts=facts,
        command="talent lipsync animate --image portrait.png --audio hello.wav "
        f"--model {result.root / 'run'} --out hello.mp4",
    )


def embed_video(path: Path) -> str:
    """The video as a data URI. Raises FileError when it cannot be read or is too large for a page."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be shown: {error}", remedy="run the same command again") from error
    if len(data) > _MAX_VIDEO:
        raise FileError(f"{path} has {len(data)} bytes, too many for a page", remedy="make a shorter video")
    return f"data:video/mp4;base64,{base64.b64encode(data).decode()}"


def mouth_curve(watched: Watched) -> Markup:
    """Two lines over time: how open the mouth was meant to be, and how open it was read from the video."""
    count = max(2, len(watched.meant))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def line(values: Sequence[float]) -> str:
        places = (
            f"{_LEFT + wide * k / (count - 1):.1f},{_TOP + high * (1 - min(1.05, max(-0.05, v))):.1f}"
            for k, v in enumerate(values)
        )
        return " ".join(places)

    seconds = range((count - 1) // _RATE + 1)
    marks = "".join(
        f'<text class="tick" x="{_LEFT + wide * s * _RATE / (count - 1):.1f}" y="{_HEIGHT - 8}" '
        f'text-anchor="middle">{s} s</text>'
        for s in seconds
    )
    levels = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_TOP + high * (1 - v):.1f}" '
        f'y2="{_TOP + high * (1 - v):.1f}"/><text class="tick" x="{_LEFT - 8}" '
        f'y="{_TOP + high * (1 - v) + 4:.1f}" text-anchor="end">{name}</text>'
        for v, name in ((0.0, "shut"), (1.0, "open"))
    )
    return Markup(
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Opening of the mouth '
        f'over time, as meant and as made; correlation {watched.correlation:.2f}">{levels}{marks}'
        f'<polyline class="meant" points="{line(watched.meant)}"/>'
        f'<polyline class="made" points="{line(watched.made)}"/></svg>'
    )


def _checks(watched: Watched) -> tuple[Check, ...]:
    return (
        Check(
            what="mouth follows the sound",
            value=watched.correlation,
            target=">= 0.8",
            reached=watched.correlation >= 0.8,
        ),
        Check(what="frames too late", value=watched.offset, target="0", reached=watched.offset == 0),
        Check(
            what="how far the mouth moves",
            value=watched.articulation,
            target="0.7 to 1.3",
            reached=0.7 <= watched.articulation <= 1.3,
        ),
        Check(what="open on silence", value=watched.leak, target="<= 0.1", reached=watched.leak <= 0.1),
    )


def _losses(run: Path) -> list[LossPoint]:
    import json

    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_bytes().rpartition(b"\n")[0].splitlines()
    rows = [json.loads(line) for line in lines]
    return [LossPoint(step=int(row["step"]), loss=float(row["loss"])) for row in rows if "loss" in row]
