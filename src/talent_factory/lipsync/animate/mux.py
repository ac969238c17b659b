"""Write pictures and sound into one mp4 in one pass: H.264 and AAC, index first, and its origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import FileError
from talent_factory.core.files import atomic_path, clear_halves
from talent_factory.lipsync.animate.film import av_library

AUDIO_RATE = 48_000
_AAC_FRAME = 1024


class Movie:
    """An mp4 that is being written; frames and sound may come in any interleaving."""

    def __init__(self, container: Any, *, size: tuple[int, int], rate: Fraction, crf: int) -> None:
        av = av_library()
        self._av, self._container = av, container
        self._video = container.add_stream("libx264", rate=rate)
        self._video.width, self._video.height = size
        self._video.pix_fmt = "yuv420p"
        self._video.options = {"crf": str(crf), "preset": "medium"}
        self._beat = 1 / rate
        self._video.codec_context.time_base = self._beat
        # players guess the colours of small pictures wrongly unless they are told
        context = self._video.codec_context
        context.color_primaries = context.color_trc = context.colorspace = 1  # ITU-R BT.709
        context.color_range = 1
        self._sound = container.add_stream("aac", rate=AUDIO_RATE, layout="mono")
        self._sound.bit_rate = 128_000
        self._count, self._heard = 0, 0

    def show(self, image: NDArray[Any]) -> None:
        """Add one (H, W, 3) uint8 RGB frame."""
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)
        frame.pts, frame.time_base = self._count, self._beat
        self._count += 1
        self._container.mux(self._video.encode(frame))

    def hear(self, samples: NDArray[Any]) -> None:
        """Add mono sound of AUDIO_RATE samples a second, float32 in [-1, 1]."""
        for start in range(0, len(samples), _AAC_FRAME):
            piece = np.ascontiguousarray(samples[None, start : start + _AAC_FRAME], np.float32)
            frame = self._av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = AUDIO_RATE, self._heard
            frame.time_base = Fraction(1, AUDIO_RATE)
            self._heard += piece.shape[1]
            self._container.mux(self._sound.encode(frame))

    def finish(self) -> None:
        """Write what the encoders still hold."""
        self._container.mux(self._video.encode(None))
        self._container.mux(self._sound.encode(None))


@contextmanager
def movie(
    target: Path, *, size: tuple[int, int], rate: Fraction, origin: Mapping[str, object], crf: int = 16
) -> Iterator[Movie]:
    """A Movie of `size` (width, height) that appears as `target` when all went well.

    `origin` is kept in the file as JSON in its comment, and in the title that it is AI-generated. Raises
    DiskFull when there is no room, FileError when the encoder refuses.
    """
    av = av_library()
    clear_halves(target)
    with atomic_path(target) as temporary:
        try:
            with av.open(
                str(temporary), "w", format="mp4", options={"movflags": "+faststart+use_metadata_tags"}
            ) as container:
                container.metadata["title"] = "AI-generated video"
                container.metadata["comment"] = json.dumps(dict(origin), sort_keys=True, ensure_ascii=False)
                made = Movie(container, size=size, rate=rate, crf=crf)
                yield made
                made.finish()
        except av.error.FFmpegError as error:
            if error.errno == 28:
                raise OSError(28, "No space left on device") from error
            reason = " ".join(str(error).split())[:200]
            raise FileError(f"{target} cannot be written: {reason}", remedy="name another --out") from error


def read_origin(path: Path) -> dict[str, Any] | None:
    """What an mp4 of ours says of its origin; None where it says nothing."""
    av = av_library()
    try:
        with av.open(str(path)) as container:
            text = container.metadata.get("comment", "")
    except (av.error.FFmpegError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FileError(f"{path} is no readable video: {reason}", remedy="take another file") from None
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
