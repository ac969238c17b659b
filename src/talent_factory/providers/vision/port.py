"""The door to all that looks at pictures: style cards, checks of tiles, whether an order was followed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from talent_factory.core.records import Record

U8 = npt.NDArray[np.uint8]
Line = Annotated[str, Field(max_length=240)]
Sentence = Annotated[str, Field(min_length=12, max_length=600)]


class Swatch(Record):
    """One colour of a palette: "#rrggbb", a plain name, and its share of the picture (0..1)."""

    hex: Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")]
    name: Annotated[str, Field(max_length=40)]
    share: float = Field(default=0.0, ge=0, le=1)


class StyleCard(Record):
    """What makes a picture look as it does, without its subject.

    `sentence` goes into prompts; it holds no subject nouns, or the subject would appear in every image.
    `source` names who looked ("openai gpt-x", "embedded style-card-1"); an empty field was not determined.
    """

    source: str
    medium: Line
    technique: Line = ""
    line: Line = ""
    palette: tuple[Swatch, ...] = Field(default=(), max_length=8)
    contrast: Line = ""
    light: Line = ""
    texture: Line = ""
    shading: Line = ""
    edges: Line = ""
    composition: Line = ""
    era: Line = ""
    do: tuple[Line, ...] = Field(default=(), max_length=12)
    avoid: tuple[Line, ...] = Field(default=(), max_length=12)
    sentence: Sentence


class TileVerdict(Record):
    """What is thought of one tile, in the order of the tiles. None means: not measured.

    `duplicate_of` is the index of an earlier tile that shows the same; `style_match` 1 (foreign) to 5.
    """

    ok: bool
    reason: str = ""
    duplicate_of: int | None = None
    has_text: bool | None = None
    cut_off: bool | None = None
    style_match: int | None = Field(default=None, ge=1, le=5)
    sharpness: float | None = None


class Verdict(Record):
    """Whether an image shows what was ordered; `not_measured` where nobody could tell."""

    state: Literal["pass", "warn", "fail", "not_measured"]
    note: str = ""


class Vision(Protocol):
    """Something that looks at pictures. Every method may raise ProviderError."""

    @property
    def name(self) -> str:
        """Who looks, for manifests: "embedded", "openai gpt-x"."""
        ...

    def style_card(self, image: Path) -> StyleCard:
        """Describe the style of the picture at `image`."""
        ...

    def check_tiles(self, tiles: Sequence[U8], *, subjects: Sequence[str], style: Path) -> list[TileVerdict]:
        """Judge the tiles (H, W, 3 RGB bytes) of one grid, which should show `subjects` in the style of the
        picture at `style`; one verdict a tile.
        """
        ...

    def follows(self, image: Path, expectation: str) -> Verdict:
        """Whether the picture at `image` shows what `expectation` says."""
        ...
