"""Features of frames: five views of every fiftieth of a second of sound, by name of what makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import UsageError
from talent_factory.lipsync.audio.mel import BANDS, HOP, WINDOW, log_mel
from talent_factory.lipsync.ports import Extractor
from talent_factory.lipsync.records import STEPS, WIDTH

SAMPLES = 640
"""Samples at 16 kHz in one frame at 25 a second."""
LEVELS = 5

# Below this log10 power there is silence: about what the last bits of 16-bit sound add up to in quiet rooms.
_FLOOR = -5.0
_SPAN = 2.0
_GRID = 512


def open_extractor(name_or_path: str | Path = "mel", *, device: str = "cpu") -> Extractor:
    """The extractor "mel" (embedded), or that of the Whisper model in a local folder in Hugging Face's form.

    Ids of datasets are understood, too: "mel-1". Raises UsageError for a name that is neither, BaseError for
    a folder without a Whisper encoder of width 384 and four layers (tiny).
    """
    text = str(name_or_path)
    if text in ("mel", MelExtractor.id):
        return MelExtractor()
    path = Path(text)
    if path.is_dir():
        from talent_factory.lipsync.audio.whisper import open_whisper

        return open_whisper(path, device=device)
    raise UsageError(
        f"there is no extractor {text!r}, and no such folder",
        remedy='use "mel", or the folder of a Whisper model (hf download openai/whisper-tiny --local-dir …)',
    )


class MelExtractor:
    """Log-mel features that need no weights and never look ahead.

    The filters and windows are Whisper's (Radford et al. 2022). Two things differ, so that sound which is
    still arriving gives the same features: silence lies at a fixed 1e-5 rather than eight decades below the
    loudest moment, and a window ends where its hop ends instead of being centred on it. A step (50 a second)
    has five levels; level s holds four neighbouring means over 2^s spectra each, the last of which ends with
    the step, so level 4 hears the last 0.64 s. Silence is exactly zero; speech lies between 0 and about 3.
    Features of T frames depend on the first 640·T samples alone, and on `memory` samples before a frame. They
    are multiples of 1/512, which float16 holds and which hide how processors round: the bytes are the same.
    """

    id = "mel-1"
    memory = (4 << (LEVELS - 1)) * HOP + WINDOW
    """Samples before a frame that its features depend on; more of the past changes nothing."""

    def features(self, wave: NDArray[Any]) -> NDArray[Any]:
        """(N,) float32 mono at 16 kHz to (ceil(N / 640), 10, 384) float32."""
        sound = np.asarray(wave, np.float32).reshape(-1)
        frames = -(-len(sound) // SAMPLES)
        padded = np.zeros(WINDOW - HOP + frames * SAMPLES, np.float32)
        padded[WINDOW - HOP : WINDOW - HOP + len(sound)] = sound
        spectra = (np.maximum(log_mel(padded), _FLOOR) - _FLOOR) / _SPAN  # (4T, 80)
        answer = np.zeros((2 * frames, LEVELS, WIDTH), np.float32)
        mean: NDArray[Any] = spectra
        for level in range(LEVELS):
            width = 1 << level
            if level:
                mean = (mean + _delayed(mean, width // 2)) / 2
            for place in range(4):
                back = _delayed(mean, (3 - place) * width)
                answer[:, level, place * BANDS : (place + 1) * BANDS] = np.round(back[1::2] * _GRID) / _GRID
        return answer.reshape(frames, STEPS, WIDTH)


def _delayed(rows: NDArray[Any], by: int) -> NDArray[Any]:
    """The rows `by` later, with silence before them."""
    if by == 0:
        return rows
    answer = np.zeros_like(rows)
    answer[by:] = rows[:-by]
    return answer
