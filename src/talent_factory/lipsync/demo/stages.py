"""Run the demo: each stage looks what is there already, so that a stopped one goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from talent_factory.core.errors import FileError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import read_json, write_json
from talent_factory.core.records import read_record, write_record
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import exclusive
from talent_factory.lipsync.actor import find_actor, read_card
from talent_factory.lipsync.config import LipsyncConfig
from talent_factory.lipsync.demo.recipe import (
    FULL,
    QUICK,
    Places,
    recipe,
    train_order,
    unseen_order,
)
from talent_factory.lipsync.demo.records import DemoResult
from talent_factory.lipsync.score.records import Score

if TYPE_CHECKING:
    from talent_factory.lipsync.animate.speaker import Speaker

_TIMES = "seconds.json"


def run_demo(
    root: Path, *, quick: bool = False, reporter: Reporter | None = None, stop: StopSignal | None = None
) -> DemoResult:
    """Draw, train, speak, score, in `root`; returns what was found and keeps it as demo.json.

    Raises Cancelled when `stop` was asked for, WorkspaceBusy when another demo runs there; what is done is
    kept, and the same call goes on.
    """
    from talent_factory.lipsync.animate.speaker import open_speaker
    from talent_factory.lipsync.demo.sentence import say_sentence
    from talent_factory.lipsync.synth.clips import draw_clips
    from talent_factory.training.devices import usable_cores

    told, places, size = reporter or SilentReporter(), Places(root=root), QUICK if quick else FULL
    root.mkdir(parents=True, exist_ok=True)
    with exclusive(root):
        config = recipe(places, size)
        clock = _Clock(root / _TIMES)
        with clock.stage("draw clips"):
            for folder, order in (
                (places.clips, train_order(config, size)),
                (places.unseen, unseen_order(config, size)),
            ):
                draw_clips(folder, order, workers=usable_cores(), reporter=told, stop=stop)
        with clock.stage("train"):
            _train(config, told, stop)
        speaker = open_speaker(places.run)
        with clock.stage("speak"):
            watched = say_sentence(places, size, speaker, reporter=told)
        with clock.stage("score"):
            score = _score(places, config, speaker, told, stop)
        result = DemoResult(
            root=root,
            quick=quick,
            size=size,
            steps=speaker.card.step,
            parameters=sum(weight.numel() for weight in speaker.actor.unet.parameters()),
            actor=speaker.actor.folder,
            score=score,
            watched=watched,
            seconds=clock.seconds,
        )
        write_record(places.result, result)
    return result


def read_result(root: Path) -> DemoResult:
    """What a finished demo found; raises FileError."""
    return read_record(Places(root=root).result, DemoResult)


def _train(config: LipsyncConfig, reporter: Reporter, stop: StopSignal | None) -> None:
    from talent_factory.lipsync.train.run import train

    run = Path(config.data.output_dir)
    try:
        if read_card(run).step >= config.train.max_train_steps:
            return
    except FileError:
        pass  # nothing is trained yet
    train(config, reporter=reporter, stop=stop)
    find_actor(run)


def _score(
    places: Places, config: LipsyncConfig, speaker: Speaker, reporter: Reporter, stop: StopSignal | None
) -> Score:
    from talent_factory.lipsync.data.open import ClipSettings, open_clips
    from talent_factory.lipsync.score.rows import read_subjects, score_actor
    from talent_factory.lipsync.sync.network import EMBEDDED, load_syncnet

    settings = ClipSettings(
        local=places.unseen,
        metadata=str(places.unseen / "metadata.npz"),
        image_folder=config.data.image_folder_name,
        audio_folder=config.data.audio_folder_name,
    )
    clips = open_clips(settings)
    try:
        subjects = read_subjects(clips, range(len(clips.metadata.clips)), root=places.unseen)
    finally:
        clips.close()
    network = load_syncnet(EMBEDDED)
    return score_actor(speaker, subjects, network=network, reporter=reporter, stop=stop)


class _Clock:
    """Adds up what each stage takes, over stops and starts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = read_json(path) if path.is_file() else {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun
            write_json(self._path, self.seconds)
