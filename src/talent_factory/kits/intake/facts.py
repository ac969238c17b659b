"""Gather what a LoRA file says about itself and what stands beside it, and choose, with a reason for each."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from talent_factory.core.errors import UsageError
from talent_factory.core.records import Record
from talent_factory.core.workspace import check_id
from talent_factory.kits.intake.sidecars import Told, plain, words_of
from talent_factory.kits.strict import StrictJsonError, parse_text

_TOKEN = re.compile(r"[A-Za-z0-9_]{1,64}")
_WORDS = re.compile(r"[\w .'()-]{1,60}")
_KOHYA_FOLDER = re.compile(r"\d+_(.{1,200})")
# Words that describe what is in most pictures of anything, and so call nobody.
_COMMON = frozenset(
    [
        "1girl",
        "1boy",
        "solo",
        "a",
        "an",
        "the",
        "of",
        "photo",
        "picture",
        "image",
        "portrait",
        "drawing",
        "illustration",
        "person",
        "man",
        "woman",
        "girl",
        "boy",
        "male",
        "female",
        "people",
        "style",
        "character",
        "looking",
        "at",
        "viewer",
        "white",
        "background",
        "simple",
        "smile",
        "standing",
        "upper",
        "body",
        "full",
        "closed",
        "mouth",
        "open",
        "highres",
        "absurdres",
        "masterpiece",
        "best",
        "quality",
        "long",
        "short",
        "hair",
    ]
)
_STYLE_WORDS = frozenset(["style", "artstyle", "aesthetic", "medium", "painting"])
_PERSON_WORDS = frozenset(
    ["character", "person", "celebrity", "actor", "actress", "woman", "man", "girl", "boy"]
)
NO_LICENSE = "unknown: ask the maker before you share it"


class Reason(Record):
    """One thing that was inferred: the field of the kit, what it became, and why."""

    field: str
    value: str
    why: str


class Facts(Record):
    """What is known about a LoRA beside its tensors; empty where nobody said anything."""

    title: str = ""
    description: str = ""
    author: str = ""
    license: str = NO_LICENSE
    tags: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    token: str | None = None
    kind: Literal["identity", "style"] = "style"
    weight: float = 1.0
    negatives: str = ""
    prompts: tuple[str, ...] = ()
    real_person: bool = False
    minor: bool = False
    created_at: datetime | None = None
    images: int | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()


class Wishes(Record):
    """What the user said, which counts before everything that was read."""

    token: str | None = None
    kind: Literal["identity", "style"] | None = None


def gather(words: Mapping[str, str], told: Sequence[Told], *, stem: str, wishes: Wishes) -> Facts:
    """Choose among what header `words` and the cards beside the file tell; the first to speak counts."""
    every = [*told, *_header(words)]
    first: dict[str, Told] = {}
    for item in every:
        if item.value not in (None, "", (), [], False):
            first.setdefault(item.field, item)
    values = {name: item.value for name, item in first.items()}
    reasons = [Reason(field=name, value=_short(item.value), why=item.source) for name, item in first.items()]
    triggers = tuple(values.get("triggers") or ())
    token, why = _token(triggers, wishes.token)
    if token or triggers:
        reasons.append(Reason(field="token", value=token or "", why=why))
    kind, why = _kind(wishes.kind, token, stem, values)
    reasons.append(Reason(field="kind", value=kind, why=why))
    for name, value in (("license", NO_LICENSE), ("weight", "1")):
        if name not in values:
            reasons.append(Reason(field=name, value=value, why="nobody states one"))
    if wishes.token and wishes.token not in triggers:
        triggers = (wishes.token, *triggers)
    return Facts(
        **{name: values[name] for name in _PLAIN if name in values},
        triggers=triggers,
        token=token,
        kind=kind,
        training=_training(words),
        reasons=tuple(reasons),
    )


_PLAIN = (
    "title", "description", "author", "license", "tags", "weight", "negatives", "prompts", "real_person",
    "minor", "created_at", "images",
)  # fmt: skip


def kit_id(stem: str, kind: str, digest: str) -> str:
    """Return an id from a file's name: Latin letters, digits and _; from its hash if none is left."""
    latin = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "_", latin).strip("_")[:60].strip("_") or f"lora_{digest[:8]}"
    try:
        return check_id(f"avatar.{kind}.{name}")
    except UsageError:
        # the name of a device on Windows
        return check_id(f"avatar.{kind}.{name}_{digest[:8]}")


