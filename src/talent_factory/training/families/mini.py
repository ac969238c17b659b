"""The embedded base: the parts of SD 1.5 in small, trained on the drawn world, shipped inside the package."""

from __future__ import annotations

from pathlib import Path

import torch

from talent_factory.core.errors import BaseError
from talent_factory.training.families import sd15
from talent_factory.training.families.port import Base
from talent_factory.training.families.source import FolderSource

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "mini"

# Plain words of the drawn world's captions, in their form; no token and no accessory among them.
# More makes a trained actor follow the words and lose his marks; docs/log.md has the figures.
GUIDANCE = 1.5
CLASS_PROMPTS = tuple(
    f"{medium} portrait of a {kind}, {mood}, {place} background"
    for medium in ("flat", "ink", "pencil", "comic", "watercolor")
    for kind in ("man", "woman", "creature", "robot")
    for mood, place in (
        ("smiling", "blue"),
        ("neutral", "white"),
        ("surprised", "yellow"),
        ("angry", "red"),
        ("smiling", "city"),
        ("neutral", "forest"),
        ("smiling", "beach"),
        ("neutral", "night"),
    )
)


def load(*, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Base:
    """The embedded base. Raises BaseError when the package carries none or a broken one."""
    if not (FOLDER / "model_index.json").is_file():
        raise BaseError(
            f"the embedded base is missing in {FOLDER}",
            remedy="reinstall the package, or talent base build mini",
        )
    source = FolderSource(FOLDER)
    base = sd15.load(source, name="mini", device=device, dtype=dtype, class_prompts=CLASS_PROMPTS)
    base.family = "mini"
    base.guidance = GUIDANCE
    return base
