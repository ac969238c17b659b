"""A clip in one file: its pictures as they are, and the audio of all frames in one block.

    8 bytes  mark            TLNTCLIP
    8 bytes  format (u32) and length of the header (u32), little-endian
    header   JSON: clip, frames, image_size, extractor, audio {dtype, offset}, offsets, crc
    audio    (T, 10, 384) in rows of frames, float16 where that loses nothing, else float32
    pictures one after the other: PNGs as they are, or plain RGB of image_size x image_size pixels

Offsets count from the beginning of the file. Every picture and every row of audio has a CRC-32, so that
damage is found by the frame. Packing loses nothing: samples from a pack and from loose files are the same.
"""

from __future__ import annotations

import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from talent_factory.core.errors import ClipError, PartialResult
from talent_factory.core.files import atomic_path, clear_leftovers
from talent_factory.core.records import Record
from talent_factory.lipsync.data.decode import VALUES, picture_size
from talent_factory.lipsync.data.loose import LooseClips
from talent_factory.lipsync.records import STEPS, WIDTH, ClipName, FrameName

if TYPE_CHECKING:
    from talent_factory.core.events import Reporter

PACK_FOLDER = "packs"
PACK_SUFFIX = ".clip"
MARK = b"TLNTCLIP"
VERSION = 1
PRELUDE = struct.Struct("<8sII")
MAX_HEADER = 64 << 20
Form = Literal["png", "rgb"]
"""Of the pictures: PNG is small, RGB takes no time to decode."""
_REPACK = "make the pack anew: talent lipsync pack DATASET"


class PackHeader(Record):
    """What a pack says of itself; `ends[i]` is where picture i ends; they follow the audio."""

    clip: ClipName
    frames: tuple[FrameName, ...] = Field(min_length=1)
    image_size: int = Field(ge=1)
    extractor: str | None = None
    pictures: Form = "png"
    audio_dtype: Literal["<f2", "<f4"]
    audio_crc: tuple[int, ...]
    ends: tuple[int, ...]
    picture_crc: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one frame's audio."""
        return VALUES * int(np.dtype(self.audio_dtype).itemsize)


class Packed(Record):
    """What packing made: clips packed now and before, their frames and bytes."""

    clips: int
    kept: int
    frames: int
    bytes: int


def pack_key(clip: str) -> str:
    """Where the pack of a clip lies below the dataset."""
    return f"{PACK_FOLDER}/{clip}{PACK_SUFFIX}"


def pack_clips(
    clips: LooseClips,
    out: Path,
    *,
    pictures: Form = "png",
    workers: int = 2,
    reporter: Reporter | None = None,
) -> Packed:
    """Pack every clip into `out`/packs; packs that are there and whole are kept, so a stop costs little.

    Raises:
        PartialResult: some clips have missing or broken files; the others are packed, the first are named.
        DiskFull: the disk takes no more; packs that are finished stay.
    """
    folder = Path(out) / PACK_FOLDER
    clear_leftovers(folder)
    made = kept = frames = size = 0
    broken: list[str] = []
    total = sum(len(clip.frames) for clip in clips.metadata.clips)
    with ThreadPoolExecutor(max(1, workers), "pack") as pool:
        for number, clip in enumerate(clips.metadata.clips):
            path = folder / f"{clip.name}{PACK_SUFFIX}"
            fresh = False
            try:
                if not _is_packed(clips, number, path, pictures):
                    _pack_one(clips, number, path, pool=pool, form=pictures)
                    fresh = True
            except ClipError as error:
                broken.append(error.message)
                continue
            made, kept = made + fresh, kept + (not fresh)
            frames, size = frames + len(clip.frames), size + path.stat().st_size
            if reporter is not None:
                reporter.progress("pack", frames, total, unit="frame", note=clip.name)
    if broken:
        raise PartialResult(
            f"{len(broken)} of {len(clips.metadata.clips)} clips could not be packed: {broken[0]}",
            remedy="mend them, or leave them out: talent lipsync metadata --check --skip-broken",
        )
    return Packed(clips=made, kept=kept, frames=frames, bytes=size)


def read_header(data: bytes, *, where: str) -> tuple[PackHeader, int]:
    """The header of a pack and where its audio begins, from at least `header_bytes` of it; ClipError."""
    length = header_bytes(data, where=where)
    try:
        header = PackHeader.model_validate_json(data[PRELUDE.size : length])
    except ValidationError:
        raise ClipError(f"{where} has a damaged header", remedy=_REPACK) from None
    count = len(header.frames)
    audio_end = length + count * header.row_bytes
    ordered = all(a < b for a, b in zip((audio_end, *header.ends), header.ends, strict=False))
    if not ordered or not len(header.ends) == len(header.picture_crc) == len(header.audio_crc) == count:
        raise ClipError(f"{where} contradicts itself", remedy=_REPACK)
    return header, length


