"""The analyser that needs nothing: a style card and tile checks from measures, and no guesses beyond."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from talent_factory.providers.vision.measures import (
    Look,
    colour_name,
    fingerprint,
    measure_look,
    read_rgb,
    sharpness,
)
from talent_factory.providers.vision.port import U8, StyleCard, Swatch, TileVerdict, Verdict

METHOD = "style-card-1"
_SAME_BITS = 6  # of 64 that may differ between pictures of the same thing
_BLURRED = 14.0
_EMPTY = 2.5  # deviation of tones, in bytes


class EmbeddedVision:
    """A `Vision` without weights or network. It measures; what it cannot measure stays not measured."""

    @property
    def name(self) -> str:
        """The word under which manifests record it."""
        return "embedded"

    def style_card(self, image: Path) -> StyleCard:
        """A card from palette, tones, edges and grain. It names a kind of medium, never a genre or an era."""
        return describe(measure_look(read_rgb(str(image))), source=f"embedded {METHOD}")

    def check_tiles(self, tiles: Sequence[U8], *, subjects: Sequence[str], style: Path) -> list[TileVerdict]:
        """Finds blank, blurred, repeated (also mirrored) and foreign tiles; reads no text or subjects."""
        look = measure_look(read_rgb(str(style)))
        verdicts: list[TileVerdict] = []
        seen: list[np.ndarray] = []
        for tile in tiles:
            verdicts.append(_judge(tile, look, seen))
            seen.append(fingerprint(tile))
        return verdicts

    def follows(self, image: Path, expectation: str) -> Verdict:
        """Not measured: without a model nobody can tell what a picture shows."""
        return Verdict(state="not_measured", note="needs a vision model")


def same_picture(tile: U8, earlier: Sequence[np.ndarray]) -> int | None:
    """The index of the fingerprint in `earlier` that `tile` or its mirror image repeats, or None."""
    for index, known in enumerate(earlier):
        for view in (tile, tile[:, ::-1]):
            if int((fingerprint(np.ascontiguousarray(view)) != known).sum()) <= _SAME_BITS:
                return index
    return None


def _judge(tile: U8, look: Look, seen: Sequence[np.ndarray]) -> TileVerdict:
    match = style_match(measure_look(tile), look)
    crisp = sharpness(tile)
    if float(tile.astype(np.float32).mean(axis=2).std()) < _EMPTY:
        return TileVerdict(ok=False, reason="blank", style_match=match, sharpness=crisp)
    again = same_picture(tile, seen)
    if again is not None:
        return TileVerdict(
            ok=False, reason="shows the same", duplicate_of=again, style_match=match, sharpness=crisp
        )
    if crisp < _BLURRED:
        return TileVerdict(ok=False, reason="blurred", style_match=match, sharpness=crisp)
    if match == 1:
        return TileVerdict(ok=False, reason="looks foreign", style_match=match, sharpness=crisp)
    return TileVerdict(ok=True, style_match=match, sharpness=crisp)


def style_match(tile: Look, style: Look) -> int:
    """1 (foreign) to 5: how near chroma, tones, edges, lines, grain and palette of two pictures lie."""
    colours = np.array([(r, g, b) for r, g, b, _ in style.palette], np.float32)
    far = sum(
        share * min(1.0, float(np.linalg.norm(colours - np.array((r, g, b)), axis=1).min()) / 110)
        for r, g, b, share in tile.palette
    )
    gaps = (
        abs(tile.chroma - style.chroma) / 28,
        abs(tile.spread - style.spread) / 30,
        abs(tile.edges - style.edges) / 0.4,
        abs(tile.lines - style.lines) / 0.35,
        abs(tile.grain - style.grain) / 5,
        2.0 * far,
    )
    # a colour picture among gray ones is foreign whatever else fits
    if (tile.chroma < 3) != (style.chroma < 3) and abs(tile.chroma - style.chroma) > 8:
        return 1
    distance = float(np.mean([min(1.5, gap) for gap in gaps]))
    return int(np.clip(5 - np.floor(distance / 0.22), 1, 5))


def describe(look: Look, *, source: str) -> StyleCard:
    """Measures as words."""
    swatches = tuple(
        Swatch(hex=f"#{r:02x}{g:02x}{b:02x}", name=colour_name(r, g, b), share=round(share, 3))
        for r, g, b, share in look.palette
    )
    names = list(dict.fromkeys(swatch.name for swatch in swatches))
    gray = look.chroma < 3.0
    colours = "black, white and gray only" if gray else _listed(names[:5])
    line, texture, shading = _line(look), _texture(look), _shading(look)
    contrast = _grade(look.spread, (14, "low contrast"), (26, "medium contrast"), "high contrast")
    light = _grade(look.tone, (32, "dark overall"), (62, "middle tones overall"), "bright overall")
    medium = _medium(look, gray=gray)
    sentence = f"{medium[:1].upper()}{medium[1:]}; {line}; {shading}; {texture}; {contrast}, {light}; "
    return StyleCard(
        source=source,
        medium=medium,
        line=line,
        palette=swatches,
        contrast=contrast,
        light=light,
        texture=texture,
        shading=shading,
        edges="hard edges" if look.edges > 0.12 else "soft edges",
        do=(line, shading, f"keep to {colours}"),
        avoid=("colour of any kind",) if gray else ("colours outside the palette",),
        sentence=f"{sentence}{'in ' if gray else 'colours: '}{colours}.",
    )


def _medium(look: Look, *, gray: bool) -> str:
    two_tone = look.between < 0.25
    if gray and two_tone:
        return "two-tone black and white image of dense marks" if look.lines > 0.15 else "two-tone image"
    if gray:
        return "monochrome image with gray tones"
    if look.flat > 0.45:
        return "image of flat colour areas" + (" with outlines" if look.lines > 0.015 else "")
    return "grainy painted or photographed image" if look.grain > 1.2 else "smoothly modelled colour image"


def _line(look: Look) -> str:
    if look.glow > 0.03 and look.glow > 5 * look.lines and look.tone < 50:
        return "bright glowing lines on a dark ground"
    return _grade(
        look.lines, (0.012, "no outlines"), (0.12, "clear dark lines"), "dense dark strokes throughout"
    )


def _texture(look: Look) -> str:
    return _grade(look.grain, (0.35, "clean surface"), (1.4, "light surface grain"), "strong surface texture")


def _shading(look: Look) -> str:
    return _grade(
        look.flat, (0.15, "continuous shading"), (0.45, "soft shading in parts"), "flat areas, no shading"
    )


def _grade(value: float, low: tuple[float, str], middle: tuple[float, str], high: str) -> str:
    return low[1] if value < low[0] else middle[1] if value < middle[0] else high


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
