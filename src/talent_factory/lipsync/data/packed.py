"""Clips in packs: near ones are mapped into memory, far ones fetched whole into the cache, or by pieces."""

from __future__ import annotations

import hashlib
import mmap
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from talent_factory.core.errors import ClipError
from talent_factory.lipsync.data.decode import picture, plain_picture
from talent_factory.lipsync.data.loose import spellings
from talent_factory.lipsync.data.pack import (
    PRELUDE,
    PackHeader,
    header_bytes,
    pack_key,
    read_header,
    rows_of,
)
from talent_factory.lipsync.data.places import Files
from talent_factory.lipsync.records import Metadata

_FIRST_PIECE = 128 << 10
_REMEDY = "make it: talent lipsync pack DATASET, or read loose files"


@dataclass(frozen=True)
class _Open:
    """A pack whose header was read; `body` is its file when it lies on this machine."""

    key: str
    header: PackHeader
    audio: int
    body: mmap.mmap | None


class PackedClips:
    """The `Clips` of packs."""

    def __init__(self, metadata: Metadata, files: Files, *, image_size: int | None = None) -> None:
        """Read packs from `files`; frames of another size than `image_size` are resized."""
        self._metadata, self._files, self._size = metadata, files, image_size
        self._open: dict[int, _Open] = {}
        self._locks = [threading.Lock() for _ in metadata.clips]

    @property
    def metadata(self) -> Metadata:
        """What the dataset says of itself."""
        return self._metadata

    @property
    def files(self) -> Files:
        """The places behind it."""
        return self._files

    def frame(self, clip: int, index: int) -> NDArray[Any]:
        """One frame: (S, S, 3) uint8 RGB."""
        pack = self._pack(clip)
        header = pack.header
        if not 0 <= index < len(header.frames):
            raise ClipError(f"{pack.key} has no frame {index}", remedy=_REMEDY)
        start = header.ends[index - 1] if index else pack.audio + len(header.frames) * header.row_bytes
        data = self._piece(pack, start, header.ends[index])
        where = f"{pack.key}: frame {header.frames[index]}"
        if zlib.crc32(data) != header.picture_crc[index]:
            raise ClipError(f"{where} is damaged", remedy="make the pack anew: talent lipsync pack DATASET")
        if header.pictures == "rgb":
            return plain_picture(data, header.image_size, size=self._size, where=where)
        return picture(data, size=self._size, where=where)

    def audio(self, clip: int, first: int, last: int) -> NDArray[Any]:
        """The features of frames `first` to `last` (exclusive): (last-first, 10, 384) float32."""
        pack = self._pack(clip)
        size = pack.header.row_bytes
        if not 0 <= first <= last <= len(pack.header.frames):
            raise ClipError(f"{pack.key} has no frames {first} to {last}", remedy=_REMEDY)
        data = self._piece(pack, pack.audio + first * size, pack.audio + last * size)
        return rows_of(data, pack.header, first, where=pack.key)

    def expect(
        self, wants: Iterable[tuple[int, int, int]], *, pictures: bool = True, audio: bool = True
    ) -> None:
        """Begin to fetch the packs of these clips."""
        if self._files.only_near or not self._files.keeps:
            return
        keys = [pack_key(self._metadata.clips[clip].name) for clip, _, _ in wants if clip not in self._open]
        self._files.ahead(dict.fromkeys(keys), keep_in_memory=False)

    def fingerprint(self, clip: int) -> str:
        """A hash over the CRCs of all pictures: the same for the same pictures wherever they lie."""
        header = self._pack(clip).header
        text = f"{header.frames} {header.picture_crc} {header.pictures} {header.image_size} {self._size}"
        return hashlib.sha256(text.encode()).hexdigest()

    def close(self) -> None:
        """Give back files and threads."""
        self._files.close()
        for pack in self._open.values():
            if pack.body is not None:
                pack.body.close()
        self._open.clear()

    def _piece(self, pack: _Open, start: int, end: int) -> bytes:
        if pack.body is not None:
            data = pack.body[start:end]
        else:
            data = self._files.piece(pack.key, start, end) or b""
        if len(data) != end - start:
            raise ClipError(f"{pack.key} is cut: {len(data)} of {end - start} bytes", remedy=_REMEDY)
        return data

    def _pack(self, clip: int) -> _Open:
        found = self._open.get(clip)
        if found is not None:
            return found
        with self._locks[clip]:
            if clip not in self._open:
                self._open[clip] = self._opened(clip)
            return self._open[clip]

    def _opened(self, clip: int) -> _Open:
        entry = self._metadata.clips[clip]
        for name in spellings(entry.name):
            key = pack_key(name)
            pack = self._mapped(key) if self._files.only_near or self._files.keeps else self._remote(key)
            if pack is None:
                continue
            if pack.header.frames != entry.frames or pack.header.extractor != self._metadata.extractor:
                raise ClipError(
                    f"{key} was packed from other frames or audio than the metadata names",
                    remedy="make it anew: talent lipsync pack DATASET",
                )
            return pack
        raise ClipError(f"clip {entry.name} has no pack ({self._files.where})", remedy=_REMEDY)

    def _mapped(self, key: str) -> _Open | None:
        path = self._files.kept_file(key)
        if path is None:
            return None
        with open(path, "rb") as stream:
            body = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else None
        if body is None:
            raise ClipError(f"{key} is empty", remedy=_REMEDY)
        header, audio = read_header(body[: header_bytes(body[: PRELUDE.size], where=key)], where=key)
        return _Open(key, header, audio, body)

    def _remote(self, key: str) -> _Open | None:
        data = self._files.piece(key, 0, _FIRST_PIECE)
        if data is None:
            return None
        length = header_bytes(data, where=key)
        if length > len(data):
            data += self._files.piece(key, len(data), length) or b""
        header, audio = read_header(data, where=key)
        return _Open(key, header, audio, None)
