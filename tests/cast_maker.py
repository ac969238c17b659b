"""Awkward pictures, and an image provider that is quick, deterministic and fails when told to."""

from __future__ import annotations

import struct
import threading
import time
import zlib
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from talent_factory.core.errors import ProviderError
from talent_factory.providers.port import Capabilities, EditRequest, JobStatus


def face(size: tuple[int, int] = (320, 300)) -> Image.Image:
    """A flat drawn head on a teal ground, (width, height) pixels."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    head = ((x / width - 0.5) / 0.2) ** 2 + ((y / height - 0.45) / 0.28) ** 2 < 1
    shirt = (y / height > 0.78) & (abs(x / width - 0.5) < 0.36)
    pixels = np.full((height, width, 3), (60, 150, 150), np.uint8)
    pixels[shirt] = (190, 60, 60)
    pixels[head] = (235, 200, 170)
    return Image.fromarray(pixels)


def write_face(path: Path, size: tuple[int, int] = (320, 300), **options: object) -> Path:
    """Save the drawn head in the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    face(size).save(path, **options)  # type: ignore[arg-type]
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG of the stated size whose pixel data are missing: all that a bomb needs to be refused by."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


class BlockEditor:
    """An `ImageEditor` that paints blocks from the seed; slots in `broken` fail, `answers` replaces PNGs."""

    def __init__(self, *, delay: float = 0.0, in_flight: int = 3, log: Path | None = None) -> None:
        self.broken: dict[str, BaseException] = {}
        self.answers: dict[str, bytes] = {}
        self.method = "blocks-1"
        self.painted: list[str] = []
        self.peak = 0
        self._busy = 0
        self._delay, self._in_flight, self._log = delay, in_flight, log
        self._jobs: dict[str, EditRequest] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return "blocks"

    def capabilities(self) -> Capabilities:
        return Capabilities(
            any_medium=True,
            any_aspect=True,
            max_in_flight=self._in_flight,
            seed=True,
            network=False,
            methods={"pen_and_ink": self.method, "photo_subway": self.method},
            augmentations=frozenset({"photo_subway", "photo_close_up"}),
        )

    def submit(self, request: EditRequest) -> str:
        with self._lock:
            self._jobs[request.slot] = request
        return request.slot

    def payload(self, request: EditRequest) -> dict[str, object]:
        return {"slot": request.slot}

    def poll(self, job_id: str) -> JobStatus:
        return JobStatus(state="succeeded")

    def fetch(self, job_id: str) -> bytes:
        request = self._jobs[job_id]
        with self._lock:
            self._busy += 1
            self.peak = max(self.peak, self._busy)
            self.painted.append(job_id)
            if self._log is not None:
                with open(self._log, "a", encoding="utf-8") as stream:
                    stream.write(job_id + "\n")
        try:
            time.sleep(self._delay)
            if job_id in self.broken:
                raise self.broken[job_id]
            return self.answers.get(job_id) or _blocks(request)
        finally:
            with self._lock:
                self._busy -= 1

    def cancel(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)

    def find(self, seed: int, *, since: datetime | None = None) -> str | None:
        return next((slot for slot, request in self._jobs.items() if request.seed == seed), None)


def _blocks(request: EditRequest) -> bytes:
    across, down = (int(part) for part in request.aspect.split(":"))
    if not request.portrait.is_file():
        raise ProviderError("no portrait")
    rng = np.random.default_rng(request.seed)
    cells: NDArray[np.uint8] = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    size = (request.long_side, max(1, round(request.long_side * down / across)))
    stream = BytesIO()
    Image.fromarray(cells).resize(size, Image.Resampling.NEAREST).save(stream, "PNG")
    return stream.getvalue()
