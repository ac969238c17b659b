"""Looks through a dataset's folders and lists its clips; a missing neighbour is never passed over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from talent_factory.core.errors import ClipError, FileError
from talent_factory.lipsync.data.decode import features, picture_size, whole_picture_size
from talent_factory.lipsync.data.loose import spellings
from talent_factory.lipsync.data.metadata import METADATA_FILE, read_metadata
from talent_factory.lipsync.records import Clip, ClipName, FrameName, Metadata

if TYPE_CHECKING:
    from talent_factory.core.events import Reporter

_CLIP_NAME: TypeAdapter[str] = TypeAdapter(ClipName)
_FRAME_NAME: TypeAdapter[str] = TypeAdapter(FrameName)


@dataclass(frozen=True)
class Scan:
    """What was found: the metadata of the clips that are whole, and what is wrong with each other one."""

    metadata: Metadata | None
    broken: dict[str, str]


def scan(
    root: Path,
    *,
    image_folder: str = "aligned-frames",
    audio_folder: str = "audio",
    extractor: str | None = None,
    every: bool = False,
    reporter: Reporter | None = None,
) -> Metadata:
    """The metadata of the dataset in `root`.

    `extractor` names what made the audio; without it the one of a metadata.npz that is there already. `every`
    file is read and checked, instead of the first ones of each clip alone.

    Raises:
        ClipError: no clips, or clips that lack files; how many, and what the first one lacks.
    """
    found = scan_all(
        root,
        image_folder=image_folder,
        audio_folder=audio_folder,
        extractor=extractor,
        every=every,
        reporter=reporter,
    )
    if found.broken or found.metadata is None:
        name, problem = next(iter(found.broken.items()))
        total = len(found.broken) + (len(found.metadata.clips) if found.metadata else 0)
        raise ClipError(
            f"{len(found.broken)} of {total} clips in {root} are broken; {name}: {problem}",
            remedy="mend them, or leave them out: talent lipsync metadata --skip-broken",
        )
    return found.metadata


def scan_all(
    root: Path,
    *,
    image_folder: str = "aligned-frames",
    audio_folder: str = "audio",
    extractor: str | None = None,
    every: bool = False,
    reporter: Reporter | None = None,
) -> Scan:
    """As `scan`, but broken clips are listed instead of raised; ClipError when there is no clip folder."""
    root = _dataset_root(Path(root), image_folder)
    pictures, audio = root / image_folder, root / audio_folder
    folders = sorted(entry.name for entry in os.scandir(pictures) if _counts(entry))
    if not folders:
        raise ClipError(f"{pictures} holds no folder of a clip", remedy="give the folder of the dataset")
    clips: list[Clip] = []
    broken: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for number, name in enumerate(folders):
        try:
            clip, size = _clip(pictures / name, audio, name, every=every)
            if size != (first := sizes.setdefault("first", size)):
                raise ClipError(f"its frames have {size} pixels a side, those of other clips {first}")
            clips.append(clip)
        except ClipError as error:
            broken[name] = error.message
        if reporter is not None:
            reporter.progress("scan", number + 1, len(folders), unit="clip", note=name)
    metadata = None
    if clips:
        known = extractor or _known_extractor(root)
        metadata = Metadata(extractor=known, image_size=sizes["first"], clips=tuple(clips))
    return Scan(metadata, broken)


def check_files(metadata: Metadata, root: Path, *, image_folder: str, audio_folder: str) -> dict[str, str]:
    """What clips of the metadata lack on this machine, by name; {} when every file is there."""
    problems = {}
    for clip in metadata.clips:
        lacking: list[str] = []
        for folder, suffix in ((image_folder, ".png"), (audio_folder, ".npy")):
            here = next(
                (root / folder / n for n in spellings(clip.name) if (root / folder / n).is_dir()), None
            )
            there = set(os.listdir(here)) if here is not None else set()
            lacking += [f"{folder}/{clip.name}/{f}{suffix}" for f in clip.frames if f + suffix not in there]
        if lacking:
            problems[clip.name] = f"lacks {len(lacking)} files, the first is {lacking[0]}"
    return problems


def _dataset_root(root: Path, image_folder: str) -> Path:
    """`root` itself, or its parent when the folder of the frames was given."""
    if (root / image_folder).is_dir():
        return root
    if root.name == Path(image_folder).name and root.is_dir():
        return root.parent
    raise ClipError(
        f"{root} holds no folder {image_folder}",
        remedy="give the folder above it, or name it with --image-folder",
    )


def _clip(pictures: Path, audio: Path, name: str, *, every: bool) -> tuple[Clip, int]:
    """The clip in a folder and the pixels of a side of its frames; ClipError for what it lacks."""
    try:
        _CLIP_NAME.validate_python(name)
    except ValidationError:
        raise ClipError("its name holds other characters than A-Z a-z 0-9 . _ -") from None
    frames = _stems(pictures, ".png")
    if not frames:
        raise ClipError("it holds no .png")
    sounds = next((audio / n for n in spellings(name) if (audio / n).is_dir()), None)
    if sounds is None:
        raise ClipError(f"{audio.name}/{name} is missing")
    rows = set(_stems(sounds, ".npy"))
    _refuse_missing([f for f in frames if f not in rows], f"{audio.name}/{name}", ".npy")
    _refuse_missing(sorted(rows - set(frames), key=_place), pictures.name, ".png")
    _refuse_gaps(frames)
    for bad in frames:
        try:
            _FRAME_NAME.validate_python(bad)
        except ValidationError:
            raise ClipError(f"the name of frame {bad[:60]!r} holds characters that no name has") from None
    with open(pictures / f"{frames[0]}.png", "rb") as stream:
        size = picture_size(stream.read(64), where=f"{name}/{frames[0]}.png")
    for frame in frames if every else frames[:1]:
        features((sounds / f"{frame}.npy").read_bytes(), where=f"{audio.name}/{name}/{frame}.npy")
    for frame in frames if every else ():
        where = f"{name}/{frame}.png"
        side = whole_picture_size((pictures / f"{frame}.png").read_bytes(), where=where)
        if side != size:
            raise ClipError(f"{where} has {side} pixels a side, the first frame {size}")
    return Clip(name=name, frames=tuple(frames)), size


def _refuse_missing(names: Sequence[str], folder: str, suffix: str) -> None:
    if names:
        shown = ", ".join(f"{name}{suffix}" for name in names[:3])
        raise ClipError(f"{folder} lacks {len(names)} files: {shown}" + (", …" if len(names) > 3 else ""))


def _refuse_gaps(frames: Sequence[str]) -> None:
    """Numbered frames follow each other: a gap would join sound and pictures that are apart in time."""
    if not all(name.isdecimal() for name in frames):
        return
    numbers = [int(name) for name in frames]
    gaps = [n + 1 for n, after in pairwise(numbers) if after != n + 1]
    if gaps:
        width = len(frames[0])
        count = numbers[-1] - numbers[0] + 1 - len(numbers)
        raise ClipError(f"{count} frames are missing between its first and last, from {gaps[0]:0{width}d} on")


def _stems(folder: Path, suffix: str) -> list[str]:
    """Names of a folder's files without their ending, in the order of their numbers."""
    names = [entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(suffix)]
    return sorted((name[: -len(suffix)] for name in names if not name.startswith(".")), key=_place)


def _place(name: str) -> tuple[int, str]:
    """Numbers by their value, so that 2 comes before 10; other names after them, by letters."""
    return (int(name), name) if name.isdecimal() and name.isascii() else (1 << 62, name)


def _counts(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _known_extractor(root: Path) -> str | None:
    try:
        return read_metadata(root / METADATA_FILE).extractor
    except FileError:
        return None
