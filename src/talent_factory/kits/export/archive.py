"""Archives that are the same bytes whenever and wherever they are made: sorted names, no times, no packing.

Weights and pictures hardly shrink, and the packed form of equal bytes differs between versions of zlib.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from talent_factory.kits.export.pieces import Piece

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_ZIP64 = 1 << 31


def write_zip(path: Path, pieces: Mapping[str, Piece], wrote: Callable[[int], None]) -> None:
    """Write the pieces to a zip file under their names, POSIX and relative; `wrote` hears of their bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(pieces):
            piece = pieces[name]
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, _MODE
            entry.file_size = piece.size
            with archive.open(entry, "w", force_zip64=piece.size >= _ZIP64) as stream:
                for chunk in piece.chunks():
                    stream.write(chunk)
                    wrote(len(chunk))