def _header(words: Mapping[str, str]) -> list[Told]:
    found = [
        Told("triggers", words_of(words.get("modelspec.trigger_phrase")), "modelspec.trigger_phrase"),
        *_tag_triggers(words),
        Told("title", plain(words.get("modelspec.title"), most=200), "modelspec.title"),
        Told("description", plain(words.get("modelspec.description")), "modelspec.description"),
        Told("author", plain(words.get("modelspec.author"), most=200), "modelspec.author"),
        Told("license", plain(words.get("modelspec.license"), most=500), "modelspec.license"),
        Told("tags", words_of(words.get("modelspec.tags")), "modelspec.tags"),
    ]
    for key in ("modelspec.date", "ss_training_finished_at"):
        found.append(Told("created_at", _moment(words.get(key, "")), key))
    found.append(Told("images", _whole(words.get("ss_num_train_images")), "ss_num_train_images"))
    return found


def _tag_triggers(words: Mapping[str, str]) -> list[Told]:
    """The trigger that captions tell: the folder's name in kohya's form, or what stands in every caption."""
    try:
        table = parse_text(words.get("ss_tag_frequency", "{}"))
    except StrictJsonError:
        return []
    if not isinstance(table, dict):
        return []
    for folder, tags in list(table.items())[:50]:
        if not isinstance(tags, dict):
            continue
        counts = {str(tag).strip(): count for tag, count in tags.items() if isinstance(count, int)}
        named = _KOHYA_FOLDER.fullmatch(str(folder))
        word = named[1].split()[0] if named and named[1].split() else ""
        if word and (not counts or any(tag.split()[:1] == [word] for tag in counts)) and _calls(word):
            return [Told("triggers", (plain(word, most=100),), "ss_tag_frequency: folder and captions")]
        most = max(counts.values(), default=0)
        for tag, count in counts.items():
            if count == most > 1 and _calls(tag):
                return [Told("triggers", (plain(tag, most=100),), "ss_tag_frequency: in every caption")]
    return []


def _calls(tag: str) -> bool:
    return bool(_WORDS.fullmatch(tag)) and not _COMMON.issuperset(tag.lower().replace("_", " ").split())


def _token(triggers: tuple[str, ...], wished: str | None) -> tuple[str | None, str]:
    if wished:
        return wished, "--token"
    for trigger in triggers:
        if _TOKEN.fullmatch(trigger):
            return trigger, "a trigger of one word"
        words = [word.strip(".,;:()") for word in trigger.split()]
        for word in words:
            if _TOKEN.fullmatch(word) and word.lower() not in _COMMON:
                return word, f"the first word of {trigger[:60]!r} that is its own"
    return None, "no trigger holds a word of letters, digits and _"


def _kind(
    wished: Literal["identity", "style"] | None, token: str | None, stem: str, values: Mapping[str, Any]
) -> tuple[Literal["identity", "style"], str]:
    if wished:
        return wished, "--id"
    said = " ".join((stem, str(values.get("title", "")), *values.get("tags", ()))).lower()
    words = set(re.split(r"[^a-z]+", said))
    if _STYLE_WORDS & words:
        return "style", "its name or tags speak of a style"
    if not token:
        return "style", "no trigger is known, and an identity needs one (--token)"
    if _PERSON_WORDS & words:
        return "identity", "its name or tags speak of a character"
    return "identity", "it has a trigger, and nothing speaks of a style (--id tells)"


def _training(words: Mapping[str, str]) -> dict[str, Any]:
    """The training values that a registry shows; whatever is no plain number is left out."""
    found: dict[str, Any] = {
        "max_train_steps": _whole(words.get("ss_steps")) or _whole(words.get("ss_max_train_steps")),
        "batch_size": _whole(words.get("ss_batch_size_per_device")),
    }
    try:
        rate = float(words.get("ss_unet_lr") or words.get("ss_learning_rate") or "")
        found["learning_rate"] = rate if 0 < rate < 1e6 else None
    except ValueError:
        pass
    sides = re.findall(r"\d{2,5}", words.get("ss_resolution", "")[:40])
    found["resolution"] = int(sides[0]) if sides else None
    return {name: value for name, value in found.items() if value is not None}


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[1-9]\d{0,8}", text) else None


def _moment(text: str) -> datetime | None:
    try:
        if re.fullmatch(r"\d{9,10}(\.\d{1,9})?", text):
            return datetime.fromtimestamp(float(text), UTC).replace(microsecond=0)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return " ".join(text.split())[:160]
