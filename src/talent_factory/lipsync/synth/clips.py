"""Drawn clips on the disk, in the layout of a dataset, with the truth about their mouths beside them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from talent_factory.core.errors import Cancelled, ClipError, UsageError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import atomic_folder, clear_leftovers, write_bytes
from talent_factory.core.records import Record, read_record, write_record
from talent_factory.core.stop import StopSignal
from talent_factory.core.threads import single_threaded_children
from talent_factory.lipsync.records import FRAME_RATE, Clip, Metadata
from talent_factory.lipsync.synth.dice import Dice
from talent_factory.lipsync.synth.easel import Pose
from talent_factory.lipsync.synth.face import Look, draw_face
from talent_factory.lipsync.synth.person import Person, make_person
from talent_factory.lipsync.synth.voice import Speech, make_voice, speak

ORDER_FILE = "synth.json"
FRAMES, AUDIO, TRUTH, WAVES = "aligned-frames", "audio", "truth", "wav"


class Order(Record):
    """What a drawn dataset consists of; with it every byte is fixed.

    `per_speaker` clips follow each other for each speaker; `first` is the number of the first clip, so that
    two orders of one seed that do not overlap hold different people and different words.
    """

    format_version: int = 1
    clips: int = Field(ge=1, le=100_000)
    seconds: float = Field(ge=0.4, le=600)
    size: int = Field(default=128, ge=32, le=1024)
    seed: int = 0
    per_speaker: int = Field(default=1, ge=1)
    first: int = Field(default=1, ge=1)
    extractor: str = "mel"

    @property
    def frames(self) -> int:
        """Frames of each clip."""
        return round(self.seconds * FRAME_RATE)

    def name(self, index: int) -> str:
        """The name of clip `index`, counted from 0."""
        return f"SYNTH-{self.first + index:04d}"


@dataclass(frozen=True)
class Take:
    """One clip before it is written: who, what is said, and how each frame looks."""

    person: Person
    speech: Speech
    looks: tuple[Look, ...]


def make_take(order: Order, index: int) -> Take:
    """Clip `index` of an order, counted from 0."""
    number = order.first + index
    speaker = (number - 1) // order.per_speaker
    person = make_person(Dice("synth", order.seed, "person", speaker))
    voice = make_voice(Dice("synth", order.seed, "voice", speaker))
    speech = speak(voice, Dice("synth", order.seed, "speech", number), order.frames)
    return Take(person, speech, tuple(looks(speech, Dice("synth", order.seed, "motion", number))))


def looks(speech: Speech, dice: Dice) -> Iterator[Look]:
    """How the head moves while it says `speech`: only the mouth follows the sound."""
    count = len(speech.opening)
    x, y = 0.022 * dice.drift(count, 70), 0.014 * dice.drift(count, 45)
    roll, turn = 0.045 * dice.drift(count, 90), 0.035 * dice.drift(count, 80)
    zoom, gain = 1 + 0.015 * dice.drift(count, 110), 1 + 0.04 * dice.drift(count, 100)
    brows, lids = 0.014 * dice.drift(count, 30), _blinks(dice, count)
    for k in range(count):
        pose = Pose(float(x[k]), float(y[k]), float(roll[k]), float(turn[k]), float(zoom[k]))
        yield Look(
            opening=float(speech.opening[k]),
            width=float(speech.width[k]),
            lids=float(lids[k]),
            brows=float(brows[k]),
            gain=float(gain[k]),
            pose=pose,
        )


def _blinks(dice: Dice, count: int) -> NDArray[np.float64]:
    lids = np.ones(count)
    now = int(dice.number(0.3, 3.0) * FRAME_RATE)
    while now < count:
        for offset, open_ in enumerate((0.45, 0.0, 0.0, 0.5, 0.85)):
            if now + offset < count:
                lids[now + offset] = open_
        now += int(dice.number(1.5, 5.0) * FRAME_RATE)
    return lids


def draw_clips(
    root: Path,
    order: Order,
    *,
    workers: int = 1,
    reporter: Reporter | None = None,
    stop: StopSignal | None = None,
) -> Metadata:
    """Write the clips of `order` below `root`, with metadata; what is there already stays.

    Each clip has its frames, features, sound (`wav/`) and truth (`truth/CLIP.npz`: opening, width, silent,
    lids, pose, all by frame). A clip counts as done when its truth is there.

    Raises:
        UsageError: `root` holds clips of another order.
        Cancelled: `stop` was asked for; the same call goes on from there.
    """
    from talent_factory.lipsync.audio.features import open_extractor
    from talent_factory.lipsync.data.metadata import write_metadata

    _claim(root, order)
    missing = [k for k in range(order.clips) if not truth_path(root, order.name(k)).is_file()]
    shown = reporter or SilentReporter()
    ready = order.clips - len(missing)
    for _ in _made(root, order, missing, workers):
        ready += 1
        shown.progress("draw clips", ready, order.clips, unit="clip")
        if stop is not None and stop.requested and ready < order.clips:
            raise Cancelled(f"{ready} of {order.clips} clips are drawn", remedy="run the same command again")
    frames = tuple(f"{k:06d}" for k in range(order.frames))
    metadata = Metadata(
        extractor=open_extractor(order.extractor).id,
        image_size=order.size,
        clips=tuple(Clip(name=order.name(k), frames=frames) for k in range(order.clips)),
    )
    write_metadata(root / "metadata.npz", metadata)
    return metadata


def _claim(root: Path, order: Order) -> None:
    path = root / ORDER_FILE
    if path.is_file():
        if read_record(path, Order) != order:
            raise UsageError(
                f"{root} holds clips of another order ({ORDER_FILE})", remedy="name another folder with --out"
            )
    else:
        write_record(path, order)
    for part in (FRAMES, AUDIO, TRUTH, WAVES):
        clear_leftovers(root / part)


def _made(root: Path, order: Order, missing: list[int], workers: int) -> Iterator[None]:
    if workers <= 1 or len(missing) <= 1:
        for index in missing:
            draw_clip(root, order, index)
            yield
        return
    # forked children of a process with torch's threads may hang: start them fresh
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=get_context("spawn")) as pool:
        try:
            # spawned at once, so that they find the environment of this moment
            with single_threaded_children():
                done = pool.map(draw_clip, *zip(*[(root, order, k) for k in missing], strict=True))
            yield from done
        except BrokenProcessPool:
            raise ClipError(
                "a process that draws was ended from outside, as happens when memory runs out",
                remedy="run the same command again, with fewer --workers",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def draw_clip(root: Path, order: Order, index: int) -> None:
    """Write clip `index`, its truth last."""
    import cv2

    from talent_factory.lipsync.audio.features import open_extractor
    from talent_factory.lipsync.audio.wave import write_wave

    take, name = make_take(order, index), order.name(index)
    features = open_extractor(order.extractor).features(take.speech.wave)
    with atomic_folder(root / FRAMES / name) as folder:
        for k, look in enumerate(take.looks):
            picture = draw_face(take.person, look, order.size)
            good, data = cv2.imencode(".png", picture[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 4])
            if not good:
                raise ClipError(f"{folder}/{k:06d}.png could not be encoded", remedy="try another --size")
            (folder / f"{k:06d}.png").write_bytes(data.tobytes())
    with atomic_folder(root / AUDIO / name) as folder:
        for k in range(order.frames):
            np.save(folder / f"{k:06d}.npy", np.ascontiguousarray(features[k], np.float32))
    # the wav holds whole numbers of 1/32767: with this the file reads back as exactly the same sound
    write_wave(root / WAVES / f"{name}.wav", take.speech.wave * (32768 / 32767))
    write_bytes(truth_path(root, name), _npz(_truth(take)))


def truth_path(root: Path, clip: str) -> Path:
    """Where the truth about a clip lies."""
    return Path(root) / TRUTH / f"{clip}.npz"


def read_truth(root: Path, clip: str) -> Mapping[str, NDArray[np.float32]]:
    """The truth about a clip: `opening`, `width`, `silent`, `lids` (T,) and `pose` (T, 5).

    Raises:
        ClipError: there is none, or it is no such file.
    """
    return read_truth_file(truth_path(root, clip))


def read_truth_file(path: Path) -> Mapping[str, NDArray[np.float32]]:
    """As `read_truth`, of one file."""
    try:
        with np.load(path, allow_pickle=False) as members:
            return {name: members[name] for name in ("opening", "width", "silent", "lids", "pose")}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ClipError(
            f"{path}: no truth to read ({error})", remedy="draw the clips anew: talent lipsync synth"
        ) from None


def _truth(take: Take) -> dict[str, NDArray[np.float32]]:
    poses = [(v.pose.x, v.pose.y, v.pose.roll, v.pose.turn, v.pose.zoom) for v in take.looks]
    return {
        "opening": take.speech.opening,
        "width": take.speech.width,
        "silent": take.speech.silent.astype(np.float32),
        "lids": np.array([v.lids for v in take.looks], np.float32),
        "pose": np.array(poses, np.float32),
    }


def _npz(members: Mapping[str, NDArray[np.float32]]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **members)
    return stream.getvalue()
