"""Drawn clips as videos to watch."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.lipsync.synth.clips import Order, make_take
from talent_factory.lipsync.synth.face import draw_face

VIDEO = "video"
_SMALLEST = 256  # players show smaller pictures badly


def film_clips(root: Path, order: Order, *, reporter: Reporter | None = None) -> list[Path]:
    """Write `video/CLIP.mp4` for each clip of an order, drawn at 256 pixels or more; returns the paths.

    Raises:
        UsageError: PyAV is not installed.
    """
    shown = reporter or SilentReporter()
    made = []
    for index in range(order.clips):
        target = root / VIDEO / f"{order.name(index)}.mp4"
        if not target.is_file():
            film_clip(target, order, index)
        made.append(target)
        shown.progress("film clips", index + 1, order.clips, unit="clip")
    return made


def film_clip(target: Path, order: Order, index: int) -> None:
    """Write one clip as an mp4 with its sound."""
    import numpy as np

    from talent_factory.lipsync.animate.mux import AUDIO_RATE, movie
    from talent_factory.lipsync.synth.voice import SAMPLE_RATE

    take, size = make_take(order, index), max(_SMALLEST, order.size + order.size % 2)
    origin = {"made_by": "talent lipsync synth", "order": order.model_dump(), "clip": order.name(index)}
    wave = take.speech.wave
    times = np.arange(len(wave) * AUDIO_RATE // SAMPLE_RATE) * (SAMPLE_RATE / AUDIO_RATE)
    sound = np.interp(times, np.arange(len(wave)), wave).astype(np.float32)
    with movie(target, size=(size, size), rate=Fraction(25), origin=origin) as out:
        for look in take.looks:
            out.show(draw_face(take.person, look, size))
        out.hear(sound)
