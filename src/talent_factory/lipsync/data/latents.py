"""Latents of frames, made once and kept on the disk: of the frame, and of the frame with its mouth covered.

One file a clip: a header that says what made them, then a record for each frame, its CRC-32 before it. A
record whose CRC does not fit counts as not made, so that a kill in the middle of a write loses that frame
alone, and two processes that write the same frame write the same bytes.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from talent_factory.core.errors import ClipError, DiskFull
from talent_factory.core.files import atomic_path, clear_halves, disk_full, is_no_room

if TYPE_CHECKING:
    from talent_factory.lipsync.masks import FaceMask
    from talent_factory.lipsync.ports import Clips, Codec

_MAGIC = b"TLATENT1"
_HEAD = 4096
_CRC = 8  # four bytes of CRC-32, four of the mark that tells a made record from an empty one
_MADE = b"made"
Kind = Literal["fp16", "fp32"]


class LatentCache:
    """E(x) and E(masked x) of the frames of clips, filled on demand; safe from several threads."""

    def __init__(
        self,
        folder: Path | None,
        clips: Clips,
        codec: Codec,
        mask: FaceMask,
        *,
        image_size: int,
        kind: Kind = "fp32",
        block: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Keep them below `folder`, keyed by codec, size, mask and the clip's fingerprint; None keeps
        nothing and encodes each time. Frames are encoded in blocks of `block` neighbours, always the same
        ones, so that a frame's latents never depend on what was asked for: 1 on a CPU, 16 elsewhere.
        """
        self._clips, self._codec, self._mask = clips, codec, mask
        self._size, self._dtype = image_size, np.float16 if kind == "fp16" else np.float32
        self._device = torch.device(device)
        self._block = block or (1 if self._device.type == "cpu" else 16)
        side = image_size // codec.factor
        self.shape = (codec.channels, side, side)
        """Of one latent."""
        self.key = sha256(f"{codec.id} {image_size} {mask.id} {kind}".encode()).hexdigest()[:16]
        self._folder = Path(folder) / self.key if folder is not None else None
        self._open: dict[int, _ClipFile] = {}
        self._lock = threading.Lock()
        self._encoding = threading.Lock()
        self.encoded = 0
        """Frames that had to be encoded."""

    def latents(self, clip: int, indices: Sequence[int]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The latents of frames and of masked frames, (n, C, h, w) float32 each.

        Raises:
            ClipError, StorageError: a frame cannot be read. DiskFull: the cache cannot grow.
        """
        kept = self._file(clip)
        found = {i: kept.read(i) if kept is not None else None for i in dict.fromkeys(indices)}
        for number in dict.fromkeys(i // self._block for i, record in found.items() if record is None):
            block = range(number * self._block, min((number + 1) * self._block, self._count(clip)))
            for index, record in zip(block, self._encode(clip, block), strict=True):
                if index in found:
                    found[index] = record
                if kept is not None:
                    kept.write(index, record)
        both = np.stack([np.asarray(found[i]) for i in indices]).astype(np.float32)
        return both[:, 0], both[:, 1]

    def has(self, clip: int, index: int) -> bool:
        """Whether a frame's latents are kept already."""
        kept = self._file(clip)
        return kept is not None and kept.made(index)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for kept in self._open.values():
                kept.close()
            self._open.clear()

    def _encode(self, clip: int, indices: Sequence[int]) -> NDArray[Any]:
        """(n, 2, C, h, w) of the kept dtype; what is kept and what is used are then the same numbers."""
        if len(indices) > 1:
            self._clips.expect([(clip, indices[0], indices[-1] + 1)], audio=False)
        images = pixels(np.stack([self._clips.frame(clip, index) for index in indices]))
        images = images.contiguous().to(self._device)
        # one at a time: a codec gains nothing from threads
        with self._encoding, torch.no_grad():
            halves = [self._codec.encode(part).float().cpu() for part in (images, self._mask.apply(images))]
            self.encoded += len(indices)
        both = torch.stack(halves, dim=1).numpy().astype(self._dtype)
        if not np.isfinite(both).all():
            raise ClipError(
                f"codec {self._codec.id} made latents of clip {self._clips.metadata.clips[clip].name} that "
                f"are not finite in {np.dtype(self._dtype).name}",
                remedy="keep latents as fp32",
            )
        return both

    def _count(self, clip: int) -> int:
        return len(self._clips.metadata.clips[clip].frames)

    def _file(self, clip: int) -> _ClipFile | None:
        if self._folder is None:
            return None
        with self._lock:
            kept = self._open.get(clip)
            if kept is None:
                name = self._clips.metadata.clips[clip].name
                about: dict[str, Any] = {
                    "fingerprint": self._clips.fingerprint(clip),
                    "codec": self._codec.id,
                }
                about |= {"mask": self._mask.id, "image_size": self._size, "shape": list(self.shape)}
                about |= {"count": self._count(clip), "dtype": np.dtype(self._dtype).str}
                kept = _ClipFile(self._folder / f"{name}.latents", about, (2, *self.shape))
                self._open[clip] = kept
            return kept


class _ClipFile:
    """The records of one clip in a sparse file."""

    def __init__(self, path: Path, about: dict[str, Any], shape: tuple[int, ...]) -> None:
        self._shape, self._dtype = shape, np.dtype(about["dtype"])
        self._body = int(np.prod(shape)) * self._dtype.itemsize
        self._path = path
        head = _MAGIC + json.dumps(about, sort_keys=True).encode()
        if len(head) > _HEAD:
            raise ClipError("the codec's name is too long for a cache", remedy="give it a shorter id")
        head = head.ljust(_HEAD, b"\0")
        size = _HEAD + about["count"] * (self._body + _CRC)
        if not _starts_with(path, head, size):
            # another codec, mask or picture: begin anew
            clear_halves(path)
            with atomic_path(path) as temporary, open(temporary, "wb") as stream:
                stream.write(head)
                stream.truncate(size)
        self._file = os.open(path, os.O_RDWR)

    def made(self, index: int) -> bool:
        """Whether a record was written; that it is whole only `read` knows."""
        return os.pread(self._file, 4, self._at(index) + 4) == _MADE

    def read(self, index: int) -> NDArray[Any] | None:
        """The record, None when it was not made or is torn."""
        data = os.pread(self._file, self._body + _CRC, self._at(index))
        if data[4:8] != _MADE or int.from_bytes(data[:4], "little") != zlib.crc32(data[8:]):
            return None
        return np.frombuffer(data, self._dtype, offset=_CRC).reshape(self._shape)

    def write(self, index: int, record: NDArray[Any]) -> None:
        """Keep a record; DiskFull where there is no room."""
        body = np.ascontiguousarray(record, self._dtype).tobytes()
        data = zlib.crc32(body).to_bytes(4, "little") + _MADE + body
        try:
            written = os.pwrite(self._file, data, self._at(index))
        except OSError as error:
            if is_no_room(error):
                raise disk_full(self._path, error) from None
            raise
        if written != len(data):
            raise DiskFull(f"no room to write {self._path}", remedy="free some space, then run it again")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _at(self, index: int) -> int:
        return int(_HEAD + index * (self._body + _CRC))


def pixels(frames: NDArray[Any]) -> torch.Tensor:
    """Frames (B, S, S, 3) uint8 as (B, 3, S, S) float32 in [-1, 1], channels last: no number is moved."""
    rows = torch.from_numpy(np.require(frames, requirements="W"))
    return rows.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def _starts_with(path: Path, head: bytes, size: int) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(len(head)) == head and os.fstat(stream.fileno()).st_size == size
    except OSError:
        return False
