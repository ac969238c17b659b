"""What is to be cut out of a video: settings, and for each clip where the face is in every frame."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from talent_factory.core.errors import ClipError, UsageError
from talent_factory.core.files import sha256_file
from talent_factory.core.records import Record
from talent_factory.lipsync.audio.wave import read_wave
from talent_factory.lipsync.preprocess.align import Alignment
from talent_factory.lipsync.preprocess.decode import frames_of, video_facts
from talent_factory.lipsync.preprocess.detect import DETECTORS, open_detector
from talent_factory.lipsync.preprocess.scenes import CutFinder
from talent_factory.lipsync.preprocess.track import FaceTracker, Track, align_track, choose_tracks, pieces
from talent_factory.lipsync.records import FRAME_RATE, ClipName

VIDEO_ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv")
SOUND_ENDINGS = (".wav", ".flac", ".m4a", ".mp3", ".aac", ".ogg", ".opus")
_SAMPLES = 640  # at 16 kHz in one frame


class Settings(Record):
    """How clips are made; all clips of one dataset are made alike."""

    format_version: Literal[1] = 1
    size: int = Field(default=256, ge=32, le=2048)
    detector: str = "skimage"
    extractor: str = "mel"
    least_seconds: float = Field(default=2.0, ge=0.4, le=600)
    most_seconds: float = Field(default=30.0, ge=0.4, le=600)
    least_face: int = Field(default=64, ge=0)
    shift: float = Field(default=0.0, ge=-0.2, le=0.2)


class ClipCuts(Record):
    """One clip: its name, its first frame (at 25 a second) in the video, and the cut of each frame."""

    name: ClipName
    first: int = Field(ge=0)
    cuts: Annotated[tuple[Alignment, ...], Field(min_length=1)]

    @property
    def last(self) -> int:
        """The first frame after the clip."""
        return self.first + len(self.cuts)


class VideoPlan(Record):
    """Where the clips of one video lie; `frames` of it at 25 a second, `sound` the file that is heard."""

    format_version: Literal[1] = 1
    video: str
    sha256: str
    sound: str
    detector: str
    frames: int
    unheard: int = 0
    """Frames at the end that have no sound any more."""
    unseen: int = 0
    """Frames without a face, or in pieces too short for a clip."""
    clips: tuple[ClipCuts, ...]


def find_videos(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The videos that are named, and those in folders that are named, each once.

    Raises:
        ClipError: a path does not exist, or there is no video at all.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_ENDINGS and p.is_file())
            found |= dict.fromkeys(p for p in inside if not p.name.startswith("."))
        elif path.is_file():
            found[path] = None
        else:
            raise ClipError(f"{path} does not exist", remedy="name videos, or folders that hold some")
    if not found:
        raise ClipError(
            f"there is no video in {', '.join(map(str, paths))}",
            remedy=f"name a folder with files that end in {', '.join(VIDEO_ENDINGS[:4])} …",
        )
    return tuple(found)


def clip_stems(videos: Iterable[Path]) -> dict[Path, str]:
    """What the clips of each video are called before their number, unique among them.

    Raises:
        UsageError: two videos would give clips of the same name.
    """
    stems: dict[Path, str] = {}
    owners: dict[str, Path] = {}
    for video in videos:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", video.stem).strip("-._")[:80] or "video"
        # HDTF-0001 and HDTF_0001 are one name to readers of datasets
        same = owners.setdefault(plain.replace("_", "-").lower(), video)
        if same != video:
            raise UsageError(
                f"{same} and {video} would both give clips called {plain}-0001",
                remedy="rename one of them",
            )
        stems[video] = plain
    return stems


def sound_of(video: Path) -> Path:
    """The file whose sound goes with a video: itself, or one of the same name beside it.

    Raises:
        ClipError: neither has sound.
    """
    if video_facts(video).has_sound:
        return video
    for ending in SOUND_ENDINGS:
        beside = video.with_suffix(ending)
        if beside.is_file():
            return beside
    raise ClipError(
        f"{video} has no sound, and there is no {video.stem}.wav beside it",
        remedy="put its sound there; a clip needs both",
    )


def plan_video(
    video: Path, settings: Settings, *, stem: str, looked: Callable[[], None] = lambda: None
) -> VideoPlan:
    """Look for faces in a whole video and say which clips it gives; `looked` is called for each frame.

    Raises:
        ClipError: unreadable, without sound, or without a face that is seen for long enough.
    """
    detector = open_detector(settings.detector, video=video.name)
    sound = sound_of(video)
    heard = math.ceil(len(read_wave(sound)) / _SAMPLES)
    tracker, cuts, count, stale = FaceTracker(detector), CutFinder(), 0, False
    for frame in frames_of(video):
        looked()
        if not frame.stale:
            # what stands still too long is not watched, and nothing goes on across it
            tracker.see(frame.index, frame.image, cut=cuts.begins(frame.image) or stale)
        elif not stale:
            tracker.pause(frame.index)
        stale, count = frame.stale, frame.index + 1
    tracks = tracker.finish(count)
    clips = _clips(tracks, settings, stem=stem, heard=heard)
    if not clips:
        raise _nothing(video, tracks, settings, detector=detector.id, count=count, heard=heard)
    return VideoPlan(
        video=video.name,
        sha256=sha256_file(video),
        sound=sound.name,
        detector=detector.id,
        frames=count,
        unheard=max(0, count - heard),
        unseen=min(count, heard) - sum(len(clip.cuts) for clip in clips),
        clips=clips,
    )


def _clips(tracks: Sequence[Track], settings: Settings, *, stem: str, heard: int) -> tuple[ClipCuts, ...]:
    least = math.ceil(settings.least_seconds * FRAME_RATE - 1e-6)
    most = max(least, int(settings.most_seconds * FRAME_RATE + 1e-6))
    for track in tracks:
        track.last = min(track.last, heard)
    chosen = choose_tracks(tracks, least=least, least_side=settings.least_face)
    spans = [(track, a, b) for track in chosen for a, b in pieces(track.first, track.last, most=most)]
    made = []
    for number, (track, first, last) in enumerate(spans, start=1):
        cuts = align_track(track, shift=settings.shift)
        inside = cuts[first - track.first : last - track.first]
        made.append(ClipCuts(name=f"{stem}-{number:04d}", first=first, cuts=inside))
    return tuple(made)


def _nothing(
    video: Path, tracks: Sequence[Track], settings: Settings, *, detector: str, count: int, heard: int
) -> ClipError:
    if not tracks:
        return ClipError(
            f"{video}: no face was found in {count} frames ({detector})",
            remedy=f"try another --detector ({DETECTORS}); center takes the middle of every frame",
        )
    longest = max(0.0, max(track.frames for track in tracks) / FRAME_RATE)
    largest = max(track.side for track in tracks)
    return ClipError(
        f"{video}: no face of {settings.least_face} pixels lasts, with sound, {settings.least_seconds:g} s "
        f"(longest {longest:.1f} s, largest {largest:.0f} pixels, sound of {heard / FRAME_RATE:.1f} s)",
        remedy="take other footage, or lower --min-seconds or --min-face",
    )
