"""A sentence nobody was trained on, said by faces nobody was trained on, and what is read from the result."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_path
from talent_factory.lipsync.animate.film import Film
from talent_factory.lipsync.animate.mux import movie
from talent_factory.lipsync.animate.perform import Animated, Wish, animate
from talent_factory.lipsync.animate.speaker import Speaker
from talent_factory.lipsync.audio.wave import write_wave
from talent_factory.lipsync.demo.recipe import SEED, SENTENCE_FROM, Places, Size
from talent_factory.lipsync.demo.records import Watched
from talent_factory.lipsync.score.measures import articulation, best_lag, lags, pearson
from talent_factory.lipsync.score.reader import read_mouths
from talent_factory.lipsync.synth.clips import Order, Take, make_take
from talent_factory.lipsync.synth.face import draw_face
from talent_factory.lipsync.synth.voice import Speech

# Faces are shown larger than they are made, or one would see little of them.
SHOWN = 256
_STRIP = 12


def sentence(size: Size) -> Speech:
    """The new sentence."""
    return _take(size, 0).speech


def say_sentence(places: Places, size: Size, speaker: Speaker, *, reporter: Reporter) -> tuple[Watched, ...]:
    """Let a still portrait and a moving head, who said something else, say the sentence; read what came."""
    places.videos.mkdir(parents=True, exist_ok=True)
    said = sentence(size)
    audio = places.videos / "sentence.wav"
    write_wave(audio, said.wave)
    still, moving = _portrait(places, size), _moving(places, size)
    wishes = {
        "portrait": Wish(still, audio, places.videos / "portrait-speaks.mp4", detector="center"),
        "video": Wish(moving, audio, places.videos / "video-speaks.mp4", moving=True, detector="center"),
    }
    return tuple(
        _watch(name, animate(wish, speaker, reporter=reporter), said, side=speaker.card.image_size)
        for name, wish in wishes.items()
    )


def _take(size: Size, number: int) -> Take:
    order = Order(clips=8, seconds=size.sentence_seconds, size=SHOWN, seed=SEED, first=SENTENCE_FROM)
    return make_take(order, number)


def _portrait(places: Places, size: Size) -> Path:
    take, path = _take(size, 1), places.videos / "portrait.png"
    with atomic_path(path) as temporary:
        _write_png(temporary, draw_face(take.person, take.looks[0], SHOWN))
    return path


def _moving(places: Places, size: Size) -> Path:
    """A speaker who moves, blinks and says other things than the sentence."""
    take, path = _take(size, 2), places.videos / "video.mp4"
    origin = {"made_by": "talent lipsync demo", "what": "a drawn head, before its mouth is changed"}
    with movie(path, size=(SHOWN, SHOWN), rate=Fraction(25), origin=origin) as out:
        for look in take.looks:
            out.show(draw_face(take.person, look, SHOWN))
        out.hear(np.repeat(take.speech.wave, 3))
    return path


def _watch(name: str, made: Animated, said: Speech, *, side: int) -> Watched:
    """Read the finished file, frame by frame, as a viewer gets it."""
    frames = np.stack([_resized(frame, side) for frame in Film(made.out).frames()])
    count = min(len(frames), len(said.opening))
    opening, meant = read_mouths(frames[:count])[0], said.opening[:count]
    # the gate closes over five frames, so silence counts from there on
    quiet = np.convolve(~said.silent[:count], np.ones(6), mode="full")[:count] == 0
    strip = made.out.with_name(f"{name}-strip.png")
    places = np.linspace(0, count - 1, _STRIP).astype(int)
    with atomic_path(strip) as temporary:
        _write_png(temporary, np.concatenate([frames[k] for k in places], axis=1))
    return Watched(
        name=name,
        video=made.out,
        strip=strip,
        made=tuple(round(float(value), 4) for value in opening),
        meant=tuple(round(float(value), 4) for value in meant),
        correlation=pearson(opening, meant),
        offset=best_lag(lags(opening, meant)),
        articulation=articulation(opening, meant),
        leak=float(np.clip(opening[quiet], 0, None).mean()) if quiet.any() else 0.0,
        frames_per_second=made.frames_per_second,
    )


def _resized(frame: NDArray[Any], side: int) -> NDArray[Any]:
    return np.asarray(cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA))


def _write_png(path: Path, picture: NDArray[Any]) -> None:
    cv2.imwrite(str(path), np.ascontiguousarray(picture[:, :, ::-1]))
