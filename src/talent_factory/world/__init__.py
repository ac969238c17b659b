"""A small drawn world of characters: the subject matter of the embedded base and of the sample data."""

from __future__ import annotations

from talent_factory.world.character import Character, Signature, caption, sample_character
from talent_factory.world.draw import draw_character

__all__ = ["Character", "Signature", "caption", "draw_character", "sample_character"]
