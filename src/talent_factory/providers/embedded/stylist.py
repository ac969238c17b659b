"""Pictures in the style of one picture, offline: motifs drawn by code, the look copied patch by patch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talent_factory.core.errors import ProviderError
from talent_factory.core.seeds import derive_seed
from talent_factory.providers.embedded.analogy import METHOD, Style, redraw, study
from talent_factory.providers.embedded.motifs import MOTIFS
from talent_factory.providers.embedded.raster import F32, U8, f32, to_uint8
from talent_factory.providers.embedded.sketch import Sketch

STYLE_MEDIA: dict[str, str] = {"style_grid": METHOD, "style_picture": METHOD}
SUBJECTS = "subjects"
_GUTTER = 0.012


def paint_style(image_HWC: U8, *, medium: str, subjects: str, seed: int, long_side: int) -> U8:
    """A square of `long_side` pixels in the style of `image_HWC` (H, W, 3 RGB bytes).

    `subjects` are names of `MOTIFS` with commas between: nine for "style_grid" (row by row), one for
    "style_picture". The same arguments give the same pixels. Raises ProviderError for anything else.
    """
    names = [name.strip() for name in subjects.split(",") if name.strip()]
    wanted = 9 if medium == "style_grid" else 1
    unknown = sorted(set(names) - set(MOTIFS))
    if len(names) != wanted or unknown:
        raise ProviderError(
            f"{medium} needs {wanted} subjects, got {', '.join(unknown) or len(names)}",
            remedy="use subjects of the shipped list; the embedded painter can draw no others",
        )
    gutter = round(long_side * _GUTTER)
    side = long_side if wanted == 1 else (long_side - 2 * gutter) // 3
    if side < 96:
        raise ProviderError(f"{long_side} px is too small for {medium}", remedy="use 512 px or more")
    style = study(f32(image_HWC) / 255.0, size=side)
    tiles = [_tile(name, style, side, derive_seed("style", name, seed)) for name in names]
    return tiles[0] if wanted == 1 else _grid(tiles, long_side, gutter)


def _tile(name: str, style: Style, side: int, seed: int) -> U8:
    rng = np.random.default_rng(seed)
    sketch = Sketch(side, rng, pen=0.8, volume=0.5 * style.volume)
    MOTIFS[name](sketch)
    painted: F32 = redraw(sketch.colour, sketch.line, style, rng)
    return to_uint8(painted)


def _grid(tiles: Sequence[U8], long_side: int, gutter: int) -> U8:
    side = tiles[0].shape[0]
    sheet: U8 = np.full((long_side, long_side, 3), 250, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // 3 * (side + gutter), index % 3 * (side + gutter)
        sheet[top : top + side, left : left + side] = tile
    return sheet
