"""Drawn heads: every byte from the seed, the upper half apart from the sound, nothing lost by a stop."""

from __future__ import annotations

import os
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import psutil
import pytest

from talent_factory.core.errors import Cancelled, ClipError, UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.core.files import sha256_tree
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.audio.features import open_extractor
from talent_factory.lipsync.audio.wave import read_wave
from talent_factory.lipsync.data.metadata import read_metadata
from talent_factory.lipsync.synth.clips import Order, draw_clips, make_take, read_truth, truth_path
from talent_factory.lipsync.synth.dice import Dice
from talent_factory.lipsync.synth.easel import Pose
from talent_factory.lipsync.synth.face import Look, draw_face
from talent_factory.lipsync.synth.person import BEARDS, HAIRCUTS, make_person
from talent_factory.lipsync.synth.voice import make_voice, speak

ORDER = Order(clips=2, seconds=1.2, size=48, seed=3)


def test_the_same_order_gives_the_same_bytes_anywhere(tmp_path: Path) -> None:
    draw_clips(tmp_path / "one", ORDER)
    draw_clips(tmp_path / "other", ORDER)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "other")
    draw_clips(tmp_path / "third", ORDER.model_copy(update={"seed": 4}))
    assert sha256_tree(tmp_path / "one") != sha256_tree(tmp_path / "third")


def test_clips_lie_as_a_dataset_with_their_truth(tmp_path: Path) -> None:
    draw_clips(tmp_path, ORDER)
    metadata = read_metadata(tmp_path / "metadata.npz")
    assert [clip.name for clip in metadata.clips] == ["SYNTH-0001", "SYNTH-0002"]
    assert metadata.image_size == 48
    assert metadata.extractor == open_extractor("mel").id
    wave = read_wave(tmp_path / "wav" / "SYNTH-0002.wav")
    features = open_extractor("mel").features(wave)
    for index in (0, 14, 29):
        stored = np.load(tmp_path / "audio" / "SYNTH-0002" / f"{index:06d}.npy", allow_pickle=False)
        assert stored.shape == (10, 384)
        np.testing.assert_array_equal(stored, features[index])
    truth = read_truth(tmp_path, "SYNTH-0001")
    assert {name: values.shape for name, values in truth.items()} == {
        "opening": (30,),
        "width": (30,),
        "silent": (30,),
        "lids": (30,),
        "pose": (30, 5),
    }
    np.testing.assert_array_equal(truth["opening"], make_take(ORDER, 0).speech.opening)


def test_a_stopped_order_goes_on_and_another_order_is_refused(tmp_path: Path) -> None:
    stop = StopSignal()
    stop.request()
    with pytest.raises(Cancelled):
        draw_clips(tmp_path, ORDER, stop=stop)
    kept = truth_path(tmp_path, "SYNTH-0001").stat().st_mtime_ns
    draw_clips(tmp_path, ORDER)
    assert truth_path(tmp_path, "SYNTH-0001").stat().st_mtime_ns == kept
    with pytest.raises(UsageError, match="another order"):
        draw_clips(tmp_path, ORDER.model_copy(update={"size": 64}))
    truth_path(tmp_path, "SYNTH-0001").write_bytes(b"torn")
    with pytest.raises(ClipError, match=r"SYNTH-0001\.npz"):
        read_truth(tmp_path, "SYNTH-0001")


def test_orders_that_do_not_meet_share_neither_faces_nor_words() -> None:
    later = ORDER.model_copy(update={"first": 3})
    one, other = make_take(ORDER, 0), make_take(later, 0)
    assert one.person != other.person
    assert not np.array_equal(one.speech.wave, other.speech.wave)
    together = ORDER.model_copy(update={"per_speaker": 2})
    first, second = make_take(together, 0), make_take(together, 1)
    assert first.person == second.person
    assert not np.array_equal(first.speech.opening, second.speech.opening)


@pytest.mark.parametrize("number", range(12))
def test_the_upper_half_says_nothing_about_the_mouth(number: int) -> None:
    person = make_person(Dice("test person", number))
    dice = Dice("test pose", number)
    pose = Pose(dice.number(-0.03, 0.03), dice.number(-0.02, 0.02), dice.number(-0.05, 0.05), 0.03, 1.01)
    shut = draw_face(person, Look(0.0, 0.0, pose=pose), 64)
    wide = draw_face(person, Look(1.0, 1.0, pose=pose), 64)
    np.testing.assert_array_equal(shut[:32], wide[:32])
    assert np.abs(shut[32:].astype(int) - wide[32:].astype(int)).mean() > 2
    # the chin stays in the picture: the lowest rows show no more of an open mouth than shadow
    assert np.abs(shut[-1].astype(int) - wide[-1].astype(int)).max() < 40


def test_people_differ_in_all_that_is_drawn() -> None:
    people = [make_person(Dice("crowd", number)) for number in range(80)]
    assert {person.haircut for person in people} == set(HAIRCUTS)
    assert {person.beard for person in people} == set(BEARDS)
    assert len({person.glasses for person in people}) == 3
    assert len({person.skin for person in people}) == 80


def test_speech_begins_and_ends_in_silence_and_the_mouth_is_not_the_loudness() -> None:
    voice = make_voice(Dice("test voice", 1))
    speech = speak(voice, Dice("test words", 1), 500)
    assert speech.wave.shape == (500 * 640,)
    assert speech.wave.dtype == np.float32
    assert 0.1 < np.abs(speech.wave).max() <= 1
    assert speech.silent[0]
    assert speech.silent[-1]
    assert 0.05 < speech.silent.mean() < 0.6
    assert speech.opening[speech.silent].max() < 0.1
    assert speech.opening.min() >= 0
    assert speech.opening.max() <= 1
    assert speech.opening.std() > 0.1
    assert speech.width.std() > 0.15
    loud = np.sqrt((speech.wave.reshape(500, 640) ** 2).mean(axis=1))
    follows = np.corrcoef(loud, speech.opening)[0, 1]
    assert 0.4 < follows < 0.93


class Killer(SilentReporter):
    """Kills the processes that draw as soon as one clip is there."""

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        """Kill them."""
        for child in active_children():
            child.kill()


def test_a_killed_helper_is_told_and_made_up_for(tmp_path: Path) -> None:
    order = Order(clips=12, seconds=0.4, size=32)
    with pytest.raises(ClipError, match="ended from outside") as caught:
        draw_clips(tmp_path / "killed", order, workers=2, reporter=Killer())
    assert "workers" in caught.value.remedy
    assert draw_clips(tmp_path / "killed", order) == draw_clips(tmp_path / "whole", order)


class Watcher(SilentReporter):
    """Notes the threads that the processes which draw were allowed."""

    def __init__(self) -> None:
        self.allowed: set[str | None] = set()

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        """Look at them."""
        for child in active_children():
            with suppress(psutil.NoSuchProcess):
                self.allowed.add(psutil.Process(child.pid).environ().get("OMP_NUM_THREADS"))


def test_helpers_take_one_thread_each_and_draw_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENCV_FOR_THREADS_NUM", raising=False)
    order, watcher = Order(clips=3, seconds=0.4, size=32), Watcher()
    draw_clips(tmp_path / "many", order, workers=2, reporter=watcher)
    assert watcher.allowed == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OPENCV_FOR_THREADS_NUM" not in os.environ
    draw_clips(tmp_path / "one", order)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "many")
