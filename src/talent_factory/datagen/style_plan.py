"""Plan a style set: which sheets are asked for, in which words, and which of them are there already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from talent_factory.core.errors import ProviderError, UsageError
from talent_factory.core.files import sha256_bytes, sha256_file
from talent_factory.core.records import Record
from talent_factory.core.seeds import derive_seed
from talent_factory.datagen.order import Order
from talent_factory.datagen.stamp import measure, read_stamp
from talent_factory.datagen.style_cast import GRIDS, PICTURE_FILE, StyleSheet
from talent_factory.datagen.subjects import PER_GRID, Subject, deal, load_subjects
from talent_factory.providers.port import EditRequest, ImageEditor
from talent_factory.providers.vision.port import StyleCard

MAX_GRIDS = 10
_ROWS = ("Top row", "Middle row", "Bottom row")


class StyleOptions(Record):
    """What may be chosen for a style set.

    `long_side` is that of a grid, or of a single image in direct mode, in pixels; `max_sheets` bounds the
    grids that replace rejected tiles (in direct mode nine images count as one). `trigger` places the token in
    captions; smaller images are enlarged to `upscale_to` pixels. `time_scale` is for servers whose time runs
    faster than ours.
    """

    count: int = Field(default=20, ge=1, le=60)
    mode: Literal["grid", "direct"] = "grid"
    long_side: int = Field(default=1600, ge=512, le=4096)
    seed: int = Field(default=0, ge=0, lt=2**63)
    max_sheets: int = Field(default=MAX_GRIDS, ge=1, le=60)
    in_flight: int = Field(default=5, ge=1, le=64)
    budget_usd: float | None = Field(default=None, ge=0)
    trigger: Literal["start", "end"] = "start"
    upscale_to: int | None = Field(default=None, ge=256, le=4096)
    time_scale: float = Field(default=1.0, gt=0)


def plan_sheets(
    first: int, count: int, *, picture: str, card: StyleCard, options: StyleOptions, editor: ImageEditor
) -> tuple[StyleSheet, ...]:
    """`count` sheets from number `first` (1-based) on; `picture` is the digest of the style picture; pure."""
    size = PER_GRID if options.mode == "grid" else 1
    grids = deal(-(-(first - 1 + count) * size // PER_GRID), seed=options.seed)
    line = [subject for grid in grids for subject in grid]
    return tuple(
        _sheet(number, line[(number - 1) * size : number * size], picture, card, options, editor)
        for number in range(first, first + count)
    )


def _sheet(
    number: int,
    subjects: Sequence[Subject],
    picture: str,
    card: StyleCard,
    options: StyleOptions,
    editor: ImageEditor,
) -> StyleSheet:
    names = tuple(subject.name for subject in subjects)
    prompt = grid_prompt(subjects, card) if options.mode == "grid" else single_prompt(subjects[0], card)
    seed = derive_seed("style-sheet", options.seed, options.mode, number)
    can = editor.capabilities()
    # what reaches the provider; a painter that draws the subjects itself reads no prompt, but their names
    inputs = {
        "picture": picture,
        "subjects": names,
        "prompt": "" if draws_styles(editor) else prompt,
        "provider": editor.name,
        "model": can.model,
        "method": can.methods.get(medium_of(options), ""),
        "seed": seed,
        "long_side": options.long_side,
    }
    key = sha256_bytes(json.dumps(inputs, sort_keys=True).encode())
    return StyleSheet(number=number, key=key, seed=seed, subjects=names, prompt=prompt)


def draws_styles(editor: ImageEditor) -> bool:
    """Whether the editor paints subjects by their names instead of by a prompt."""
    return "style_grid" in editor.capabilities().media


def medium_of(options: StyleOptions) -> str:
    """The medium under which sheets are ordered."""
    return "style_grid" if options.mode == "grid" else "style_picture"


def check_editor(editor: ImageEditor) -> None:
    """Raise UsageError for a provider that can make no style sets."""
    can = editor.capabilities()
    if not draws_styles(editor) and not can.any_medium:
        raise UsageError(f"{editor.name} makes no style sets", remedy="choose another --provider")


def grid_prompt(subjects: Sequence[Subject], card: StyleCard) -> str:
    """The instruction for one grid: layout, nine subjects row by row, the style in words."""
    rows = [
        f"{row}: " + "; ".join(f"({3 * at + k + 1}) {subjects[3 * at + k].text}" for k in range(3))
        for at, row in enumerate(_ROWS)
    ]
    return (
        "Make a new square sheet of nine separate pictures in three rows of three, equal in size, with"
        f" straight plain white gutters between them. {'. '.join(rows)}."
        f" Each picture shows only its own subject, whole, and nothing crosses a gutter. {_style(card)}"
        " Do not repeat the subject of the given picture. No lettering, numbers, frames or signatures."
    )


def single_prompt(subject: Subject, card: StyleCard) -> str:
    """The instruction for one image in direct mode."""
    return (
        f"Make a new square picture of {subject.text}. {_style(card)}"
        " Do not repeat the subject of the given picture. No lettering, frame or signature."
    )


def _style(card: StyleCard) -> str:
    text = (
        f"Everything looks as if made by the hand that made the given picture: {card.sentence.rstrip('. ')}."
    )
    if card.do:
        text += f" Keep to: {'; '.join(card.do[:5])}."
    return text + (f" Avoid: {'; '.join(card.avoid[:5])}." if card.avoid else "")


def sheet_file(sheet: StyleSheet) -> str:
    """Where a sheet lies, relative to the style set; another request never overwrites what was paid for."""
    return f"{GRIDS}/{sheet.number:02d}_{sheet.key[:8]}.png"


def order_of(sheet: StyleSheet, out: Path, options: StyleOptions, editor: ImageEditor) -> Order:
    """What the window is asked for."""
    request = EditRequest(
        portrait=out / PICTURE_FILE,
        slot=f"sheet_{sheet.number}",
        medium=medium_of(options),
        prompt=sheet.prompt,
        aspect="1:1",
        seed=sheet.seed,
        long_side=options.long_side,
        options={"subjects": ",".join(sheet.subjects)} if draws_styles(editor) else {},
    )
    facts = {"sheet": sheet.number, "provider": editor.name, "subjects": ",".join(sheet.subjects)}
    return Order(key=sheet.key, request=request, path=out / sheet_file(sheet), facts=facts)


def found(sheet: StyleSheet, out: Path) -> StyleSheet:
    """`sheet` marked done when its image lies in `out`, whole and of the same inputs."""
    path = out / sheet_file(sheet)
    facts = read_stamp(path) if path.is_file() else {}
    if facts.get("key") != sheet.key:
        return sheet
    try:
        width, height = measure(path.read_bytes())
    except ProviderError:
        return sheet
    known = {name: facts[name] for name in ("seed", "job", "cost_usd") if name in facts}
    changes = {"state": "done", "file": sheet_file(sheet), "sha256": sha256_file(path)}
    return StyleSheet.model_validate(
        {**sheet.model_dump(), **known, **changes, "width": width, "height": height}
    )


def style_caption(subject: str, token: str, options: StyleOptions) -> str:
    """The caption of an image: the token and the content, never the medium or the look."""
    words = next(s.caption for c in load_subjects().category for s in c.subject if s.name == subject)
    return f"{token}, {words}" if options.trigger == "start" else f"{words}, {token}"
