"""Sixty-three motifs drawn by code: what the embedded painter puts into the style of a picture."""

from __future__ import annotations

from collections.abc import Callable

from talent_factory.providers.embedded.motifs import (
    animals,
    buildings,
    nature,
    objects,
    patterns,
    people,
    vehicles,
)
from talent_factory.providers.embedded.sketch import Sketch

Draw = Callable[[Sketch], None]

MOTIFS: dict[str, Draw] = {
    **people.MOTIFS,
    **nature.MOTIFS,
    **objects.MOTIFS,
    **buildings.MOTIFS,
    **animals.MOTIFS,
    **vehicles.MOTIFS,
    **patterns.MOTIFS,
}

__all__ = ["MOTIFS", "Draw"]
