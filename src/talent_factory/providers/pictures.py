"""Pictures to and from a provider: a portrait made small once, a result checked to its last byte."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO

from talent_factory.core.errors import ProviderError, ProviderRefused, ProviderUnreachable
from talent_factory.providers.port import EditRequest

# A data URL carries three bytes in four characters: this many stay below 256 KiB.
DATA_URL_BYTES = 190_000
_QUALITIES = (95, 90, 85, 80)
_SHRINK = 0.85
_KEPT = 4


@dataclass(frozen=True)
class Picture:
    """An encoded picture and its media type ("image/jpeg")."""

    data: bytes
    kind: str

    def data_url(self) -> str:
        """The picture inside an address."""
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode('ascii')}"

    def digest(self) -> dict[str, object]:
        """What stands for the picture in records."""
        return {"sha256": hashlib.sha256(self.data).hexdigest(), "bytes": len(self.data)}


class Portraits:
    """Reads each portrait once and keeps it in the form that is sent, at most `max_bytes` long.

    Safe to use from several threads; a file that changed is read anew.
    """

    def __init__(self, *, max_bytes: int = DATA_URL_BYTES) -> None:
        self._max_bytes = max_bytes
        self._known: OrderedDict[tuple[str, int, int], Picture] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, request: EditRequest) -> Picture:
        """The portrait of a request: as it is when it is small enough, else as JPEG that fits.

        Raises ProviderRefused when it cannot be read or is no PNG, JPEG or WebP.
        """
        path = request.portrait
        try:
            facts = path.stat()
            key = (str(path), facts.st_mtime_ns, facts.st_size)
            with self._lock:
                known = self._known.get(key)
                if known is None:
                    known = _fit(path.read_bytes(), self._max_bytes)
                    self._known[key] = known
                    while len(self._known) > _KEPT:
                        self._known.popitem(last=False)
        except OSError as error:
            raise ProviderRefused(
                f"slot {request.slot}: cannot read the portrait {path}: {error.strerror or 'not an image'}",
                remedy="check the path; a portrait is a PNG, JPEG or WebP file",
            ) from None
        return known


def checked_image(data: bytes, *, service: str) -> bytes:
    """`data`, when it is a whole PNG, JPEG or WebP image.

    Raises ProviderUnreachable when its end is missing (fetching again costs nothing), ProviderError when
    it is something else.
    """
    kind = image_kind(data)
    if kind is None:
        raise ProviderError(
            f"{service} sent something that is no PNG, JPEG or WebP image ({len(data)} bytes)"
        )
    if not _whole(data, kind):
        raise ProviderUnreachable(
            f"the image of {service} came incomplete ({len(data)} bytes)",
            remedy="fetch it again; nothing is paid for that",
        )
    return data


def image_kind(data: bytes) -> str | None:
    """The media type by the first bytes, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _whole(data: bytes, kind: str) -> bool:
    if kind == "image/png":
        return b"IEND\xaeB`\x82" in data[-1024:]
    if kind == "image/webp":
        return len(data) >= int.from_bytes(data[4:8], "little") + 8
    # some writers pad or append metadata behind the end mark
    return b"\xff\xd9" in data[-1024:]


def _fit(data: bytes, max_bytes: int) -> Picture:
    """Raises OSError when the bytes are no image."""
    from PIL import Image

    kind = image_kind(data)
    if kind is not None and len(data) <= max_bytes:
        return Picture(data, kind)
    if kind is None:
        raise OSError("no image")
    with Image.open(BytesIO(data)) as opened:
        image = opened.convert("RGB")
    while True:
        for quality in _QUALITIES:
            stream = BytesIO()
            # full colour resolution: eyes and lips are small and lose it first
            image.save(stream, "JPEG", quality=quality, subsampling=0, optimize=True)
            if stream.tell() <= max_bytes or max(image.size) <= 64:
                return Picture(stream.getvalue(), "image/jpeg")
        size = max(1, round(image.width * _SHRINK)), max(1, round(image.height * _SHRINK))
        image = image.resize(size, Image.Resampling.LANCZOS)
