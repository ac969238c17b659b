"""Read what stands beside a LoRA file: cards and pictures of A1111, Lora-Manager and Civitai's tools.

The forms: `<stem>.json` (A1111, Forge, InvokeAI), `<stem>.civitai.info` (Civitai's own answer),
`<stem>.metadata.json` (Lora-Manager), `<stem>.txt` and `.description.txt`, `<stem>.png` and its like,
`adapter_config.json` (PEFT). Each is a stranger's: small, plain, and passed over when it is anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from talent_factory.kits.strict import StrictJsonError, parse_object, read_regular

MAX_CARD_BYTES = 2 << 20
MAX_PICTURE_BYTES = 32 << 20
_TAG = re.compile(r"<[^<>]{0,500}>")
_PICTURES = (
    ".png",
    ".preview.png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".preview.jpg",
    ".preview.jpeg",
    ".preview.webp",
)


class Told(NamedTuple):
    """One thing that somebody said about a LoRA, and where it was read."""

    field: str
    value: Any
    source: str


def beside(path: Path) -> tuple[list[Told], list[str]]:
    """Return what the cards beside `path` tell, the user's own words first, and what was unreadable."""
    told: list[Told] = []
    remarks: list[str] = []
    for name, read in (
        (f"{path.stem}.json", _a1111),
        (f"{path.stem}.metadata.json", _lora_manager),
        (f"{path.stem}.civitai.info", _civitai),
    ):
        card = _card(path.with_name(name), remarks)
        if card is not None:
            told.extend(Told(*item, name) for item in read(card) if item[1] not in (None, "", [], ()))
    for ending in (".description.txt", ".txt"):
        text = _text(path.with_name(path.stem + ending))
        if text:
            told.append(Told("description", text, path.stem + ending))
    return told, remarks


def picture_beside(path: Path) -> tuple[str, bytes] | None:
    """Return name and bytes of the first preview picture beside `path`."""
    for ending in _PICTURES:
        candidate = path.with_name(path.stem + ending)
        try:
            return candidate.name, read_regular(candidate, limit=MAX_PICTURE_BYTES)
        except OSError:
            continue
    return None


def adapter_config(path: Path) -> dict[str, Any] | None:
    """Return PEFT's adapter_config.json in the folder of `path`, None when there is none to read."""
    return _card(path.with_name("adapter_config.json"), [])


def plain(text: object, *, most: int = 4000) -> str:
    """Return `text` as plain words: no markup, no control characters, at most so many characters."""
    if not isinstance(text, str):
        return ""
    bare = _TAG.sub(" ", text[: 4 * most])
    kept = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in bare)
    lines = (" ".join(line.split()) for line in kept.splitlines())
    return "\n".join(line for line in lines if line)[:most].strip()


def words_of(value: object, *, most: int = 40) -> tuple[str, ...]:
    """Return a list of short lines from a list, or from text with commas."""
    items: Iterable[object] = (
        value.split(",") if isinstance(value, str) else value if isinstance(value, list) else ()
    )
    found = (plain(item, most=300).replace("\n", " ").strip(" ,") for item in items)
    return tuple(dict.fromkeys(item for item in found if item))[:most]


def _card(path: Path, remarks: list[str]) -> dict[str, Any] | None:
    try:
        return parse_object(read_regular(path, limit=MAX_CARD_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, StrictJsonError) as error:
        remarks.append(f"{path.name} is passed over: {str(error)[:120]}")
        return None


def _text(path: Path) -> str:
    try:
        return plain(read_regular(path, limit=MAX_CARD_BYTES).decode("utf-8", "replace"))
    except OSError:
        return ""


def _a1111(card: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "description", plain(card.get("description"))
    yield "triggers", words_of(card.get("activation text"))
    # an untouched slider is written as 0 and says nothing
    yield "weight", _weight(card.get("preferred weight")) or None
    yield "negatives", plain(card.get("negative text"), most=2000)


def _lora_manager(card: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "title", plain(card.get("model_name"), most=200)
    yield "description", plain(card.get("modelDescription") or card.get("notes"))
    yield "tags", words_of(card.get("tags"))
    tips = card.get("usage_tips")
    if isinstance(tips, str) and tips:
        with suppress(StrictJsonError):
            yield "weight", _weight(parse_object(tips.encode("utf-8", "replace")).get("strength")) or None
    civitai = card.get("civitai")
    if isinstance(civitai, Mapping):
        yield from _civitai(civitai)


def _civitai(card: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    model = card.get("model")
    model = model if isinstance(model, Mapping) else {}
    yield "triggers", words_of(card.get("trainedWords"))
    yield "title", plain(model.get("name"), most=200)
    yield "description", plain(card.get("description")) or plain(model.get("description"))
    yield "tags", words_of(model.get("tags"))
    creator = card.get("creator") or model.get("creator")
    if isinstance(creator, Mapping):
        yield "author", plain(creator.get("username"), most=200)
    yield "license", _civitai_license(card, model)
    if model.get("poi") is True or card.get("poi") is True:
        yield "real_person", True
    if model.get("minor") is True or card.get("minor") is True:
        yield "minor", True
    images = card.get("images")
    yield "prompts", _prompts(images if isinstance(images, list) else [])


def _civitai_license(card: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """Say Civitai's permissions in words; "" when none are stated."""
    found = []
    for key, yes, no in (
        ("allowNoCredit", "credit not needed", "credit the maker"),
        ("allowDerivatives", "mixes may be shared", "mixes may not be shared"),
        ("allowDifferentLicense", "mixes may have another licence", "mixes keep this licence"),
    ):
        value = model.get(key, card.get(key))
        if isinstance(value, bool):
            found.append(yes if value else no)
    use = model.get("allowCommercialUse", card.get("allowCommercialUse"))
    if isinstance(use, str | list):
        named = words_of(use if isinstance(use, list) else use.strip("{}"))
        found.append(f"commercial use: {', '.join(named) or 'none'}".lower())
    return f"Civitai: {'; '.join(found)}" if found else ""


def _prompts(images: list[Any]) -> tuple[str, ...]:
    metas = (image.get("meta") for image in images[:40] if isinstance(image, Mapping))
    texts = (plain(meta.get("prompt"), most=1500) for meta in metas if isinstance(meta, Mapping))
    return tuple(dict.fromkeys(" ".join(text.split()) for text in texts if text))[:8]


def _weight(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
        return None
    return float(value)
