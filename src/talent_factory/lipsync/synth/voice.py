"""Made-up speech: trains of syllables with formants, noises and silences, and the mouth that goes with them.

The mouth is not the loudness: how far it opens follows from the vowel as well as from the stress, closed
lips may hum, and the width follows from the second formant. A model must hear which vowel it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from talent_factory.lipsync.records import FRAME_RATE
from talent_factory.lipsync.synth.dice import Dice, Floats

SAMPLE_RATE = 16000
_CONTROL = 200  # control values a second
_REST_WIDTH = 0.45
# first and second formant in Hz of an adult of middling size
_VOWELS = {
    "a": (820.0, 1300.0),
    "ae": (700.0, 1750.0),
    "e": (520.0, 1900.0),
    "i": (300.0, 2350.0),
    "o": (500.0, 900.0),
    "u": (320.0, 800.0),
    "er": (480.0, 1400.0),
}
_ONSETS = ("none", "closure", "hum", "hiss", "glide")


@dataclass(frozen=True)
class Voice:
    """One speaker's voice: pitch in Hz, size of throat (1 is middling), syllables a second, room noise."""

    pitch: float
    tract: float
    pace: float
    noise: float
    gain: float


@dataclass(frozen=True)
class Speech:
    """Sound and its mouth: `wave` (T*640,) float32 at 16 kHz; `opening`, `width` (T,) in [0, 1] in the middle
    of each frame; `silent` (T,) where nothing is said.
    """

    wave: NDArray[np.float32]
    opening: NDArray[np.float32]
    width: NDArray[np.float32]
    silent: NDArray[np.bool_]


@dataclass
class _Tracks:
    """Control values at 200 a second while a sentence is written down."""

    voiced: Floats
    hiss: Floats
    first: Floats
    second: Floats
    opening: Floats
    width: Floats
    spoken: NDArray[np.bool_]


def make_voice(dice: Dice) -> Voice:
    """A voice, drawn."""
    pitch = 85.0 * 2.0 ** dice.number(0.0, 1.5)
    return Voice(
        pitch=pitch,
        # high voices mostly come from small throats
        tract=float(np.clip(1.02 + 0.12 * np.log2(pitch / 140.0) + dice.number(-0.06, 0.06), 0.85, 1.2)),
        pace=dice.number(3.2, 5.0),
        noise=dice.number(0.0, 0.0015) if dice.chance(0.7) else 0.0,
        gain=dice.number(0.35, 0.85),
    )


def speak(voice: Voice, dice: Dice, frames: int) -> Speech:
    """`frames` frames of speech at 25 a second, beginning and ending in silence."""
    count = int(frames / FRAME_RATE * _CONTROL)
    tracks = _write_down(voice, dice, count)
    wave = _sound(voice, dice, tracks, frames)
    middles = (np.arange(frames) + 0.5) / FRAME_RATE * _CONTROL
    grid = np.arange(count) + 0.5
    opening = np.interp(middles, grid, smooth(tracks.opening, 0.030 * _CONTROL))
    width = np.interp(middles, grid, smooth(tracks.width, 0.045 * _CONTROL))
    heard = smooth(tracks.spoken.astype(np.float64), 0.03 * _CONTROL)
    silent = np.interp(middles, grid, heard) < 0.05
    return Speech(wave, opening.astype(np.float32), width.astype(np.float32), silent)


