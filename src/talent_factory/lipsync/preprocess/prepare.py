"""From raw videos to a dataset: plan each video, cut its clips, hear its sound, and say what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import Cancelled, ClipError, FileError, TalentError, UsageError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import atomic_folder, clear_leftovers, sha256_file
from talent_factory.core.records import Record, read_record, write_record
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.audio.features import open_extractor
from talent_factory.lipsync.audio.wave import read_wave, write_wave
from talent_factory.lipsync.data.metadata import METADATA_FILE, read_metadata, write_metadata
from talent_factory.lipsync.ports import Extractor
from talent_factory.lipsync.preprocess.align import crop
from talent_factory.lipsync.preprocess.decode import frames_of, video_facts
from talent_factory.lipsync.preprocess.detect import open_detector
from talent_factory.lipsync.preprocess.plan import ClipCuts, Settings, VideoPlan, clip_stems, plan_video
from talent_factory.lipsync.records import FRAME_RATE, STEPS, WIDTH, Clip, Metadata

FRAMES, AUDIO, WAVES, ALIGNMENT, PLANS = "aligned-frames", "audio", "wav", "alignment", "preprocess"
SETTINGS_FILE = "preprocess.json"
_SAMPLES = 640


class ClipAlignment(Record):
    """What `alignment/CLIP.json` keeps: where the clip lies in its video, so that faces can be put back."""

    format_version: int = 1
    video: str
    sha256: str
    detector: str
    extractor: str
    size: int
    clip: ClipCuts


class Made(Record):
    """What came of one video: its clips, or why there are none."""

    video: str
    clips: tuple[str, ...] = ()
    frames: int = 0
    unseen: int = 0
    unheard: int = 0
    error: str | None = None
    remedy: str = ""


@dataclass
class _Pace:
    """Frames done, counted by threads; the sum of a dict's values needs no lock."""

    total: int
    done: dict[int, int] = field(default_factory=dict)


def preprocess(
    videos: Sequence[Path],
    out: Path,
    settings: Settings,
    *,
    workers: int = 1,
    reporter: Reporter | None = None,
    stop: StopSignal | None = None,
) -> tuple[Made, ...]:
    """Make clips of all videos below `out` and write its metadata; what is there already stays.

    A clip counts as done when its `alignment/CLIP.json` is there, which is written last. A video that gives
    nothing is told in its `Made` and keeps the others from nothing.

    Raises:
        UsageError: `out` holds clips made in another way; two videos have one name.
        Cancelled: `stop` was asked for; the same call goes on from there.
    """
    stems = clip_stems(videos)
    extractor = open_extractor(settings.extractor)
    if not settings.detector.startswith("boxes:"):  # whether those fit is a matter of each video
        open_detector(settings.detector)
    _claim(out, settings, extractor.id)
    pace, asked = _Pace(total=_frames_to_do(videos)), stop or StopSignal()
    made: dict[int, Made] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        jobs = {
            pool.submit(_guarded, _Job(video, stems[video], out, settings, extractor), pace, n, asked): n
            for n, video in enumerate(videos)
        }
        for job in _finished(jobs, pace, reporter or SilentReporter()):
            made[jobs[job]] = job.result()
    if asked.requested and any(item.error == _STOPPED for item in made.values()):
        raise Cancelled("stopped; finished clips are kept", remedy="run the same command again")
    if any(item.clips for item in made.values()):
        write_metadata(out / METADATA_FILE, collect_metadata(out, settings.size, extractor.id))
    return tuple(made[n] for n in range(len(videos)))


@dataclass(frozen=True)
class _Job:
    video: Path
    stem: str
    out: Path
    settings: Settings
    extractor: Extractor


_STOPPED = "stopped"


def _guarded(job: _Job, pace: _Pace, number: int, stop: StopSignal) -> Made:
    """One video; its errors become text, as other videos go on."""
    pace.done[number] = 0

    def looked() -> None:
        pace.done[number] += 1
        if stop.requested:
            raise Cancelled(_STOPPED)

    try:
        if stop.requested:
            raise Cancelled(_STOPPED)
        return prepare_video(job, looked)
    except Cancelled:
        return Made(video=str(job.video), error=_STOPPED)
    except (ClipError, FileError) as error:
        return Made(video=str(job.video), error=error.message, remedy=error.remedy)


def prepare_video(job: _Job, looked: Callable[[], None]) -> Made:
    """Plan a video, or read its plan, and write the clips that are missing."""
    plan = _plan(job, looked)
    missing = [clip for clip in plan.clips if not alignment_path(job.out, clip.name).is_file()]
    if missing:
        _write_clips(job, plan, missing, looked)
    return Made(
        video=str(job.video),
        clips=tuple(clip.name for clip in plan.clips),
        frames=sum(len(clip.cuts) for clip in plan.clips),
        unseen=plan.unseen,
        unheard=plan.unheard,
    )


def alignment_path(root: Path, clip: str) -> Path:
    """Where the cuts of a clip are kept."""
    return root / ALIGNMENT / f"{clip}.json"


def _plan(job: _Job, looked: Callable[[], None]) -> VideoPlan:
    path = job.out / PLANS / f"{job.stem}.json"
    if path.is_file():
        kept = read_record(path, VideoPlan)
        if kept.sha256 != sha256_file(job.video):
            raise ClipError(
                f"{job.video} is not the video that gave {job.stem}-0001 before",
                remedy="give it another name, or another --out",
            )
        if kept.detector == open_detector(job.settings.detector, video=job.video.name).id:
            return kept
        raise ClipError(
            f"{job.video} was cut with the detector {kept.detector} before", remedy="give another --out"
        )
    plan = plan_video(job.video, job.settings, stem=job.stem, looked=looked)
    write_record(path, plan)
    return plan


