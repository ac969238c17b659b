"""The embedded painter: seventeen pictures from one portrait with numpy and OpenCV alone."""

from __future__ import annotations

from talent_factory.providers.embedded.editor import EmbeddedPainter
from talent_factory.providers.embedded.painter import MEDIA, Medium, Painted, paint

__all__ = ["MEDIA", "EmbeddedPainter", "Medium", "Painted", "paint"]
