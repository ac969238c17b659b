"""Frames of a video at 25 a second by their time stamps, upright, in step with its sound."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import ClipError, UsageError
from talent_factory.core.records import Record
from talent_factory.lipsync.audio.wave import origin_of
from talent_factory.lipsync.records import FRAME_RATE

HELD = 0.2
"""Seconds by which the nearest frame may miss its moment; beyond, the video stood still or has a hole."""
_REMEDY = "take another copy of it, or bring it into an mp4 that ffmpeg can play"
_SLACK = 1e-4  # seconds
_ROUNDED = 0.004  # seconds by which the clocks of containers may round the last frame's end


class VideoFacts(Record):
    """What the container of a video says of it; pixels as they are shown, seconds None where it is silent."""

    path: str
    width: int
    height: int
    rate: float
    seconds: float | None
    has_sound: bool


@dataclass(frozen=True)
class Frame:
    """Frame `index` at 25 a second from the start; `stale` when no picture lay near that moment."""

    index: int
    image: NDArray[Any]
    stale: bool = False


def video_facts(path: Path) -> VideoFacts:
    """Open a video and read what it says of itself.

    Raises:
        ClipError: missing, unreadable, or without pictures.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        seconds = container.duration / 1e6 if container.duration else None
        return VideoFacts(
            path=str(path),
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            rate=float(stream.average_rate or 0),
            seconds=seconds,
            has_sound=bool(container.streams.audio),
        )


def frames_of(path: Path) -> Iterator[Frame]:
    """The frames nearest to 0, 40, 80 ms … of a video of any rate, constant or not.

    Time 0 is that of `read_wave`, so frame k goes with its samples 640k to 640k+640 whatever either track
    begins with. Pictures are turned as a player shows them, and pixels made square. Damaged packets are
    passed over; what they leave is stale.

    Raises:
        ClipError: missing, unreadable, or without one whole picture.
    """
    with _opened(path) as container:
        before: _Picture | None = None
        due, gap = 0, 1 / FRAME_RATE
        for picture in _pictures(container):
            if before is None:
                due = max(0, math.ceil((picture.time - gap / 2) * FRAME_RATE - _SLACK))
            else:
                gap = picture.time - before.time
                middle = before.time + gap / 2 + _SLACK
                yield from _between(before, due, middle)
                due = max(due, math.floor(middle * FRAME_RATE) + 1)
            before = picture
        if before is None:
            raise ClipError(f"{path} holds no picture that can be decoded", remedy=_REMEDY)
        yield from _between(before, due, before.time + min(gap, HELD) - _ROUNDED)


class _Picture:
    """A decoded frame that becomes an array only when someone looks."""

    def __init__(self, frame: Any, time: float) -> None:
        self.time = time
        self._frame = frame
        self._image: NDArray[Any] | None = None

    def image(self) -> NDArray[Any]:
        if self._image is None:
            self._image = upright(self._frame)
        return self._image


def upright(frame: Any) -> NDArray[Any]:
    """A PyAV frame as (H, W, 3) uint8 RGB, with square pixels and turned as players show it."""
    image: NDArray[Any] = frame.to_ndarray(format="rgb24")
    aspect = getattr(frame, "sample_aspect_ratio", None)
    if aspect and aspect > 0 and aspect != 1:
        wide = max(1, round(image.shape[1] * float(aspect)))
        image = cv2.resize(image, (wide, image.shape[0]), interpolation=cv2.INTER_AREA)
    # phones write lying frames and how far to turn them
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _between(picture: _Picture, due: int, until: float) -> Iterator[Frame]:
    index = due
    while index / FRAME_RATE <= until:
        stale = abs(index / FRAME_RATE - picture.time) > HELD
        yield Frame(index, picture.image(), stale)
        index += 1


def _pictures(container: Any) -> Iterator[_Picture]:
    """Pictures in the order of time; those without a time stamp follow the one before."""
    import av

    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    origin, step = origin_of(container), 1 / float(stream.average_rate or FRAME_RATE)
    last = -math.inf
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        for frame in frames:
            if frame.pts is not None:
                time = float(frame.pts * frame.time_base) - origin
            else:
                time = last + step if math.isfinite(last) else 0.0
            if time > last:
                last = time
                yield _Picture(frame, time)


def _opened(path: Path) -> Any:
    try:
        import av
    except ImportError:
        raise UsageError("reading video needs PyAV", remedy="pip install 'talent-factory[lipsync]'") from None
    if not path.is_file():
        raise ClipError(f"{path} is not a file", remedy="check the path")
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ClipError(f"{path} is no readable video: {reason}", remedy=_REMEDY) from None
    if not container.streams.video:
        container.close()
        raise ClipError(f"{path} holds no pictures", remedy="name a video; sound alone is no clip")
    return container
