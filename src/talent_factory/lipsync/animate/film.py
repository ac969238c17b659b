"""The pictures that are to speak: a still, or a video, read again from any place in little memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import FileError, UsageError

# Frames that are held at a time; a film that runs backward is decoded in pieces of this many.
_PIECE = 32
_MAX_PIXELS = 64_000_000


class Source(Protocol):
    """Pictures in the order of time."""

    @property
    def stamps(self) -> tuple[float, ...]:
        """When each frame begins, in seconds from the first, rising."""
        ...

    @property
    def seconds(self) -> float:
        """How long they last; 0 for a still."""
        ...

    @property
    def rate(self) -> Fraction | None:
        """Frames a second on average; None for a still."""
        ...

    @property
    def scale(self) -> float:
        """How much the pictures were shrunk: their pixels by those of the file, at most 1."""
        ...

    def frames(self) -> Iterator[NDArray[Any]]:
        """All frames in order, (H, W, 3) uint8 RGB, of even height and width."""
        ...

    def frame(self, index: int) -> NDArray[Any]:
        """One of them; neighbours cost little."""
        ...


class Still:
    """One picture."""

    stamps: tuple[float, ...] = (0.0,)
    seconds = 0.0
    rate: Fraction | None = None

    def __init__(self, image: NDArray[Any], *, long_side: int | None = None) -> None:
        height, width = image.shape[:2]
        self.scale = _scale(height, width, long_side)
        self._image = even(shrunk(image, long_side))

    def frames(self) -> Iterator[NDArray[Any]]:
        """The picture, once."""
        yield self._image

    def frame(self, index: int) -> NDArray[Any]:
        """The picture."""
        return self._image


class Film:
    """A video file; frames are told apart by their time stamps, whatever its rate."""

    def __init__(self, path: Path, *, long_side: int | None = None) -> None:
        self._path, self._long_side = path, long_side
        self._marks = self._scan()
        zero = self._marks[0]
        with _opened(path) as container:
            stream = container.streams.video[0]
            base = stream.time_base
            self.scale = _scale(stream.width, stream.height, long_side)
        self.stamps = tuple(float((mark - zero) * base) for mark in self._marks)
        gaps = np.diff(self.stamps)
        last = float(np.median(gaps)) if len(gaps) else 1 / 25
        self.seconds = self.stamps[-1] + last
        self.rate: Fraction | None = _nice(len(self.stamps) / self.seconds)
        self._held: dict[int, NDArray[Any]] = {}
        self._reader: Iterator[tuple[int, NDArray[Any]]] | None = None
        self._next = -1

    def frames(self) -> Iterator[NDArray[Any]]:
        """All frames in order, decoded anew."""
        for _, image in self._read(0):
            yield image

    def frame(self, index: int) -> NDArray[Any]:
        """Frame `index`; going on, or back within the piece, costs one decoding at most."""
        if index not in self._held:
            self._fill(index)
        return self._held[index]

    def _fill(self, index: int) -> None:
        """Hold the piece with `index`: what follows is read on, what lies before is sought."""
        if self._reader is None or index != self._next:
            backward = bool(self._held) and index == min(self._held) - 1
            start = max(0, index - _PIECE + 1) if backward else index
            self._reader = self._read(start)
            wanted = index - start + 1
        else:
            wanted = 1
        if wanted > 1 or len(self._held) >= _PIECE:
            self._held.clear()
        for _ in range(wanted):
            found = next(self._reader, None)
            if found is None:
                raise FileError(
                    f"{self._path} ends before its frame {index}", remedy="repair it or take another copy"
                )
            self._held[found[0]] = found[1]
        self._next = index + 1

    def _scan(self) -> tuple[int, ...]:
        with _opened(self._path) as container:
            marks = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
        rising = tuple(sorted(set(marks)))
        if not rising:
            raise FileError(f"{self._path} holds no frame", remedy="take another video")
        return rising

    def _read(self, start: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Frames from `start` on with their numbers; a frame that cannot be decoded is the one before it."""
        places = {mark: index for index, mark in enumerate(self._marks)}
        before: NDArray[Any] | None = None
        due = start
        with _opened(self._path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if start:
                container.seek(self._marks[start], stream=stream, backward=True)
            for frame in container.decode(stream):
                index = places.get(frame.pts, -1)
                if index < due:
                    continue
                image = self._image(frame)
                while due < index:
                    yield due, image if before is None else before
                    due += 1
                yield index, image
                before, due = image, index + 1
        while before is not None and due < len(self._marks):
            yield due, before
            due += 1

    def _image(self, frame: Any) -> NDArray[Any]:
        image = frame.to_ndarray(format="rgb24")
        # a phone held upright writes lying frames and says so
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        image = np.rot90(image, turns) if turns else image
        return even(shrunk(image, self._long_side))


def open_still(path: Path, *, long_side: int | None = None) -> Still:
    """A picture file, turned upright; raises FileError when it cannot be read."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                raise FileError(f"{path} is too large: {opened.width}x{opened.height}", remedy="shrink it")
            image = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    except FileNotFoundError:
        raise FileError(f"{path} does not exist", remedy="check the path") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FileError(
            f"{path} is no readable picture: {reason}", remedy="give a PNG or JPEG, or a video with --video"
        ) from None
    return Still(image, long_side=long_side)


def shrunk(image: NDArray[Any], long_side: int | None) -> NDArray[Any]:
    """`image` with at most `long_side` pixels along its longer side."""
    import cv2

    height, width = image.shape[:2]
    scale = _scale(height, width, long_side)
    if scale == 1:
        return image
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _scale(height: int, width: int, long_side: int | None) -> float:
    return 1.0 if long_side is None else min(1.0, long_side / max(height, width))


def even(image: NDArray[Any]) -> NDArray[Any]:
    """`image` without its last row or column where their number is odd: video halves its colours."""
    height, width = image.shape[:2]
    return np.ascontiguousarray(image[: height - height % 2, : width - width % 2])


def av_library() -> Any:
    """PyAV, or UsageError that says how to install it."""
    try:
        import av
    except ImportError:
        raise UsageError(
            "video and sound need the library av", remedy="pip install 'talent-factory[lipsync]'"
        ) from None
    return av


def _opened(path: Path) -> Any:
    av = av_library()
    try:
        container = av.open(str(path))
    except FileNotFoundError:
        raise FileError(f"{path} does not exist", remedy="check the path") from None
    except (av.error.FFmpegError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FileError(f"{path} is no readable video: {reason}", remedy="take another file") from None
    if not container.streams.video:
        container.close()
        raise FileError(f"{path} holds no pictures", remedy="name a video, or a picture with --image")
    return container


def _nice(rate: float) -> Fraction:
    """A measured rate as people mean it: 25, 30000/1001, or what it is."""
    for known in (Fraction(k) for k in (24, 25, 30, 48, 50, 60)):
        if math.isclose(rate, known, rel_tol=3e-4):
            return known
        if math.isclose(rate, known * 1000 / 1001, rel_tol=3e-4):
            return known * 1000 / 1001
    return Fraction(rate).limit_denominator(1000)
