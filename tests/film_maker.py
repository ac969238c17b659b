"""Small films for tests: a photographed face that moves, cuts, holes and sound, with any time stamps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

RATE = 16_000
_BASE = Fraction(1, 12_000)  # 24, 25, 30, 50 and 60 frames a second all fall on it


@cache
def astronaut() -> NDArray[Any]:
    """The photograph of scikit-image: (512, 512, 3) with one frontal face."""
    from skimage import data

    return np.asarray(data.astronaut())


def portrait(width: int = 320, height: int = 240, *, dx: float = 0, dy: float = 0, zoom: float = 1.0) -> Any:
    """The photograph around its face, moved by (dx, dy) pixels and enlarged; (height, width, 3).

    Unmoved, the face's box lies around (160, 116) and is about 105 pixels high.
    """
    move = np.array([[zoom, 0, width / 2 - 222 * zoom + dx], [0, zoom, height / 2 - 118 * zoom + dy]])
    return cv2.warpAffine(astronaut(), move, (width, height), borderMode=cv2.BORDER_REPLICATE)


def empty(width: int = 320, height: int = 240) -> NDArray[Any]:
    """A scene without a face."""
    rows = np.linspace(20, 90, height)[:, None, None] * np.array([0.4, 0.8, 1.2])
    return np.broadcast_to(rows, (height, width, 3)).astype(np.uint8)


def tone(seconds: float, *, clicks: Iterable[float] = ()) -> NDArray[np.float32]:
    """A soft hum at 16 kHz, with a short burst at each of `clicks` (seconds)."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.02 * np.sin(2 * np.pi * 220 * time)
    for click in clicks:
        near = (time >= click) & (time < click + 0.01)
        wave[near] += 0.8 * np.sin(2 * np.pi * 1500 * time[near])
    return wave.astype(np.float32)


def film(
    path: Path,
    picture: Callable[[float], NDArray[Any]],
    times: Iterable[float],
    *,
    sound: NDArray[Any] | None = None,
    codec: str = "libx264",
) -> Path:
    """Write a video whose frame at each of `times` (seconds) is `picture(time)`, with mono sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    moments = list(times)
    first = picture(moments[0])
    with av.open(str(path), "w") as out:
        rate = 25 if len(moments) < 2 else round(1 / float(np.median(np.diff(moments))))
        stream: Any = out.add_stream(codec, rate=rate)
        stream.width, stream.height = first.shape[1], first.shape[0]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _BASE
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "14"}
        voice: Any = None
        if sound is not None:
            voice = out.add_stream("aac" if path.suffix in (".mp4", ".mov") else "pcm_s16le", rate=RATE)
            voice.layout = "mono"
        for moment in moments:
            frame = av.VideoFrame.from_ndarray(picture(moment), format="rgb24")
            frame.pts, frame.time_base = round(moment / _BASE), _BASE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            whole = np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)[None]
            item = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
            item.sample_rate, item.pts, item.time_base = RATE, 0, Fraction(1, RATE)
            resampler = av.AudioResampler(
                format=voice.format.name, layout="mono", rate=RATE, frame_size=voice.frame_size or 1024
            )
            for part in [*resampler.resample(item), *resampler.resample(None)]:
                out.mux(voice.encode(part))
            out.mux(voice.encode(None))
    return path


def steady(seconds: float, rate: float = 25.0) -> list[float]:
    """The times of the frames of a film of constant rate."""
    return [index / rate for index in range(round(seconds * rate))]
