"""`animate`: a picture or a video and a recording become an mp4 in which the face says it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory import __version__
from talent_factory.core.errors import Cancelled, ClipError, UsageError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import sha256_file
from talent_factory.core.records import Record
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.actor import read_card
from talent_factory.lipsync.animate.ahead import ahead
from talent_factory.lipsync.animate.drawn import DrawnDetector, FirstOf
from talent_factory.lipsync.animate.faces import Found, Scaled, find_alignments
from talent_factory.lipsync.animate.film import Film, Source, open_still
from talent_factory.lipsync.animate.mux import AUDIO_RATE, movie
from talent_factory.lipsync.animate.speaker import Speaker
from talent_factory.lipsync.animate.stage import Stage
from talent_factory.lipsync.animate.stream import Stream, pieces_of
from talent_factory.lipsync.animate.timeline import RATE, frame_count
from talent_factory.lipsync.audio.wave import read_wave
from talent_factory.lipsync.preprocess.align import Face
from talent_factory.lipsync.preprocess.detect import FaceDetector, open_detector
from talent_factory.lipsync.records import FRAME_RATE

_LONGEST = 4 * 3600
_SUFFIXES = (".mp4", ".m4v", ".mov")
_PIECE_SECONDS = 10.0


@dataclass(frozen=True)
class Wish:
    """What is to be made: of `picture` (a still, or a video when `moving`) and the speech in `audio`.

    `rate` None keeps that of the video, and is 25 for a still. `box` (left, top, right, bottom in pixels of
    the source) takes the place of a detector; `long_side` shrinks the source first, and the box with it.
    `shift` moves the cut down by that share of its side: more of the cheek is kept, and mouths open wider.
    """

    picture: Path
    audio: Path
    out: Path
    moving: bool = False
    rate: Fraction | None = None
    long_side: int | None = None
    detector: str = "auto"
    box: tuple[float, float, float, float] | None = None
    shift: float = 0.0


class Animated(Record):
    """What was made: the file, its frames, how many showed no face and stayed as they were, and the pace.

    `face_side` is the side of the square that was cut out, in pixels, `made_side` that of the made faces:
    where it is much smaller, the mouth is coarser than its picture. `detector` found the face.
    """

    out: Path
    width: int
    height: int
    frames: int
    without_face: int
    rate: float
    seconds: float
    took_seconds: float
    frames_per_second: float
    model: str
    step: int
    detector: str
    face_side: float
    made_side: int


def animate(
    wish: Wish, speaker: Speaker, *, reporter: Reporter | None = None, stop: StopSignal | None = None
) -> Animated:
    """Make the video of `wish`; it appears whole or not at all.

    Raises ClipError for unreadable sound and where no face is found, FileError for unreadable pictures.
    """
    begun = time.monotonic()
    report = reporter or SilentReporter()
    check_out(wish)
    wave = hear(wish.audio)
    source = open_source(wish)
    detector = detector_of(wish, source)
    alignments = find_alignments(source, detector, shift=wish.shift, reporter=report)
    rate = rate_of(wish, source)
    stage = Stage(source, alignments, speaker)
    stream = Stream(stage, speaker, rate=rate)
    count = frame_count(len(wave), rate)
    # a listener that looks ahead has to hear the whole at once
    piece = _PIECE_SECONDS if hasattr(speaker.extractor, "memory") else float(_LONGEST)
    items = ahead(stream.made(pieces_of(wave, seconds=piece)), depth=16)
    sound = read_wave(wish.audio, rate=AUDIO_RATE)
    first = source.frame(0)
    height, width = first.shape[:2]
    without = done = 0
    origin = origin_of(wish, speaker)
    with movie(wish.out, size=(width, height), rate=rate, origin=origin) as made:
        try:
            for shot, face in items:
                made.show(stage.compose(shot, face))
                without += face is None
                done += 1
                # sound beside its pictures, so that a player need not seek
                low, high = (round(AUDIO_RATE * at / rate) for at in (done - 1, done))
                made.hear(sound[low : high if done < count else None])
                report.progress("speaking", done, count, unit="frame")
                if stop is not None and stop.requested:
                    raise Cancelled(f"{wish.out} was not written", remedy="run the same command again")
        finally:
            items.close()  # type: ignore[attr-defined]
    took = time.monotonic() - begun
    return Animated(
        out=wish.out,
        width=width,
        height=height,
        frames=done,
        without_face=without,
        rate=float(rate),
        seconds=len(wave) / RATE,
        took_seconds=took,
        frames_per_second=done / took,
        model=str(speaker.actor.folder),
        step=speaker.card.step,
        detector=detector.id,
        face_side=_median_side(alignments),
        made_side=speaker.card.image_size,
    )


def check_out(wish: Wish) -> None:
    """Raises UsageError when the video cannot go where it is to go, or would take the place of its source."""
    out = wish.out
    if out.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--out {out} is no name of an mp4", remedy=f"write {out.with_suffix('.mp4').name}")
    for source in (wish.picture, wish.audio):
        if out.exists() and source.exists() and out.samefile(source):
            raise UsageError(f"--out {out} would take the place of what it is made of", remedy="rename it")


def hear(path: Path) -> NDArray[Any]:
    """The speech as mono 16 kHz; raises ClipError when there is none, or hours of it."""
    wave = read_wave(path)
    if not len(wave):
        raise ClipError(f"{path} holds no sound", remedy="give a recording of speech")
    if len(wave) > _LONGEST * RATE:
        raise ClipError(
            f"{path} lasts {len(wave) / RATE / 3600:.1f} hours", remedy="cut it into pieces of at most four"
        )
    return wave


def open_source(wish: Wish) -> Source:
    """The still or film of a wish, upright and at most `long_side` pixels long."""
    if wish.moving:
        return Film(wish.picture, long_side=wish.long_side)
    return open_still(wish.picture, long_side=wish.long_side)


def rate_of(wish: Wish, source: Source) -> Fraction:
    """Frames a second of the video to make. Raises UsageError for rates that no player has."""
    rate = wish.rate or source.rate or Fraction(round(FRAME_RATE))
    if not 5 <= rate <= 120:
        raise UsageError(f"{float(rate):g} frames a second are not possible", remedy="--fps 5 to 120")
    return rate


def detector_of(wish: Wish, source: Source) -> FaceDetector:
    """The detector of a wish, or its box; "auto" looks for a photographed face, then for a drawn one.

    Raises UsageError for a box that is empty or beside the picture.
    """
    if wish.box is not None:
        return _Given(wish.box, source)
    if wish.detector == "drawn":
        return DrawnDetector()
    if wish.detector == "auto":
        return FirstOf(open_detector("skimage"), DrawnDetector(), every=5)
    named = open_detector(wish.detector, video=wish.picture.name)
    return Scaled(named, source.scale) if wish.detector.startswith("boxes:") else named


class _Given:
    """A face whose place is known and stays."""

    id = "box"
    every = 1

    def __init__(self, box: tuple[float, float, float, float], source: Source) -> None:
        left, top, right, bottom = (source.scale * value for value in box)
        if not (left < right and top < bottom):
            raise UsageError(f"--box {box} is empty", remedy="write LEFT,TOP,RIGHT,BOTTOM in pixels")
        middle = (left + right) / 2
        height, width = source.frame(0).shape[:2]
        if not (0 <= middle < width and 0 <= (top + bottom) / 2 < height):
            size = f"{width / source.scale:.0f}x{height / source.scale:.0f}"
            raise UsageError(
                f"--box {','.join(f'{value:g}' for value in box)} lies beside the picture of {size}",
                remedy="write LEFT,TOP,RIGHT,BOTTOM in its pixels, from the upper left corner",
            )
        self._face = Face(
            left=left,
            top=top,
            right=right,
            bottom=bottom,
            bridge=(middle, top + 0.51 * (bottom - top)),
            chin=(middle, bottom),
        )

    def find(self, image: NDArray[Any], *, index: int = 0, near: Face | None = None) -> tuple[Face, ...]:
        """The given face, in every frame."""
        return (self._face,)


def origin_of(wish: Wish, speaker: Speaker) -> dict[str, object]:
    """What the file says of where it comes from."""
    card = speaker.card
    return {
        "ai_generated": True,
        "what": "the lower face was made by a neural network to fit the sound",
        "generator": f"talent-factory {__version__}",
        "model_sha256": card.unet_sha256,
        "model_step": card.step,
        "codec": card.codec_id,
        "extractor": card.extractor_id,
        "audio_sha256": sha256_file(wish.audio),
        "picture_sha256": sha256_file(wish.picture),
    }


def foresee(wish: Wish, model: Path) -> dict[str, object]:
    """What `animate` would make, found by reading everything and writing nothing."""
    check_out(wish)
    card = read_card(model)
    wave, source = hear(wish.audio), open_source(wish)
    detector = detector_of(wish, source)
    cuts = find_alignments(source, detector, shift=wish.shift)
    rate = rate_of(wish, source)
    height, width = source.frame(0).shape[:2]
    return {
        "out": str(wish.out),
        "frames": frame_count(len(wave), rate),
        "rate": float(rate),
        "seconds": len(wave) / RATE,
        "width": width,
        "height": height,
        "source_frames": len(cuts),
        "without_face": sum(cut is None for cut in cuts),
        "detector": detector.id,
        "face_side": _median_side(cuts),
        "made_side": card.image_size,
        "model_step": card.step,
    }


def _median_side(cuts: Found) -> float:
    return round(float(np.median([cut.side for cut in cuts if cut is not None])), 1)


def parse_rate(text: str) -> Fraction:
    """Frames a second from "25", "29.97" or "30000/1001"; raises UsageError."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--fps {text[:40]!r} is no number", remedy="write 25 or 30000/1001") from None
    return Fraction(30000, 1001) if text == "29.97" else rate


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Four numbers from "10,20,110,140"; raises UsageError."""
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--box {text[:60]!r} is no box", remedy="write LEFT,TOP,RIGHT,BOTTOM in pixels"
        ) from None
    return left, top, right, bottom
