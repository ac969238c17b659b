"""Looking at pictures: by a model behind an API, by a local model, or by measures alone."""

from __future__ import annotations

from talent_factory.providers.vision.catalog import make_vision, vision_names
from talent_factory.providers.vision.port import StyleCard, Swatch, TileVerdict, Verdict, Vision

__all__ = ["StyleCard", "Swatch", "TileVerdict", "Verdict", "Vision", "make_vision", "vision_names"]
