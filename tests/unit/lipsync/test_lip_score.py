"""The figures of a score: right where the answer is known, and rows that must fail do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from talent_factory.core.errors import ClipError
from talent_factory.lipsync.score.measures import (
    articulation,
    best_lag,
    concordance,
    lags,
    pearson,
    psnr,
    ssim,
)
from talent_factory.lipsync.score.reader import load_reader, read_dark, read_mouths
from talent_factory.lipsync.score.reader_training import calibration_set, fit_reader, write_reader
from talent_factory.lipsync.score.records import MOST_SHUFFLED, Check, Figures, checks_of
from talent_factory.lipsync.score.rows import PAIRINGS, Subject, foreign
from talent_factory.lipsync.score.video import Seen, loudness, score_video
from talent_factory.lipsync.sync.network import EMBEDDED, load_syncnet
from talent_factory.lipsync.synth.clips import Order, make_take
from talent_factory.lipsync.synth.dice import Dice
from talent_factory.lipsync.synth.face import draw_face
from talent_factory.lipsync.synth.voice import make_voice, speak

ORDER = Order(clips=1, seconds=4, size=64, seed=71)


def seen(frames: NDArray[Any], *hidden: int) -> Seen:
    """Frames of which some show no face."""
    shown = np.ones(len(frames), bool)
    shown[list(hidden)] = False
    return Seen(np.where(shown[:, None, None, None], frames, np.uint8(128)), shown)


def test_measures_of_known_series() -> None:
    wave = np.sin(np.arange(200) / 5.0)
    assert pearson(wave, 3 * wave + 1) == pytest.approx(1)
    assert pearson(wave, -wave) == pytest.approx(-1)
    assert pearson(wave, np.zeros(200)) == 0
    assert concordance(wave, wave) == pytest.approx(1)
    assert concordance(wave, 0.5 * wave) == pytest.approx(0.8, abs=2e-3)
    assert articulation(0.5 * wave, wave) == pytest.approx(0.5)
    noise = np.random.default_rng(1).normal(size=300)
    for late in (-8, -3, 0, 5):
        assert best_lag(lags(np.roll(noise, late), noise)) == late
    assert best_lag(np.zeros(17)) == 0


def test_likeness_of_pictures() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    assert psnr(picture, picture) == 99
    assert ssim(picture, picture) == pytest.approx(1)
    off = np.clip(picture.astype(int) + 10, 0, 255).astype(np.uint8)
    assert 28 < psnr(picture, off) < 29
    assert ssim(picture, picture[::-1].copy()) < 0.3


def test_the_reader_reads_people_it_never_saw() -> None:
    take = make_take(ORDER, 0)
    frames = np.stack([draw_face(take.person, look, 64) for look in take.looks])
    opening, width = read_mouths(frames)
    assert pearson(opening, take.speech.opening) > 0.97
    assert articulation(opening, take.speech.opening) == pytest.approx(1, abs=0.15)
    spoken = take.speech.opening > 0.1
    assert pearson(width[spoken], take.speech.width[spoken]) > 0.85
    # the rough reading of photographs agrees, too, and the upper half counts for nothing
    assert pearson(read_dark(frames), take.speech.opening) > 0.5
    blind = frames.copy()
    blind[:, :32] = 0
    np.testing.assert_array_equal(read_mouths(blind)[0], opening)
    large = np.stack([draw_face(take.person, look, 128) for look in take.looks[:40]])
    assert np.abs(read_mouths(large)[0] - opening[:40]).mean() < 0.04


def test_a_reader_can_be_made_anew(tmp_path: Path) -> None:
    frames, truths = calibration_set(48, seed=1)
    reader = fit_reader(frames, truths, steps=12, batch=16)
    again = fit_reader(frames, truths, steps=12, batch=16)
    assert all(bool((a == b).all()) for a, b in zip(reader.parameters(), again.parameters(), strict=True))
    write_reader(tmp_path / "reader.safetensors", reader, seed=1)
    assert (tmp_path / "reader.safetensors").stat().st_size > 10_000
    assert sum(weight.numel() for weight in load_reader().parameters()) < 100_000


def test_a_true_video_scores_well_and_a_delayed_one_is_found_late() -> None:
    take = make_take(ORDER, 0)
    frames = np.stack([draw_face(take.person, look, 64) for look in take.looks])
    good = score_video(seen(frames), take.speech.wave, truth=take.speech.opening)
    assert good.correlation > 0.97
    assert good.offset == 0
    assert good.leak is not None
    assert good.leak < 0.06
    late = score_video(seen(np.roll(frames, 5, axis=0)), take.speech.wave, truth=take.speech.opening)
    assert late.offset == 5
    still = score_video(seen(frames[:1].repeat(100, axis=0)), take.speech.wave, truth=take.speech.opening)
    assert still.correlation == pytest.approx(0, abs=1e-3)
    rough = score_video(seen(frames), take.speech.wave, reader="dark")
    assert rough.against == "loudness"
    assert rough.correlation > 0.2
    with pytest.raises(ClipError, match="too few"):
        score_video(seen(frames[:4]), take.speech.wave)


def test_frames_without_a_face_are_left_out_and_counted() -> None:
    take = make_take(ORDER, 0)
    frames = np.stack([draw_face(take.person, look, 64) for look in take.looks])
    network = load_syncnet(EMBEDDED)
    whole = score_video(seen(frames), take.speech.wave, truth=take.speech.opening, network=network)
    gaps = [*range(12), 40, *range(70, 75)]
    some = score_video(seen(frames, *gaps), take.speech.wave, truth=take.speech.opening, network=network)
    assert (whole.frames, whole.without_face) == (100, 0)
    assert (some.frames, some.without_face) == (82, 18)
    assert some.correlation > 0.97
    assert (some.offset, some.sync_offset) == (0, 0)
    assert some.sync_error == pytest.approx(whole.sync_error, abs=0.1)
    assert some.leak is not None
    assert some.leak < 0.06
    late = score_video(
        seen(np.roll(frames, 5, axis=0), *gaps), take.speech.wave, truth=take.speech.opening, network=network
    )
    assert (late.offset, late.sync_offset) == (5, 5)
    # nowhere enough in a row for the SyncNet, yet the mouth can be read
    rare = score_video(seen(frames, *range(0, 100, 9)), take.speech.wave, network=network)
    assert rare.sync_offset is None
    assert rare.correlation > 0.2
    with pytest.raises(ClipError, match="9 frames with a face are too few"):
        score_video(seen(frames, *range(91)), take.speech.wave)
    with pytest.raises(ClipError, match="20 frames in a row are too few"):
        score_video(seen(frames[:20]), take.speech.wave, network=network)


def test_loudness_is_by_frame_and_padded() -> None:
    wave = np.concatenate([np.zeros(640), np.full(640, 0.5), np.zeros(10)]).astype(np.float32)
    np.testing.assert_allclose(loudness(wave, 4), [0, 0.5, 0, 0])


def test_checks_name_what_is_missed() -> None:
    rows = {
        "ours": Figures(name="ours", correlation=0.9, offset=0, articulation=0.5),
        "silence": Figures(name="silence", leak=0.2),
        "shuffled audio": Figures(name="shuffled audio", correlation=0.6),
        "audio 5 frames late": Figures(name="audio 5 frames late", offset=5),
        "copied reference": Figures(name="copied reference", correlation=0.0),
    }
    checks = checks_of(rows)
    assert [check.what for check in checks if not check.reached] == [
        "how far the mouth moves",
        "open on silence",
        "foreign sound must not fit",
    ]


def spoken(seed: int, clip: int, frames: int) -> Subject:
    """A clip whose features are its true mouth: what a network without fault would make of the sound."""
    voice = make_voice(Dice("pairings", seed, "voice", clip))
    opening = speak(voice, Dice("pairings", seed, "speech", clip), frames).opening
    return Subject(f"A-{clip}", np.zeros((frames, 2, 2, 3), np.uint8), opening[:, None, None], opening)


def test_foreign_sound_is_no_likeness_by_chance() -> None:
    for seed, count, seconds in ((1, 6, 8), (2, 6, 3), (3, 2, 8), (4, 1, 8)):
        subjects = [spoken(seed, clip, 25 * seconds) for clip in range(count)]
        honest, lazy, plain = [], [], []
        for index, subject in enumerate(subjects):
            sounds = [sound[:, 0, 0] for sound in foreign(subjects, index)]
            assert len(sounds) == PAIRINGS
            assert all(len(sound) == len(subject.frames) for sound in sounds)
            honest += [pearson(sound, subject.opening) for sound in sounds]
            # a mouth that follows the frames as much as the sound is found out
            lazy += [pearson(0.5 * sound + 0.5 * subject.opening, subject.opening) for sound in sounds]
            plain.append(pearson(subjects[(index + 1) % count].opening, subject.opening))
        assert abs(np.mean(honest)) < 0.6 * MOST_SHUFFLED
        assert np.mean(lazy) > 3 * MOST_SHUFFLED
        if seconds == 3:  # the silence at both ends, which all clips share
            assert np.mean(plain) > MOST_SHUFFLED


def test_foreign_sound_comes_from_others_and_fits_the_length() -> None:
    subjects = [spoken(5, clip, frames) for clip, frames in enumerate((30, 12, 50))]
    sounds = [sound[:, 0, 0] for sound in foreign(subjects, 0)]
    # the two others in turn, each from another place on, the short one again and again
    assert np.array_equal(sounds[0], np.roll(np.tile(subjects[1].opening, 3), 2)[:30])
    assert np.array_equal(sounds[1], np.roll(subjects[2].opening, 17)[:30])
    assert np.array_equal(sounds[2], np.roll(np.tile(subjects[1].opening, 3), 6)[:30])


def test_a_value_is_shown_as_people_read_it() -> None:
    values = (-0.0, -0.00004, 5.0, -8.0, 0.14964, 0.9)
    shown = [Check(what="", value=value, target="", reached=True).shown for value in values]
    assert shown == ["0", "0", "5", "-8", "0.15", "0.9"]
