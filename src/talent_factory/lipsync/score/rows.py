"""Scores a speaking actor on clips it never saw, beside rows that must be better and rows that must fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
PAIRINGS = 5
"""Foreign sounds that each clip is made to say; one alone may fit by chance as far as 0.3."""
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
        _clip(rows, speaker, subject, foreign(subjects, done), network)
        shown.progress("score", done + 1, len(subjects), unit="clip")
    figures = tuple(_figures(name, row) for name, row in rows.items())
    return Score(
        clips=tuple(subject.name for subject in subjects),
        frames=sum(len(subject.frames) for subject in subjects),
        rows=figures,
        checks=checks_of({row.name: row for row in figures}),
    )


def _clip(
    rows: dict[str, _Row],
    speaker: Speaker,
    subject: Subject,
    foreigners: Iterator[NDArray[Any]],
    network: SyncNet | None,
) -> None:
    frames, half = subject.frames, subject.frames.shape[1] // 2
    for name, video in _videos(speaker, subject, foreigners):
        row = rows[name]
        row.readings.append((read_mouths(video)[0], subject.opening))
        for k in np.linspace(0, len(frames) - 1, min(_PICTURES, len(frames))).astype(int):
            row.upper.append(psnr(video[k, :half], frames[k, :half]))
            row.likeness.append(ssim(video[k], frames[k]))
        if network is not None and name != SILENCE:
            verdict = judge(network, video, subject.features)
            row.verdicts.append((verdict.offset, verdict.error, verdict.confidence))


def _videos(
    speaker: Speaker, subject: Subject, foreigners: Iterator[NDArray[Any]]
) -> Iterator[tuple[str, Frames]]:
    """One clip as each row shows it, one video after the other: only one is held."""
    frames, sound = subject.frames, subject.features
    yield TRUE, frames
    yield CODEC, round_trip(speaker, frames)
    yield OURS, speak(speaker, frames, sound)
    for other in foreigners:
        yield SHUFFLED, speak(speaker, frames, other)
    yield DELAYED, speak(speaker, frames, np.concatenate([np.zeros_like(sound[:DELAY]), sound[:-DELAY]]))
    copied = frames.copy()
    copied[:, frames.shape[1] // 2 :] = frames[0, frames.shape[1] // 2 :]
    yield COPIED, copied
    widest = int(np.argmax(read_mouths(frames)[0]))
    yield SILENCE, speak(speaker, frames, _silence(speaker, len(frames)), reference=widest)


def foreign(subjects: Sequence[Subject], index: int) -> Iterator[NDArray[Any]]:
    """PAIRINGS sounds (T, 10, 384) that do not belong to subject `index`: those of the subjects after it in
    turn, or its own where it is alone, repeated to its length.

    Each is turned by another share of its length. Most speech begins and ends in silence: laid beside each
    other as they are, mouths that follow nothing but their own sound agree by about 0.1.
    """
    length = len(subjects[index].frames)
    others = [*subjects[index + 1 :], *subjects[:index]] or [subjects[index]]
    for turn in range(PAIRINGS):
        features = others[turn % len(others)].features
        moved = np.roll(features, round(len(features) * (turn + 1) / (PAIRINGS + 1)), axis=0)
        yield np.concatenate([moved] * (-(-length // len(moved))))[:length]


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
