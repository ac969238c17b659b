"""What a vision model is asked, and how its answers are read, however it wraps them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from talent_factory.core.errors import ProviderError
from talent_factory.providers.vision.port import StyleCard, TileVerdict, Verdict

CARD_ASK = (
    "Describe how this picture is made, so that someone could make pictures of other things as if by the"
    " same hand. Never mention what it shows: no people, objects, places or animals. Fill every"
    " field with a short phrase. `palette`: up to six colours as hex with plain names. `do`, `avoid`: short"
    " rules. `sentence`: at most 40 words that hold everything an image model must know about the look."
)
FOLLOWS_ASK = (
    "Does this picture show the following, in the medium it asks for? Answer with `state` pass, warn (partly)"
    " or fail, and a short `note`. Expected: "
)


def tiles_ask(subjects: Sequence[str]) -> str:
    """The question about a sheet of numbered tiles; the style picture comes first, then the sheet."""
    lines = "\n".join(f"{number}. {subject}" for number, subject in enumerate(subjects, start=1))
    return (
        "The first picture sets a style. The second is a sheet of numbered tiles that should each show one"
        " subject in that style. Judge every tile by itself: `number`; `ok` (fit to stand alone);"
        " `duplicate_of` (number of an earlier tile that shows the same, or 0); `has_text`; `cut_off` (the"
        " subject leaves the tile or a neighbour reaches in); `style_match` from 1 to 5; `reason` in a few"
        " words when not ok."
        f" Expected subjects:\n{lines}"
    )


def _object(properties: Mapping[str, object]) -> dict[str, object]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_WORDS = [
    "medium",
    "technique",
    "line",
    "contrast",
    "light",
    "texture",
    "shading",
    "edges",
    "composition",
    "era",
]
CARD_SCHEMA = _object(
    dict.fromkeys(_WORDS, _TEXT)
    | {
        "palette": {"type": "array", "items": _object({"hex": _TEXT, "name": _TEXT})},
        "do": _TEXTS,
        "avoid": _TEXTS,
        "sentence": _TEXT,
    }
)
_TILE = _object(
    {
        "number": {"type": "integer"},
        "ok": {"type": "boolean"},
        "duplicate_of": {"type": "integer"},
        "has_text": {"type": "boolean"},
        "cut_off": {"type": "boolean"},
        "style_match": {"type": "integer"},
        "reason": _TEXT,
    }
)
TILES_SCHEMA = _object({"tiles": {"type": "array", "items": _TILE}})
FOLLOWS_SCHEMA = _object({"state": {"type": "string", "enum": ["pass", "warn", "fail"]}, "note": _TEXT})


def extract(text: str) -> dict[str, Any]:
    """The first JSON object in an answer, also inside a code fence or after talk. Raises ProviderError."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        try:
            found, _ = decoder.raw_decode(text, match.start())
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    raise ProviderError("the vision model answered without the JSON that was asked for")


def read_card(data: Mapping[str, Any], *, source: str) -> StyleCard:
    """A card from an answer; overlong texts are cut, unknown fields dropped. Raises ProviderError."""
    fields: dict[str, Any] = {word: _short(data.get(word)) for word in _WORDS}
    fields["sentence"] = _short(data.get("sentence"), 600)
    for rules in ("do", "avoid"):
        given = data.get(rules)
        fields[rules] = [_short(item) for item in given[:12]] if isinstance(given, list) else []
    fields["palette"] = [swatch for item in _list(data.get("palette"))[:6] if (swatch := _swatch(item))]
    try:
        return StyleCard.model_validate({"source": source, **fields})
    except ValidationError:
        raise ProviderError("the vision model's style card lacks its sentence or its medium") from None


def read_tiles(data: Mapping[str, Any], count: int) -> list[TileVerdict]:
    """A verdict for each of `count` tiles. Raises ProviderError when the answer leaves one out."""
    found: dict[int, TileVerdict] = {}
    for item in _list(data.get("tiles")):
        if not isinstance(item, Mapping) or not isinstance(item.get("number"), int):
            continue
        number, again = int(item["number"]), item.get("duplicate_of")
        match = item.get("style_match")
        found[number] = TileVerdict(
            ok=item.get("ok") is True,
            reason=_short(item.get("reason")),
            duplicate_of=again - 1 if isinstance(again, int) and 0 < again < number else None,
            has_text=_flag(item.get("has_text")),
            cut_off=_flag(item.get("cut_off")),
            style_match=min(5, max(1, match)) if isinstance(match, int) else None,
        )
    missing = [number for number in range(1, count + 1) if number not in found]
    if missing:
        raise ProviderError(f"the vision model left out tile {missing[0]} of {count}")
    return [found[number] for number in range(1, count + 1)]


def read_follows(data: Mapping[str, Any]) -> Verdict:
    """The verdict of an answer. Raises ProviderError for any other state."""
    try:
        return Verdict(state=data["state"], note=_short(data.get("note")))
    except (KeyError, ValidationError):
        raise ProviderError("the vision model gave no verdict") from None


def _short(value: object, limit: int = 240) -> str:
    return " ".join(value.split())[:limit] if isinstance(value, str) else ""


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _swatch(item: object) -> dict[str, Any] | None:
    if not isinstance(item, Mapping):
        return None
    code = str(item.get("hex", "")).strip().lower()
    code = code if code.startswith("#") else f"#{code}"
    if not re.fullmatch(r"#[0-9a-f]{6}", code):
        return None
    return {"hex": code, "name": _short(item.get("name"), 40)}
