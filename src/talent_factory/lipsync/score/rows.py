"""Scores a speaking actor on clips it never saw, beside rows that must be better and rows that must fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import Cancelled
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.ports import Clips
from talent_factory.lipsync.score.measures import (
    articulation,
    best_lag,
    concordance,
    lags,
    pearson,
    psnr,
    ssim,
)
from talent_factory.lipsync.score.reader import read_mouths
from talent_factory.lipsync.score.records import Figures, Score, checks_of
from talent_factory.lipsync.sync.judge import judge
from talent_factory.lipsync.synth.clips import read_truth, truth_path

if TYPE_CHECKING:
    from talent_factory.lipsync.animate.speaker import Speaker
    from talent_factory.lipsync.sync.network import SyncNet

DELAY = 5
TRUE, CODEC, OURS = "true video", "codec round trip", "ours"
SHUFFLED, DELAYED, COPIED, SILENCE = (
    "shuffled audio",
    f"audio {DELAY} frames late",
    "copied reference",
    "silence",
)
_PICTURES = 10  # frames of each clip that likeness is measured on

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Subject:
    """One clip to score on: frames (T, S, S, 3) uint8, features (T, 10, 384), opening (T,)."""

    name: str
    frames: Frames
    features: NDArray[Any]
    opening: NDArray[Any]


@dataclass
class _Row:
    """What one row has gathered, clip after clip."""

    readings: list[tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    likeness: list[float] = field(default_factory=list)
    verdicts: list[tuple[int, float, float]] = field(default_factory=list)


def read_subjects(clips: Clips, chosen: Sequence[int], *, root: Path | None = None) -> list[Subject]:
    """The clips `chosen`; their opening is the truth below `root` where there is one, else a reading.

    Raises:
        ClipError: a file is missing or broken.
    """
    found = []
    for clip in chosen:
        about = clips.metadata.clips[clip]
        length = len(about.frames)
        frames = np.stack([clips.frame(clip, k) for k in range(length)])
        known = root is not None and truth_path(root, about.name).is_file()
        opening = read_truth(root, about.name)["opening"] if known and root else read_mouths(frames)[0]
        found.append(Subject(about.name, frames, clips.audio(clip, 0, length), opening[:length]))
    return found


def score_actor(
    speaker: Speaker,
    subjects: Sequence[Subject],
    *,
    network: SyncNet | None = None,
    reporter: Reporter | None = None,
    stop: StopSignal | None = None,
) -> Score:
    """The figures of all rows over `subjects`; the first frame of a clip is its reference.

    For silence the reference is the frame with the widest open mouth, which a lazy network would copy.

    Raises:
        Cancelled: `stop` was asked for.
    """
    shown = reporter or SilentReporter()
    rows = {name: _Row() for name in (TRUE, CODEC, OURS, SHUFFLED, DELAYED, COPIED, SILENCE)}
    for done, subject in enumerate(subjects):
        if stop is not None and stop.requested:
            raise Cancelled(f"{done} of {len(subjects)} clips are scored", remedy="run the command again")
        _clip(rows, speaker, subject, subjects[(done + 1) % len(subjects)], network)
        shown.progress("score", done + 1, len(subjects), unit="clip")
    figures = tuple(_figures(name, row) for name, row in rows.items())
    return Score(
        clips=tuple(subject.name for subject in subjects),
        frames=sum(len(subject.frames) for subject in subjects),
        rows=figures,
        checks=checks_of({row.name: row for row in figures}),
    )


def _clip(
    rows: dict[str, _Row], speaker: Speaker, subject: Subject, other: Subject, network: SyncNet | None
) -> None:
    frames, sound, true = subject.frames, subject.features, subject.opening
    length = len(frames)
    widest = int(np.argmax(read_mouths(frames)[0]))
    late = np.concatenate([np.zeros_like(sound[:DELAY]), sound[:-DELAY]])
    copied = frames.copy()
    copied[:, frames.shape[1] // 2 :] = frames[0, frames.shape[1] // 2 :]
    videos = {
        TRUE: frames,
        CODEC: round_trip(speaker, frames),
        OURS: speak(speaker, frames, sound),
        SHUFFLED: speak(speaker, frames, foreign(other.features, length, same=other is subject)),
        DELAYED: speak(speaker, frames, late),
        COPIED: copied,
        SILENCE: speak(speaker, frames, _silence(speaker, length), reference=widest),
    }
    for name, video in videos.items():
        row = rows[name]
        row.readings.append((read_mouths(video)[0], true))
        for k in np.linspace(0, length - 1, min(_PICTURES, length)).astype(int):
            half = frames.shape[1] // 2
            row.upper.append(psnr(video[k, :half], frames[k, :half]))
            row.likeness.append(ssim(video[k], frames[k]))
        if network is not None and name != SILENCE:
            verdict = judge(network, video, sound)
            row.verdicts.append((verdict.offset, verdict.error, verdict.confidence))


def foreign(features: NDArray[Any], length: int, *, same: bool) -> NDArray[Any]:
    """Sound that does not belong to a clip of `length` frames: another clip's, or its own, moved."""
    if same:
        return np.roll(features, length // 2, axis=0)
    return np.concatenate([features] * (-(-length // len(features))))[:length]


def _silence(speaker: Speaker, length: int) -> NDArray[Any]:
    from talent_factory.lipsync.audio.features import SAMPLES

    found: NDArray[Any] = speaker.extractor.features(np.zeros(length * SAMPLES, np.float32))
    return found


def speak(speaker: Speaker, frames: Frames, sound: NDArray[Any], *, reference: int = 0) -> Frames:
    """The frames (T, S, S, 3) as `speaker` makes them for `sound` (T, 10, 384), nothing pasted or gated."""
    from talent_factory.lipsync.animate.flow import Flow
    from talent_factory.lipsync.animate.speaker import BATCH

    listen, length, flow = speaker.conditioner, len(frames), Flow(speaker)
    known = speaker.look([frames[reference]])[0]
    made = []
    for start in range(0, length, BATCH):
        span = range(start, min(start + BATCH, length))
        faces = speaker.look([frames[k] for k in span])
        windows = np.stack([listen.window(sound, first=0, index=k, length=length) for k in span])
        made.append(flow.push([(face, known) for face in faces], windows, np.ones(len(span), np.float32)))
    return np.concatenate([*made, flow.finish()])


def round_trip(speaker: Speaker, frames: Frames) -> Frames:
    """The frames through the codec and back: the best that any network on it could do."""
    return speaker.show([face.whole for face in speaker.look(list(frames))])


def _figures(name: str, row: _Row) -> Figures:
    made = [reading for reading, _ in row.readings]
    each = row.readings
    late = best_lag(np.mean([lags(a, b) for a, b in each], axis=0))
    verdicts = np.array(row.verdicts) if row.verdicts else None
    silent = name == SILENCE
    return Figures(
        name=name,
        correlation=None if silent else float(np.mean([pearson(a, b) for a, b in each])),
        concordance=None if silent else float(np.mean([concordance(a, b) for a, b in each])),
        offset=None if silent or name == COPIED else late,
        articulation=None if silent else float(np.mean([articulation(a, b) for a, b in each])),
        leak=float(np.mean([np.clip(a, 0, None).mean() for a in made])) if silent else None,
        upper_psnr=float(np.mean(row.upper)),
        ssim=float(np.mean(row.likeness)),
        sync_offset=None if verdicts is None else int(np.median(verdicts[:, 0])),
        sync_error=None if verdicts is None else float(verdicts[:, 1].mean()),
        sync_confidence=None if verdicts is None else float(verdicts[:, 2].mean()),
    )