def _write_clips(job: _Job, plan: VideoPlan, missing: Sequence[ClipCuts], looked: Callable[[], None]) -> None:
    wave = read_wave(job.video.with_name(plan.sound))
    stream = iter(frames_of(job.video))
    for clip in sorted(missing, key=lambda clip: clip.first):
        written = 0
        with atomic_folder(job.out / FRAMES / clip.name) as folder:
            for frame in stream:
                looked()
                if frame.index >= clip.first:
                    cut = crop(frame.image, clip.cuts[frame.index - clip.first], job.settings.size)
                    write_png(folder / f"{written:06d}.png", cut)
                    written += 1
                if frame.index + 1 == clip.last:
                    break
            if written != len(clip.cuts):
                raise ClipError(
                    f"{job.video} ended after {written} of {len(clip.cuts)} frames of {clip.name}",
                    remedy="was it changed meanwhile? run the same command again",
                )
        _hear(job, clip, wave[clip.first * _SAMPLES : clip.last * _SAMPLES])
        record = ClipAlignment(
            video=plan.video,
            sha256=plan.sha256,
            detector=plan.detector,
            extractor=job.extractor.id,
            size=job.settings.size,
            clip=clip,
        )
        write_record(alignment_path(job.out, clip.name), record)


def _hear(job: _Job, clip: ClipCuts, wave: NDArray[Any]) -> None:
    count = len(clip.cuts)
    full = np.pad(wave, (0, count * _SAMPLES - len(wave)))  # less than a frame is ever missing
    path = job.out / WAVES / f"{clip.name}.wav"
    write_wave(path, full)
    # from the file, so that `talent lipsync features` hears the very same
    write_features(job.out / AUDIO / clip.name, job.extractor.features(read_wave(path)), names(count))


def names(count: int) -> tuple[str, ...]:
    """The names of the frames of a clip, and of their features."""
    return tuple(f"{index:06d}" for index in range(count))


def write_features(folder: Path, features: NDArray[Any], frames: Sequence[str]) -> None:
    """Write (T, 10, 384) as a file for each frame; the folder appears whole.

    Raises:
        ClipError: the features are not one row for each frame: nothing is ever shifted.
    """
    if features.shape != (len(frames), STEPS, WIDTH):
        raise ClipError(
            f"{folder.name}: features {features.shape} do not fit {len(frames)} frames",
            remedy="its sound is not that of its pictures: make the clip again",
        )
    with atomic_folder(folder) as temporary:
        for name, row in zip(frames, features, strict=True):
            np.save(temporary / f"{name}.npy", np.ascontiguousarray(row, np.float32))


def write_png(path: Path, image: NDArray[Any]) -> None:
    """Write an (H, W, 3) uint8 RGB picture."""
    good, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not good:
        raise ClipError(f"{path} could not be encoded", remedy="try another --size")
    path.write_bytes(data.tobytes())


def collect_metadata(out: Path, size: int, extractor: str) -> Metadata:
    """The metadata of all finished clips in `out`, and of those that its metadata names already."""
    clips: dict[str, Clip] = {}
    if (out / METADATA_FILE).is_file():
        clips = {clip.name: clip for clip in read_metadata(out / METADATA_FILE).clips}
    for path in sorted((out / ALIGNMENT).glob("*.json")):
        clip = read_record(path, ClipAlignment).clip
        clips[clip.name] = Clip(name=clip.name, frames=names(len(clip.cuts)))
    ordered = tuple(clips[name] for name in sorted(clips))
    return Metadata(extractor=extractor, image_size=size, clips=ordered)


def _claim(out: Path, settings: Settings, extractor: str) -> None:
    """See that `out` is free or was made in this very way; clips made differently are never mixed."""
    remedy = "give another --out, or the settings that it was made with"
    if (out / METADATA_FILE).is_file():
        before = read_metadata(out / METADATA_FILE)
        for what, there, now in (
            ("features of", before.extractor, extractor),
            ("pictures of size", before.image_size, settings.size),
        ):
            if there is not None and there != now:
                raise UsageError(f"{out} holds {what} {there}, not {now}", remedy=remedy)
    path = out / SETTINGS_FILE
    settings = settings.model_copy(update={"extractor": extractor})  # a folder's path says less
    if path.is_file():
        kept = read_record(path, Settings).model_dump()
        # a file of boxes may have grown; which detector made a video's clips is kept with its plan. The
        # metadata says which features there are: `talent lipsync features` changes them
        free = {"detector"} if not (out / METADATA_FILE).is_file() else {"detector", "extractor"}
        for name, now in settings.model_dump(exclude=free).items():
            if kept[name] != now:
                raise UsageError(f"{out} was made with {name} {kept[name]}, not {now}", remedy=remedy)
    else:
        write_record(path, settings)
    for part in (FRAMES, AUDIO, WAVES, ALIGNMENT, PLANS, ""):
        clear_leftovers(out / part)


def _frames_to_do(videos: Sequence[Path]) -> int:
    """Frames to look at and to cut, about; a video that cannot be read counts for nothing here."""
    total = 0.0
    for video in videos:
        try:
            total += 2 * FRAME_RATE * (video_facts(video).seconds or 0)
        except TalentError:
            continue
    return max(1, round(total))


def _finished(jobs: Mapping[Future[Made], int], pace: _Pace, shown: Reporter) -> Iterator[Future[Made]]:
    waiting = set(jobs)
    while waiting:
        ready, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        done = min(pace.total - 1, sum(list(pace.done.values())))
        shown.progress("preprocess", done if waiting else pace.total, pace.total, unit="frame")
        yield from ready


def default_workers(videos: int) -> int:
    """Threads that are worth their memory: one for each processor and video, at most eight."""
    return max(1, min(videos, os.cpu_count() or 1, 8))