def header_bytes(data: bytes, *, where: str) -> int:
    """Where the header of a pack ends, from its first 16 bytes; ClipError when it is no pack of ours."""
    if len(data) < PRELUDE.size or data[:8] != MARK:
        raise ClipError(f"{where} is no clip pack", remedy=_REPACK)
    _, version, length = PRELUDE.unpack(data[: PRELUDE.size])
    if version != VERSION or length > MAX_HEADER:
        raise ClipError(f"{where} is a pack of format {version}, not {VERSION}", remedy=_REPACK)
    return int(PRELUDE.size + length)


def rows_of(data: bytes, header: PackHeader, first: int, *, where: str) -> NDArray[Any]:
    """Whole rows of audio, `first` the frame they begin with: (n, 10, 384) float32; ClipError on damage."""
    size = header.row_bytes
    for place in range(len(data) // size):
        if zlib.crc32(data[place * size : (place + 1) * size]) != header.audio_crc[first + place]:
            raise ClipError(
                f"{where}: the audio of frame {header.frames[first + place]} is damaged", remedy=_REPACK
            )
    return np.frombuffer(data, header.audio_dtype).astype(np.float32).reshape(-1, STEPS, WIDTH)


def _is_packed(clips: LooseClips, number: int, path: Path, form: Form) -> bool:
    """Whether the pack is there, whole by its length, and no older than the files it was made of."""
    clip = clips.metadata.clips[number]
    try:
        with open(path, "rb") as stream:
            head = stream.read(PRELUDE.size)
            stream.seek(0)
            header, _ = read_header(stream.read(header_bytes(head, where=str(path))), where=str(path))
            whole = stream.seek(0, 2) == header.ends[-1]
    except (OSError, ClipError):
        return False
    fits = (
        header.pictures == form
        and header.frames == clip.frames
        and header.extractor == clips.metadata.extractor
    )
    return whole and fits and clips.unchanged_since(number, path.stat().st_mtime_ns)


def _pack_one(clips: LooseClips, number: int, path: Path, *, pool: ThreadPoolExecutor, form: Form) -> None:
    clip, extractor = clips.metadata.clips[number], clips.metadata.extractor
    count = len(clip.frames)
    rows = np.concatenate(list(pool.map(lambda i: clips.audio(number, i, i + 1), range(count))))
    pictures = list(pool.map(lambda i: clips.picture_bytes(number, i), range(count)))
    sizes = {picture_size(data, where=f"{clip.name}/{name}.png") for name, data in _named(clip, pictures)}
    if len(sizes) != 1:
        raise ClipError(f"clip {clip.name} has frames of {len(sizes)} sizes", remedy="align the clip anew")
    # a cut picture must be found now, not in the middle of a training
    decoded = pool.map(lambda i: clips.frame(number, i).tobytes(), range(count))
    if form == "rgb":
        pictures = list(decoded)
    else:
        for _ in decoded:
            pass
    with np.errstate(over="ignore"):
        half = rows.astype("<f2")
    audio = half if np.array_equal(half.astype(np.float32), rows) else rows.astype("<f4")
    header = {
        "clip": clip.name,
        "frames": clip.frames,
        "image_size": sizes.pop(),
        "extractor": extractor,
        "pictures": form,
        "audio_dtype": audio.dtype.str,
        "audio_crc": [zlib.crc32(row.tobytes()) for row in audio],
        "picture_crc": [zlib.crc32(data) for data in pictures],
    }
    lengths = np.array([len(data) for data in pictures], np.int64)
    text = _settled(header, audio.nbytes, np.cumsum(lengths))
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(PRELUDE.pack(MARK, VERSION, len(text)) + text)
        stream.write(audio.tobytes())
        stream.writelines(pictures)


def _settled(header: dict[str, Any], audio: int, ends: NDArray[Any]) -> bytes:
    """The header's JSON, whose own length is part of the offsets it names."""
    width = 0
    while True:
        start = PRELUDE.size + width + audio
        text = json.dumps(header | {"ends": (ends + start).tolist()}, separators=(",", ":")).encode()
        if len(text) <= width:
            # spaces at the end are no change to JSON
            return text.ljust(width)
        width = len(text)


def _named(clip: Any, pictures: list[bytes]) -> list[tuple[str, bytes]]:
    return list(zip(clip.frames, pictures, strict=True))
