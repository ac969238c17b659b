"""placeholder"""

from __future__ import annotations

from pathlib import Path

from talent_factory.training.likeness.encoders import IdentityEncoder


def open_face_encoder(kind: str, folder: Path, *, device: str = "cpu") -> IdentityEncoder:
    raise ValueError(kind)
