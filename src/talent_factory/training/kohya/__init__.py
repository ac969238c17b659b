"""Read what kohya's sd-scripts were told, in any of its forms, and say it in our own words."""

from __future__ import annotations

from talent_factory.training.kohya.collect import collect_images
from talent_factory.training.kohya.importer import Imported, Wanted, import_kohya
from talent_factory.training.kohya.notes import Note

__all__ = ["Imported", "Note", "Wanted", "collect_images", "import_kohya"]
