"""Clips as loose files: a PNG and an .npy for each frame, in folders named like the clips."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import ClipError
from talent_factory.lipsync.data.decode import features, picture
from talent_factory.lipsync.data.places import Files
from talent_factory.lipsync.records import STEPS, WIDTH, Metadata

_RELIST = "make it, or list what is there: talent lipsync metadata --mode scan"
KEPT_ROWS = 8192
"""Rows of audio that stay decoded: 126 MB, what a few thousand samples share with their neighbours."""


class LooseClips:
    """The `Clips` of loose files, near or far."""

    def __init__(
        self,
        metadata: Metadata,
        files: Files,
        *,
        image_folder: str = "aligned-frames",
        audio_folder: str = "audio",
        image_size: int | None = None,
    ) -> None:
        """Read from `files`; frames of another size than `image_size` are resized, None keeps all as is."""
        self._metadata, self._files = metadata, files
        self._folders = {"image": image_folder.strip("/"), "audio": audio_folder.strip("/")}
        self._size = image_size
        self._names: dict[tuple[str, int], str] = {}
        self._rows = _Rows(KEPT_ROWS)

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
        data = self.picture_bytes(clip, index)
        return picture(data, size=self._size, where=self._key("image", clip, index))

    def picture_bytes(self, clip: int, index: int) -> bytes:
        """The PNG of a frame as it is stored."""
        if not 0 <= index < len(self._metadata.clips[clip].frames):
            raise ClipError(f"clip {self._metadata.clips[clip].name} has no frame {index}", remedy=_RELIST)
        return self._read("image", clip, index)

    def audio(self, clip: int, first: int, last: int) -> NDArray[Any]:
        """The features of frames `first` to `last` (exclusive): (last-first, 10, 384) float32."""
        if not 0 <= first <= last <= len(self._metadata.clips[clip].frames):
            raise ClipError(
                f"clip {self._metadata.clips[clip].name} has no frames {first} to {last}", remedy=_RELIST
            )
        rows = np.empty((last - first, STEPS, WIDTH), np.float32)
        for place, index in enumerate(range(first, last)):
            row = self._rows.get((clip, index))
            if row is None:
                row = features(self._read("audio", clip, index), where=self._key("audio", clip, index))
                self._rows.put((clip, index), row)
            rows[place] = row
        return rows

    def expect(
        self, wants: Iterable[tuple[int, int, int]], *, pictures: bool = True, audio: bool = True
    ) -> None:
        """Begin to fetch the files of these frames."""
        if self._files.only_near:
            return
        for clip, first, last in wants:
            for index in range(max(0, first), min(last, len(self._metadata.clips[clip].frames))):
                if audio and not self._rows.has((clip, index)):
                    self._files.ahead([self._key("audio", clip, index)])
                if pictures:
                    self._files.ahead([self._key("image", clip, index)])

    def fingerprint(self, clip: int) -> str:
        """Size and time of every picture on this machine; far ones are asked for the first and the last."""
        frames = range(len(self._metadata.clips[clip].frames))
        asked = frames if self._files.only_near else {0, len(frames) - 1}
        self._folder("image", clip)
        digest = hashlib.sha256(f"{len(frames)} {self._size}".encode())
        for index in sorted(asked):
            key = self._key("image", clip, index)
            digest.update(f"{key} {self._files.stamp(key)}\n".encode())
        return digest.hexdigest()

    def unchanged_since(self, clip: int, time_ns: int) -> bool:
        """Whether no file of the clip on this machine is younger than a time; never known of far ones."""
        if not self._files.only_near:
            return False
        for kind in self._folders:
            self._folder(kind, clip)
            for index in range(len(self._metadata.clips[clip].frames)):
                stamp = self._files.stamp(self._key(kind, clip, index))
                if stamp is None or int(stamp.rpartition("-")[2]) > time_ns:
                    return False
        return True

    def close(self) -> None:
        """End the threads that fetch."""
        self._files.close()

    def _read(self, kind: str, clip: int, index: int) -> bytes:
        self._folder(kind, clip)
        key = self._key(kind, clip, index)
        data = self._files.read(key)
        if data is None:
            raise ClipError(
                f"clip {self._metadata.clips[clip].name} lacks {key} ({self._files.where})",
                remedy=_RELIST,
            )
        return data

    def _folder(self, kind: str, clip: int) -> str:
        """The clip's folder; HDTF-0001 and HDTF_0001 are the same clip, as its first file tells."""
        known = self._names.get((kind, clip))
        if known is not None:
            return known
        entry = self._metadata.clips[clip]
        chosen = entry.name
        for name in spellings(entry.name):
            if self._files.stamp(self._path(kind, name, entry.frames[0])) is not None:
                chosen = name
                break
        self._names[kind, clip] = chosen
        return chosen

    def _key(self, kind: str, clip: int, index: int) -> str:
        name = self._names.get((kind, clip)) or self._metadata.clips[clip].name
        return self._path(kind, name, self._metadata.clips[clip].frames[index])

    def _path(self, kind: str, folder: str, frame: str) -> str:
        return f"{self._folders[kind]}/{folder}/{frame}{'.png' if kind == 'image' else '.npy'}"


class _Rows:
    """The rows of audio that were used last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def has(self, key: tuple[int, int]) -> bool:
        """Whether the row is here."""
        return key in self._items

    def get(self, key: tuple[int, int]) -> NDArray[Any] | None:
        """The row, which now was used last."""
        with self._lock:
            found = self._items.get(key)
            if found is not None:
                self._items.move_to_end(key)
            return found

    def put(self, key: tuple[int, int], row: NDArray[Any]) -> None:
        """Keep a row, forget the one that was not used for longest."""
        with self._lock:
            self._items[key] = row
            if len(self._items) > self._limit:
                self._items.popitem(last=False)


def spellings(name: str) -> tuple[str, ...]:
    """A clip's name and its other spelling: HDTF-0001 and HDTF_0001."""
    swapped = name.translate(str.maketrans("-_", "_-"))
    return (name,) if swapped == name else (name, swapped)
