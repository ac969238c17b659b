"""Scores one video with its sound: what an animated portrait can be judged by when there is no true video."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import ClipError
from talent_factory.core.events import Reporter
from talent_factory.core.records import Record
from talent_factory.lipsync.records import FRAME_RATE
from talent_factory.lipsync.score.measures import articulation, best_lag, concordance, lags, pearson
from talent_factory.lipsync.score.reader import SIDE, read_dark, read_mouths
from talent_factory.lipsync.sync.judge import REACH, judge, longest_run
from talent_factory.lipsync.sync.network import FRAMES

if TYPE_CHECKING:
    from talent_factory.lipsync.preprocess.detect import FaceDetector
    from talent_factory.lipsync.sync.network import SyncNet

_RATE = 16000
_LEAST = 10  # frames that a score needs
_QUIET = 0.02  # of the loudest frame: below it nobody speaks


class VideoScore(Record):
    """The figures of one video. `against` says what the opening is compared with: the truth of a drawn clip,
    or the loudness of the sound, which no mouth follows exactly; a low correlation then says little.
    """

    format_version: int = 1
    frames: int
    """Frames that were scored."""
    without_face: int = 0
    """Frames that show no face and were left out."""
    reader: str
    against: Literal["truth", "loudness"]
    correlation: float
    concordance: float
    offset: int
    moves: float
    """Deviation of the opening that was read; about 0 where the reader sees no mouth that moves."""
    articulation: float | None
    """How much the mouth moves beside the truth; None against loudness, whose size says nothing of mouths."""
    leak: float | None
    """Mean opening while nobody speaks; None when there is no silence."""
    sync_offset: int | None = None
    """What the SyncNet says; None also where too few frames in a row show a face."""
    sync_error: float | None = None
    sync_confidence: float | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """The faces of a video: (T, S, S, 3) uint8, grey where `shown` (T,) is False since none was found."""

    faces: NDArray[np.uint8]
    shown: NDArray[np.bool_]


def aligned_frames(
    path: Path, detector: FaceDetector, *, size: int = 2 * SIDE, reporter: Reporter | None = None
) -> Seen:
    """The faces of a video at 25 frames a second by its time stamps, `size` pixels a side.

    Raises:
        ClipError: no frame shows a face.
        FileError: the video cannot be read.
    """
    from talent_factory.lipsync.animate.faces import find_alignments
    from talent_factory.lipsync.animate.film import Film
    from talent_factory.lipsync.animate.timeline import source_at
    from talent_factory.lipsync.preprocess.align import crop

    film = Film(path)
    cuts = find_alignments(film, detector, reporter=reporter)
    nobody = np.full((size, size, 3), 128, np.uint8)
    faces = [
        nobody if cut is None else crop(image, cut, size)
        for image, cut in zip(film.frames(), cuts, strict=True)
    ]
    count = max(1, round(film.seconds * FRAME_RATE))
    # the middle of each frame's time, so that rounded time stamps do not fall on the frame before
    places = [source_at(film.stamps, float((k + Fraction(1, 2)) / 25)) for k in range(count)]
    return Seen(
        np.stack([faces[place] for place in places]), np.array([cuts[place] is not None for place in places])
    )


def loudness(wave: NDArray[Any], frames: int) -> NDArray[np.float32]:
    """The root mean square of (N,) samples at 16 kHz in each of `frames` frames at 25 a second: (frames,)."""
    step = round(_RATE / FRAME_RATE)
    padded = np.zeros(frames * step, np.float64)
    taken = min(len(padded), len(wave))
    padded[:taken] = wave[:taken]
    found: NDArray[np.float32] = np.sqrt((padded.reshape(frames, step) ** 2).mean(axis=1)).astype(np.float32)
    return found


def score_video(
    seen: Seen,
    wave: NDArray[Any],
    *,
    truth: NDArray[Any] | None = None,
    network: SyncNet | None = None,
    reader: Literal["drawn", "dark"] = "drawn",
) -> VideoScore:
    """Score the faces of a video with its sound (N,) at 16 kHz, and `truth` (T,) where it is known.

    Raises:
        ClipError: fewer than ten frames show a face, or the SyncNet has too few of a whole video.
    """
    from talent_factory.lipsync.audio.features import open_extractor

    read = read_mouths(seen.faces)[0] if reader == "drawn" else read_dark(seen.faces)
    made = np.where(seen.shown, read, np.float32(np.nan))
    loud = loudness(wave, len(made))
    wanted = loud if truth is None else np.asarray(truth, np.float32)
    length = min(len(made), len(wanted))
    made, wanted, there = made[:length], wanted[:length], seen.shown[:length]
    if there.sum() < _LEAST:
        raise ClipError(
            f"{there.sum()} frames with a face are too few for a score", remedy="give half a second or more"
        )
    quiet = there & (loud[:length] <= _QUIET * max(float(loud.max()), 1e-9))
    mouths, told = made[there], wanted[there]
    verdict = None
    # what has gaps is judged only where it can be; a whole video that is too short is refused
    if network is not None and (there.all() or longest_run(there) >= FRAMES + 2 * REACH):
        features = open_extractor(network.extractor).features(wave)
        verdict = judge(network, seen.faces, features, shown=seen.shown)
    return VideoScore(
        frames=int(there.sum()),
        without_face=int(length - there.sum()),
        reader=reader,
        against="loudness" if truth is None else "truth",
        correlation=pearson(mouths, told),
        concordance=concordance(mouths, told),
        offset=best_lag(lags(made, wanted)),
        moves=float(np.std(mouths)),
        articulation=None if truth is None else articulation(mouths, told),
        leak=float(np.clip(made[quiet], 0, None).mean()) if quiet.any() else None,
        sync_offset=None if verdict is None else verdict.offset,
        sync_error=None if verdict is None else verdict.error,
        sync_confidence=None if verdict is None else verdict.confidence,
    )
