"""A `Vision` around anything that answers a question about pictures with text, with one honest fallback."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np

from talent_factory.core.errors import ProviderError, ProviderRefused
from talent_factory.providers.vision.answers import (
    CARD_ASK,
    CARD_SCHEMA,
    FOLLOWS_ASK,
    FOLLOWS_SCHEMA,
    TILES_SCHEMA,
    extract,
    read_card,
    read_follows,
    read_tiles,
    tiles_ask,
)
from talent_factory.providers.vision.embedded import EmbeddedVision
from talent_factory.providers.vision.measures import read_rgb
from talent_factory.providers.vision.port import U8, StyleCard, TileVerdict, Verdict

_LONG_SIDE = 1024
_T = TypeVar("_T")


class Answerer(Protocol):
    """A model that is shown pictures (H, W, 3 RGB bytes) and asked one question."""

    @property
    def name(self) -> str:
        """Who answers, for records."""
        ...

    def ask(self, question: str, pictures: Sequence[U8], schema: Mapping[str, object]) -> str:
        """The answer's text, which should hold JSON of `schema`. Raises ProviderError."""
        ...


class ModelVision:
    """Asks the model; where its answer cannot be used, the embedded analyser's result is given under the
    embedded analyser's name, with the reason told to `notice`. A refused key or request is never covered up.
    """

    def __init__(self, model: Answerer, *, notice: Callable[[str], None] | None = None) -> None:
        self._model = model
        self._notice = notice or (lambda _: None)
        self._offline = EmbeddedVision()

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    def style_card(self, image: Path) -> StyleCard:
        """The model's card, or a measured one whose `source` says so."""

        def ask() -> StyleCard:
            data = self._ask(CARD_ASK, [read_rgb(str(image))], CARD_SCHEMA)
            return read_card(data, source=self.name)

        return self._or(ask, lambda: self._offline.style_card(image))

    def check_tiles(self, tiles: Sequence[U8], *, subjects: Sequence[str], style: Path) -> list[TileVerdict]:
        """Both look: a tile must pass the measures and the model, where the model could be asked."""
        measured = self._offline.check_tiles(tiles, subjects=subjects, style=style)

        def ask() -> list[TileVerdict]:
            pictures = [read_rgb(str(style)), numbered_sheet(tiles)]
            data = self._ask(tiles_ask(subjects), pictures, TILES_SCHEMA)
            seen = read_tiles(data, len(tiles))
            return [_both(mine, theirs) for mine, theirs in zip(measured, seen, strict=True)]

        return self._or(ask, lambda: measured)

    def follows(self, image: Path, expectation: str) -> Verdict:
        """The model's verdict, or not measured."""

        def ask() -> Verdict:
            return read_follows(self._ask(FOLLOWS_ASK + expectation, [read_rgb(str(image))], FOLLOWS_SCHEMA))

        return self._or(ask, lambda: self._offline.follows(image, expectation))

    def _ask(self, question: str, pictures: Sequence[U8], schema: Mapping[str, object]) -> dict[str, Any]:
        return extract(self._model.ask(question, [_fit(picture) for picture in pictures], schema))

    def _or(self, ask: Callable[[], _T], otherwise: Callable[[], _T]) -> _T:
        try:
            return ask()
        except ProviderRefused:
            raise
        except ProviderError as error:
            self._notice(f"{self.name}: {error.message}; measured by the embedded analyser instead")
            return otherwise()


def numbered_sheet(tiles: Sequence[U8], *, side: int = 320) -> U8:
    """The tiles three in a row, each under a white bar with its number (from 1)."""
    bar, columns = 30, min(3, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet: U8 = np.full((rows * (side + bar), columns * (side + 8) - 8, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (side + bar), index % columns * (side + 8)
        place = (left + 6, top + bar - 8)
        cv2.putText(sheet, str(index + 1), place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2, cv2.LINE_AA)
        small = cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA)
        sheet[top + bar : top + bar + side, left : left + side] = small
    return sheet


def data_url(picture: U8) -> str:
    """The picture as a JPEG in a data URL."""
    ok, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not ok:
        raise ProviderError("a picture could not be encoded as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _fit(picture: U8) -> U8:
    factor = _LONG_SIDE / max(picture.shape[:2])
    if factor >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _both(measured: TileVerdict, seen: TileVerdict) -> TileVerdict:
    if measured.ok:
        return seen.model_copy(update={"sharpness": measured.sharpness})
    return seen.model_copy(
        update={
            "ok": False,
            "reason": measured.reason,
            "duplicate_of": measured.duplicate_of,
            "sharpness": measured.sharpness,
        }
    )