def smooth(values: Floats, deviation: float) -> Floats:
    """A Gaussian mean over time with `deviation` in samples; the ends are held."""
    reach = max(1, int(np.ceil(3 * deviation)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    padded = np.pad(values, reach, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _write_down(voice: Voice, dice: Dice, count: int) -> _Tracks:
    """Phrases of syllables with pauses between them, as control tracks."""
    still = np.zeros(count)
    tracks = _Tracks(
        voiced=still.copy(),
        hiss=still.copy(),
        first=np.full(count, 500.0),
        second=np.full(count, 1500.0),
        opening=still.copy(),
        width=np.full(count, _REST_WIDTH),
        spoken=np.zeros(count, dtype=bool),
    )
    end = count - int(0.25 * _CONTROL)
    now = int(dice.number(0.15, 0.45) * _CONTROL)
    while now < end:
        phrase_end = min(end, now + int(dice.number(0.7, 2.4) * _CONTROL))
        while now < phrase_end:
            length = int(_CONTROL / voice.pace * dice.number(0.7, 1.4))
            if now + length > end:
                return tracks
            _syllable(tracks, dice, slice(now, now + length))
            now += length
        now += int(dice.number(0.25, 0.85) * _CONTROL)
    return tracks


def _syllable(tracks: _Tracks, dice: Dice, span: slice) -> None:
    onset = dice.choice(_ONSETS)
    first, second = _VOWELS[dice.choice(tuple(_VOWELS))]
    stress = dice.number(0.35, 1.0)
    length = span.stop - span.start
    lead = int(length * dice.number(0.22, 0.38)) if onset != "none" else 0
    vowel = slice(span.start + lead, span.stop)
    tracks.spoken[span] = True
    tracks.first[span], tracks.second[span] = first, second
    arch = np.sin(np.pi * (np.arange(length - lead) + 0.5) / (length - lead)) ** 0.6
    tracks.voiced[vowel] = stress * arch
    tracks.opening[vowel] = openness(first) * (0.6 + 0.4 * stress) * arch
    tracks.width[span] = wideness(second)
    head = slice(span.start, vowel.start)
    if onset == "hum":  # lips shut, yet it sounds
        tracks.voiced[head], tracks.first[head], tracks.second[head] = 0.3, 260.0, 1000.0
    elif onset == "hiss":
        tracks.hiss[head], tracks.opening[head] = 0.35, 0.14
    elif onset == "glide":
        tracks.voiced[head], tracks.opening[head] = 0.45 * stress, 0.3 * openness(first)


def openness(first: float) -> float:
    """How far a mouth opens for a vowel with this first formant, 0.22 to 1."""
    return float(np.clip(0.22 + 0.78 * (first - 300.0) / 520.0, 0.0, 1.0))


def wideness(second: float) -> float:
    """How wide it is for this second formant: 0 rounded, 1 spread."""
    return float(np.clip((second - 800.0) / 1500.0, 0.0, 1.0))


def _sound(voice: Voice, dice: Dice, tracks: _Tracks, frames: int) -> NDArray[np.float32]:
    """Harmonics under moving formants, plus noise; source and filter as in classical formant synthesis."""
    total = frames * int(SAMPLE_RATE / FRAME_RATE)
    count = len(tracks.voiced)
    times = (np.arange(total) + 0.5) / SAMPLE_RATE * _CONTROL
    grid = np.arange(count) + 0.5
    melody = 1.0 + 0.10 * dice.drift(count, 1.3 * _CONTROL) + 0.02 * dice.drift(count, 0.17 * _CONTROL)
    pitch = voice.pitch * melody
    phase = 2 * np.pi * np.cumsum(np.interp(times, grid, pitch)) / SAMPLE_RATE
    voiced = smooth(tracks.voiced, 0.008 * _CONTROL)
    bands = [
        (smooth(tracks.first, 0.015 * _CONTROL) * voice.tract, 80.0, 1.0),
        (smooth(tracks.second, 0.015 * _CONTROL) * voice.tract, 110.0, 0.6),
        (np.full(count, 2600.0 * voice.tract), 170.0, 0.3),
        (np.full(count, 3600.0 * voice.tract), 250.0, 0.15),
    ]
    wave = np.zeros(total)
    for harmonic in range(1, int(5200.0 / voice.pitch) + 1):
        tone = harmonic * pitch
        gain = sum(level / (1.0 + ((tone - centre) / band) ** 2) for centre, band, level in bands)
        loud = voiced * (gain + 0.02) * harmonic**-0.5
        wave += np.interp(times, grid, loud) * np.sin(harmonic * phase)
    hiss = np.interp(times, grid, smooth(tracks.hiss, 0.008 * _CONTROL))
    wave += hiss * np.diff(dice.noise(total), prepend=0.0) * 0.5
    wave *= voice.gain / max(float(np.abs(wave).max()), 1e-6)
    wave += voice.noise * dice.noise(total)
    # whole 16-bit numbers, so that memory and the wav file hold the same sound
    whole = np.clip(np.round(wave * 32767.0), -32767, 32767)
    return (whole / 32768.0).astype(np.float32)
