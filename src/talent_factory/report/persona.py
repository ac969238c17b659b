"""What the page of a persona shows: its pictures across the sliders, its kits, its words and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from talent_factory.core.records import Record
from talent_factory.foundry.persona import Slider
from talent_factory.foundry.persona_draw import OpenPersona
from talent_factory.foundry.persona_sheet import Grid
from talent_factory.report.content import MixCell, NamedText


class KitRow(Record):
    """A kit, its weight as the sliders stand and at most, and the first digits of its digest."""

    id: str
    weight: float
    most: float
    digest: str


class DialRow(Record):
    """A slider: what is at its ends, and where it stands from 0 to 1."""

    name: str
    low: str
    high: str
    value: float


class Swatch(Record):
    """A colour of the palette, as #RRGGBB."""

    name: str
    colour: str


class PersonaContent(Record):
    """One page. Every text may come from a user and is escaped when the page is written."""

    id: str
    version: str
    lead: str
    hero: Path
    kits: tuple[KitRow, ...]
    dials: tuple[DialRow, ...] = ()
    across: str = ""
    down: str = ""
    prompt: str = ""
    grid: tuple[tuple[MixCell, ...], ...] = ()
    pictures: tuple[MixCell, ...] = ()
    palette: tuple[Swatch, ...] = ()
    words: tuple[NamedText, ...] = ()
    prompts: tuple[str, ...] = ()
    facts: tuple[NamedText, ...] = ()
    command: str


def gather_persona(
    opened: OpenPersona, grid: Grid, *, hero: Path, cells: Sequence[Path], pictures: Mapping[str, Path]
) -> PersonaContent:
    """The content of a page: `cells` in the order of `grid`, `pictures` by their titles."""
    persona = opened.persona
    now = {use.kit.id: use.weight for use in opened.mix.ingredients}
    paths = iter(cells)
    rows = tuple(tuple(MixCell(label=_place(place), path=next(paths)) for place in row) for row in grid.rows)
    return PersonaContent(
        id=persona.id,
        version=persona.version,
        lead=_lead(opened),
        hero=hero,
        kits=tuple(
            KitRow(id=use.id, weight=now.get(use.id, 0.0), most=use.weight, digest=use.sha256[:12])
            for use in persona.kits
        ),
        dials=tuple(_dial(name, slider) for name, slider in sorted(persona.sliders.items())),
        across=grid.across,
        down=grid.down,
        prompt=persona.prompts[0] if persona.prompts else "",
        grid=rows if grid.across else (),
        pictures=tuple(MixCell(label=title, path=path) for title, path in pictures.items()),
        palette=tuple(Swatch(name=name, colour=colour) for name, colour in persona.palette.items()),
        words=_words(opened),
        prompts=persona.prompts,
        facts=_facts(opened),
        command=f"talent persona render {persona.id}",
    )


def _lead(opened: OpenPersona) -> str:
    who = opened.subject
    styles = [use for use in opened.mix.ingredients if not use.kit.manifest.is_identity]
    if not styles:
        return f"{who}, {opened.persona.finish or 'as the base draws'}."
    parts = ", ".join(f"{use.kit.id.rpartition('.')[2]} at {use.weight:.2g}" for use in styles)
    return f"{who}, with {parts}."


def _place(place: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in sorted(place.items()))


def _dial(name: str, slider: Slider) -> DialRow:
    low, high = (end.removeprefix("avatar.style.") for end in (slider.low, slider.high))
    return DialRow(name=name, low=low, high=high, value=slider.value)


def _words(opened: OpenPersona) -> tuple[NamedText, ...]:
    persona = opened.persona
    found = {
        "finish": persona.finish,
        "voice": _pairs(persona.voice),
        "tone": _pairs(persona.tone),
        "says": " · ".join(persona.phrasebook.say),
        "never says": " · ".join(persona.phrasebook.avoid),
        "boundaries": _pairs(persona.boundaries),
    }
    return tuple(NamedText(name=name, text=text) for name, text in found.items() if text)


def _facts(opened: OpenPersona) -> tuple[NamedText, ...]:
    persona, draw = opened.persona, opened.persona.draw
    mixing = "kits take turns" if persona.switch else "exact weighted sum"
    if persona.projection:
        mixing = f"projection {persona.projection:g}"
    found = {
        "base": f"{Path(persona.base.name).name} {persona.base.revision[:12]}",
        "mixing": mixing,
        "steps": str(draw.steps),
        "guidance": "the base's own" if draw.guidance is None else f"{draw.guidance:g}",
        "seed": str(draw.seed),
        "threads": str(draw.threads or ""),
        "kept out": persona.negatives,
    }
    return tuple(NamedText(name=name, text=text) for name, text in found.items() if text)


def _pairs(values: Mapping[str, str | float]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
