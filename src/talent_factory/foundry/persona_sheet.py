"""One page that shows a persona: its hero portrait, beside it the range of its sliders or other prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import atomic_path
from talent_factory.core.stop import StopSignal
from talent_factory.foundry.persona import Persona, Slider
from talent_factory.foundry.persona_draw import OpenPersona
from talent_factory.foundry.session import SHEET_FILE, shoot

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from PIL import ImageDraw, ImageFont

STOPS = (0.0, 0.5, 1.0)
_PAPER, _INK, _FAINT, _HERE = (250, 249, 246), (52, 50, 56), (150, 147, 152), (206, 92, 70)
_CELL, _GAP, _MARGIN, _LINE, _LABEL = 192, 10, 28, 22, 112
_MOST_SWATCHES, _MOST_FACTS = 8, 6
# two by two are as high as the hero
_MOST_OTHERS = 4


@dataclass(frozen=True)
class Grid:
    """The places of the sliders on a page, row by row; `down` and `across` name the axes, if any."""

    down: str
    across: str
    rows: tuple[tuple[Mapping[str, float], ...], ...]


def grid_of(persona: Persona) -> Grid:
    """Three stops of the first slider across and of the second down, by name; no rows without sliders."""
    names = sorted(persona.sliders)[:2]
    if not names:
        return Grid(down="", across="", rows=())
    across, down = names[0], names[1] if len(names) > 1 else ""
    rows = (
        tuple({across: x, **({down: y} if down else {})} for x in STOPS) for y in (STOPS if down else (0.5,))
    )
    return Grid(down=down, across=across, rows=tuple(rows))


def draw_sheet(
    opened: OpenPersona, *, out: Path, reporter: Reporter, prompt: str = "", stop: StopSignal | None = None
) -> tuple[Path, tuple[Path, ...]]:
    """Render hero and grid below `out` and lay the page; returns `out/sheet.png` and the single images.

    `prompt` is a template for all of them; the persona's first without one. A persona without sliders shows
    up to four of its other prompts beside the hero. What was drawn before by the same recipe is kept. Raises
    what `session` and `shoot` raise.
    """
    grid = grid_of(opened.persona)
    drawn = draw_range(opened, grid, out=out, reporter=reporter, prompt=prompt, stop=stop)
    if others := () if grid.rows else _others(opened.persona, prompt):
        session = opened.at({}).session(prompts=others)
        drawn += shoot(session, out=out / "prompts", reporter=reporter, stop=stop)[0]
    page = lay_out(opened, grid, drawn[0], drawn[1:])
    with atomic_path(out / SHEET_FILE) as temporary:
        page.save(temporary, "PNG")
    return out / SHEET_FILE, drawn


def _others(persona: Persona, prompt: str) -> tuple[str, ...]:
    shown = prompt or next(iter(persona.prompts), "")
    return tuple(text for text in persona.prompts if text != shown)[:_MOST_OTHERS]


def draw_range(
    opened: OpenPersona,
    grid: Grid,
    *,
    out: Path,
    reporter: Reporter,
    prompt: str = "",
    stop: StopSignal | None = None,
) -> tuple[Path, ...]:
    """Render the hero and then every cell of the grid, one folder below `out` each; returns the images."""
    template = prompt or next(iter(opened.persona.prompts), "")
    texts = (template,) if template else ()
    places = [place for row in grid.rows for place in row]
    drawn: list[Path] = []
    for number, place in enumerate(({}, *places)):
        session = opened.at(place).session(prompts=texts)
        folder = out / ("hero" if number == 0 else f"cell_{number:02d}")
        images, _ = shoot(session, out=folder, reporter=SilentReporter(), stop=stop)
        drawn.append(images[0])
        reporter.progress("persona sheet", number + 1, len(places) + 1, unit="image")
    return tuple(drawn)


def lay_out(opened: OpenPersona, grid: Grid, hero: Path, cells: Sequence[Path]) -> PillowImage.Image:
    """The page as an RGB image: hero and facts on the left, the grid with its axes on the right.

    Without sliders `cells` stand there two by two.
    """
    from PIL import Image, ImageDraw

    persona = opened.persona
    across = len(grid.rows[0]) if grid.rows else min(2, len(cells))
    down = -(-len(cells) // across) if across else 0
    side = 2 * _CELL + _GAP
    left, top = 2 * _MARGIN + side + (_LABEL + _MARGIN if grid.down else 0), _MARGIN + 2 * _LINE
    width = left + across * (_CELL + _GAP) - _GAP + _MARGIN
    axis = 2 * _LINE + _GAP if grid.across else 0
    facts = _GAP + min(_MOST_FACTS, 1 + len(persona.kits)) * _LINE
    height = top + max(down * (_CELL + _GAP) + axis, side + facts) + _MARGIN
    page = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(page)
    _paste(page, hero, (_MARGIN, top), side)
    _facts(pen, opened, top + side + _GAP, width=side)
    for (row, column), cell in zip(product(range(down), range(across)), cells, strict=False):
        _paste(page, cell, (left + column * (_CELL + _GAP), top + row * (_CELL + _GAP)), _CELL)
    bottom = top + down * (_CELL + _GAP)
    if grid.across:
        _axis(pen, persona, grid.across, start=(left, bottom))
    if grid.down:
        _axis(pen, persona, grid.down, start=(left, top), down=True)
    return page


def _facts(pen: ImageDraw.ImageDraw, opened: OpenPersona, top: int, *, width: int) -> None:
    """Name and version above the hero; kits, sliders and colours below it."""
    persona = opened.persona
    pen.text((_MARGIN, _MARGIN - 6), persona.id, fill=_INK, font=_font(30))
    weights = {use.kit.id: use.weight for use in opened.mix.ingredients}
    lines = [f"version {persona.version} · base {Path(persona.base.name).name}"]
    lines += [f"{use.id.removeprefix('avatar.')}  {weights.get(use.id, 0.0):.2f}" for use in persona.kits]
    for number, line in enumerate(lines[:_MOST_FACTS]):
        pen.text((_MARGIN, top + number * _LINE), _fit(line, width), fill=_INK, font=_font(15))
    for number, colour in enumerate(list(persona.palette.values())[:_MOST_SWATCHES]):
        right = _MARGIN + width - number * (_LINE + 6)
        pen.rectangle((right - _LINE, top + 2, right, top + 2 + _LINE), fill=colour, outline=_FAINT)


def _axis(
    pen: ImageDraw.ImageDraw, persona: Persona, name: str, *, start: tuple[int, int], down: bool = False
) -> None:
    """A line from the middle of the first cell to that of the last, its words, and where the persona stands.

    `start` is the corner of the grid that the axis runs along.
    """
    slider = persona.sliders[name]
    length = (len(STOPS) - 1) * (_CELL + _GAP)

    def place(share: float) -> tuple[int, int]:
        along = _CELL // 2 + round(share * length)
        return (start[0] - 14, start[1] + along) if down else (start[0] + along, start[1] + 8)

    pen.line((place(0.0), place(1.0)), fill=_FAINT, width=2)
    anchor = "rs" if down else "ma"
    for stop, word in zip(STOPS, _ends(slider), strict=True):
        x, y = place(stop)
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_FAINT)
        for number, part in enumerate((f"{name} {stop:g}", _fit(word, _LABEL if down else _CELL))):
            spot = (x - 12, y - 2 + number * 18) if down else (x, y + 12 + number * 18)
            pen.text(spot, part, fill=_INK if number else _FAINT, font=_font(14), anchor=anchor)
    x, y = place(slider.value)
    pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=_HERE)


def _ends(slider: Slider) -> tuple[str, str, str]:
    """What stands at 0, 0.5 and 1: the last words of the kits' ids."""
    low, high = (name.rpartition(".")[2].removeprefix("anime_") for name in (slider.low, slider.high))
    return low, "neither", high


def _paste(page: PillowImage.Image, path: Path, corner: tuple[int, int], side: int) -> None:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as opened:
        picture = opened.convert("RGB")
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    page.paste(picture, (corner[0] + (side - size[0]) // 2, corner[1] + (side - size[1]) // 2))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def _fit(text: str, width: int) -> str:
    """About as much of a line of 15 px letters as `width` pixels hold."""
    most = width // 8
    return text if len(text) <= most else text[: most - 1] + "…"
