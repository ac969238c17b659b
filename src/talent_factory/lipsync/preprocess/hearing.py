"""Give the clips of a dataset the features of an extractor, all of them or none."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from talent_factory.core.errors import Cancelled, ClipError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import atomic_folder, clear_leftovers, write_text
from talent_factory.core.records import Record
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.audio.features import SAMPLES
from talent_factory.lipsync.audio.wave import read_wave
from talent_factory.lipsync.data.metadata import METADATA_FILE, read_metadata, write_metadata
from talent_factory.lipsync.ports import Extractor
from talent_factory.lipsync.preprocess.prepare import WAVES, write_features
from talent_factory.lipsync.records import FRAME_RATE, Clip

STAMP = "extractor.txt"
"""The file beside the clips' features that names what made them."""


class Heard(Record):
    """What came of it: the extractor's id, the one before, and what was made."""

    extractor: str
    before: str | None
    clips: int
    frames: int
    changed: bool


def give_features(
    root: Path,
    extractor: Extractor,
    *,
    audio_folder: str = "audio",
    again: bool = False,
    workers: int = 1,
    reporter: Reporter | None = None,
    stop: StopSignal | None = None,
) -> Heard:
    """Write `audio/CLIP/FRAME.npy` for every clip from `wav/CLIP.wav`, then say so in the metadata.

    The new features grow in a folder beside the old ones, which they replace in one step when every clip has
    them: features of two extractors are never mixed, whenever it is cut off. Nothing is done where they are
    there already, unless `again`.

    Raises:
        ClipError: a clip has no sound, or its sound does not fit its frames (nothing is replaced then).
        Cancelled: `stop` was asked for; the same call goes on from there.
    """
    before = read_metadata(root / METADATA_FILE)
    target = root / audio_folder
    frames = sum(len(clip.frames) for clip in before.clips)
    made = Heard(
        extractor=extractor.id, before=before.extractor, clips=len(before.clips), frames=frames, changed=True
    )
    whole = all((target / clip.name).is_dir() for clip in before.clips)
    if whole and not again and before.extractor == extractor.id:
        return made.model_copy(update={"changed": False})
    # where the stamp says so they were replaced, but it was cut off before the metadata was written
    if again or not whole or _stamp(target) != extractor.id:
        _check_sounds(root, before.clips)
        growing = root / f".{audio_folder}-{re.sub(r'[^A-Za-z0-9.-]+', '-', extractor.id)}"
        clear_leftovers(growing)
        _hear_all(root, growing, before.clips, extractor, workers=workers, reporter=reporter, stop=stop)
        _replace(target, growing, before.clips, extractor.id)
    write_metadata(root / METADATA_FILE, before.model_copy(update={"extractor": extractor.id}))
    return made


def _check_sounds(root: Path, clips: Sequence[Clip]) -> None:
    missing = [clip.name for clip in clips if not (root / WAVES / f"{clip.name}.wav").is_file()]
    if missing:
        raise ClipError(
            f"{root / WAVES} lacks {missing[0]}.wav: {len(missing)} of {len(clips)} clips have no sound",
            remedy="put it there as CLIP.wav, cut to the clip, or preprocess the videos again",
        )


def _hear_all(
    root: Path,
    growing: Path,
    clips: Sequence[Clip],
    extractor: Extractor,
    *,
    workers: int,
    reporter: Reporter | None,
    stop: StopSignal | None,
) -> None:
    shown, asked = reporter or SilentReporter(), stop or StopSignal()
    todo = [clip for clip in clips if not (growing / clip.name).is_dir()]
    ready = len(clips) - len(todo)

    def hear(clip: Clip) -> None:
        if not asked.requested:
            hear_clip(root / WAVES / f"{clip.name}.wav", growing / clip.name, clip, extractor)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting: set[Future[None]] = {pool.submit(hear, clip) for clip in todo}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for job in done:
                    job.result()
                ready += len(done)
                shown.progress("features", ready, len(clips), unit="clip")
        finally:
            pool.shutdown(cancel_futures=True)
    if asked.requested:
        raise Cancelled("stopped; finished clips are kept", remedy="run the same command again")


def hear_clip(wave: Path, folder: Path, clip: Clip, extractor: Extractor) -> None:
    """Write the features of one clip.

    Raises:
        ClipError: the sound is shorter than the frames, or more than a frame longer.
    """
    sound = read_wave(wave)
    count = len(clip.frames)
    # a clip that was cut elsewhere may end within a frame
    if not (count - 1) * SAMPLES < len(sound) <= (count + 1) * SAMPLES:
        seconds, wanted = len(sound) / (SAMPLES * FRAME_RATE), count / FRAME_RATE
        raise ClipError(
            f"{wave} lasts {seconds:.2f} s, its {count} frames {wanted:.2f} s",
            remedy="cut the sound to the clip; nothing is stretched or shifted",
        )
    write_features(folder, extractor.features(sound[: count * SAMPLES]), clip.frames)


def _replace(target: Path, growing: Path, clips: Sequence[Clip], extractor: str) -> None:
    with atomic_folder(target) as folder:
        for clip in clips:
            os.rename(growing / clip.name, folder / clip.name)
        write_text(folder / STAMP, extractor + "\n")
    shutil.rmtree(growing, ignore_errors=True)


def _stamp(folder: Path) -> str | None:
    path = folder / STAMP
    return path.read_text("utf-8").strip() if path.is_file() else None
