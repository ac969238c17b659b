"""Plain words in, a program's prompt out: `Peter climbing a tree` with the kit's word and the kit itself.

A name in the text that means a kit becomes what its captions called the subject; what a kit of a style needs
is added at the end. Nothing is invented: every word comes from the text or from the kits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from talent_factory.core.errors import UsageError
from talent_factory.core.records import Record
from talent_factory.core.workspace import check_id
from talent_factory.kits.keys import base_of
from talent_factory.kits.manifest import PromptSet, TalentManifest
from talent_factory.kits.peft_form import PEFT_FILE
from talent_factory.kits.words import check_stem, class_noun, file_stem, talent_name, wake_phrase

Tool = Literal["a1111", "forge", "comfy", "invoke", "diffusers"]
MAX_TEXT = 2000
STRONG_SUM = 1.5
_SHORTEST_NAME = 3
# Parts of a kit's name that say nothing about whom it shows.
_COMMON = {"the", "and", "lora", "style", "person", "woman", "man", "girl", "boy", "character", "test", "new"}


class PromptKit(Record):
    """One kit of a prompt: its file's `name`, `weight`, the `phrase` that wakes it, words that mean it."""

    id: str
    name: str
    weight: float
    phrase: str = ""
    noun: str = ""
    called: tuple[tuple[str, ...], ...] = ()
    """Words that mean the kit, the surest first: its token and whole name, then parts of the name."""
    negative: str = ""
    base: str = ""

    @classmethod
    def of(
        cls,
        manifest: TalentManifest,
        prompts: PromptSet,
        *,
        weight: float | None = None,
        name: str | None = None,
    ) -> PromptKit:
        """Return what a kit's manifest and prompts say; its own weight and name unless others are given.

        Raises UsageError for a weight outside -2 to 2 or a name that no file can have.
        """
        strength = manifest.default_weight if weight is None else weight
        if not -2.0 <= strength <= 2.0:
            raise UsageError(f"{strength:g} is no weight from -2 to 2", remedy=f"write {manifest.id}:0.8")
        whole = talent_name(manifest)
        sure = (manifest.token or "", whole, whole.replace("_", " ").replace(".", " "))
        parts = [part for part in re.split(r"[._]", whole) if len(part) >= _SHORTEST_NAME]
        unsure = tuple(part for part in parts if part not in _COMMON and not part.isdigit())
        return cls(
            id=manifest.id,
            name=check_stem(name) if name else file_stem(manifest),
            weight=strength,
            phrase=wake_phrase(manifest),
            noun=class_noun(manifest),
            called=(tuple(dict.fromkeys(word for word in sure if word)), unsure),
            negative=", ".join((manifest.negatives or "", *prompts.negative_prompts)),
            base=base_of(manifest.base_model, manifest.sdx_version),
        )


class UsedKit(Record):
    """A kit as a program loads it: the file's name and the strength."""

    id: str
    name: str
    weight: float


class ToolPrompt(Record):
    """A prompt for one program; `setup` are the steps or the code beside it, "" where the prompt is all."""

    tool: Tool
    positive: str
    negative: str
    kits: tuple[UsedKit, ...]
    setup: str = ""
    remarks: tuple[str, ...] = ()


def read_weighted_id(text: str) -> tuple[str, float | None]:
    """Return id and weight of `ID` or `ID:WEIGHT`; raises UsageError for anything else."""
    talent_id, colon, number = text.partition(":")
    check_id(talent_id)
    if not colon:
        return talent_id, None
    try:
        return talent_id, float(number)
    except ValueError:
        raise UsageError(f"{number[:40]!r} is no weight", remedy=f"write {talent_id}:0.8") from None


def write_prompt(text: str, kits: Sequence[PromptKit], *, tool: str, negative: str = "") -> ToolPrompt:
    """Return `text` as the prompt of `tool` with these kits.

    Raises UsageError for an empty or overlong text, an unknown tool, a name that may mean two of the kits,
    two kits whose files would be called alike, and kits of different bases.
    """
    if tool not in _WRITERS:
        raise UsageError(f"no tool called {tool[:40]!r}", remedy=f"choose from {', '.join(TOOLS)}")
    words = " ".join(text.split())
    if not words or len(words) > MAX_TEXT:
        wrong = "there is nothing to draw" if not words else f"more than {MAX_TEXT} letters"
        raise UsageError(wrong, remedy='talent kit prompt ID "Peter climbing a tree"')
    _refuse_unlike(kits)
    said, remarks = _with_phrases(words, kits)
    total = sum(abs(kit.weight) for kit in kits)
    if len(kits) > 1 and total > STRONG_SUM:
        remarks.append(f"the weights sum to {total:g}; above {STRONG_SUM:g} pictures tend to break")
    unwanted = _tags((negative, *(kit.negative for kit in kits)))
    return _WRITERS[tool](said, unwanted, kits, tuple(remarks))


def _refuse_unlike(kits: Sequence[PromptKit]) -> None:
    for number, kit in enumerate(kits):
        for other in kits[:number]:
            if kit.id == other.id:
                raise UsageError(f"{kit.id} is there twice", remedy="name each kit once")
            if kit.name.casefold() == other.name.casefold():
                raise UsageError(
                    f"{other.id} and {kit.id} are both called {kit.name}",
                    remedy="export one as --name OTHER, and give both with --name here",
                )
            if kit.base != other.base:
                raise UsageError(
                    f"{other.id} is for {other.base}, {kit.id} is for {kit.base}: no program mixes them",
                    remedy="choose kits of one base",
                )


def _with_phrases(text: str, kits: Sequence[PromptKit]) -> tuple[str, list[str]]:
    """The text with each kit's phrase in the place of its name; unnamed identities lead, styles follow."""
    places: list[tuple[int, int, PromptKit]] = []
    first, last, remarks = [], [], []
    for kit in kits:
        if not kit.phrase:
            continue
        spans = _mentions(text, kit, [other for other in kits if other is not kit])
        if spans:
            places += [(start, end, kit) for start, end in spans]
        elif kit.id.startswith("avatar.identity."):
            first.append(kit.phrase)
            remarks.append(f"nothing in the text names {kit.id}: its words stand in front")
        else:
            last.append(kit.phrase)
    for start, end, kit in sorted(places, reverse=True, key=lambda place: place[0]):
        rest = text[end:]
        # the class may already stand behind the name: `peter man` is not to become `qb_peter man man`
        phrase = kit.phrase
        if kit.noun and re.match(rf"\s+{re.escape(kit.noun)}\b", rest, re.IGNORECASE):
            phrase = phrase.removesuffix(f" {kit.noun}")
        text = text[:start] + phrase + rest
    return ", ".join([*first, text, *last]), remarks


def _mentions(text: str, kit: PromptKit, others: Sequence[PromptKit]) -> list[tuple[int, int]]:
    """Where the text means the kit: its phrase or token or whole name, else a part of it."""
    for rank, words in enumerate(((kit.phrase,), *kit.called)):
        spans = _spans(text, words)
        if not spans:
            continue
        for other in others:
            for theirs in other.called[: max(rank, 1)]:
                taken = [span for span in spans if span in _spans(text, theirs)]
                if taken:
                    said = text[taken[0][0] : taken[0][1]]
                    raise UsageError(
                        f"{said!r} may mean {kit.id} or {other.id}",
                        remedy="write the token of the one you mean",
                    )
        return spans
    return []


def _spans(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Where one of the words stands by itself, the longest first, none inside another."""
    found: list[tuple[int, int]] = []
    for word in sorted(filter(None, words), key=len, reverse=True):
        for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE):
            if not any(start < match.end() and match.start() < end for start, end in found):
                found.append(match.span())
    return sorted(found)


def _tags(texts: Sequence[str]) -> str:
    tags = (" ".join(tag.split()) for text in texts for tag in text.split(","))
    return ", ".join(dict.fromkeys(tag for tag in tags if tag))


def _used(kits: Sequence[PromptKit]) -> tuple[UsedKit, ...]:
    return tuple(UsedKit(id=kit.id, name=kit.name, weight=kit.weight) for kit in kits)


def _escaped(text: str) -> str:
    """Marks that weigh words in web UIs and nodes, as plain letters."""
    return re.sub(r"([()\[\]{}])", r"\\\1", text.replace("\\", "\\\\").replace("<", " ").replace(">", " "))


def _webui(
    tool: Literal["a1111", "forge"],
) -> Callable[[str, str, Sequence[PromptKit], tuple[str, ...]], ToolPrompt]:
    def write(said: str, unwanted: str, kits: Sequence[PromptKit], remarks: tuple[str, ...]) -> ToolPrompt:
        loras = [f"<lora:{kit.name}:{kit.weight:g}>" for kit in kits]
        return ToolPrompt(
            tool=tool,
            positive=", ".join([*loras, _escaped(said)]),
            negative=_escaped(unwanted),
            kits=_used(kits),
            remarks=remarks,
        )

    return write


def _comfy(said: str, unwanted: str, kits: Sequence[PromptKit], remarks: tuple[str, ...]) -> ToolPrompt:
    steps = [
        f"Load LoRA {number}: {kit.name}.safetensors, strength_model {kit.weight:g},"
        f" strength_clip {kit.weight:g}"
        for number, kit in enumerate(kits, start=1)
    ]
    return ToolPrompt(
        tool="comfy",
        positive=_escaped(said),
        negative=_escaped(unwanted),
        kits=_used(kits),
        setup="\n".join(steps),
        remarks=remarks,
    )


def _invoke(said: str, unwanted: str, kits: Sequence[PromptKit], remarks: tuple[str, ...]) -> ToolPrompt:
    """InvokeAI weighs words by + and - behind them too, but only behind brackets and single words' ends."""
    plain = re.sub(r"(?<=\w)([+-]+)(?=\s|,|$)", r" \1", said)
    steps = [f"add the LoRA {kit.name} with weight {kit.weight:g}" for kit in kits]
    return ToolPrompt(
        tool="invoke",
        positive=_escaped(plain),
        negative=_escaped(unwanted),
        kits=_used(kits),
        setup="\n".join(steps),
        remarks=remarks,
    )


def _diffusers(said: str, unwanted: str, kits: Sequence[PromptKit], remarks: tuple[str, ...]) -> ToolPrompt:
    lines = [
        f"pipeline.load_lora_weights({kit.name!r}, weight_name={PEFT_FILE!r}, adapter_name={kit.name!r})"
        for kit in kits
    ]
    names, weights = [kit.name for kit in kits], [kit.weight for kit in kits]
    lines.append(f"pipeline.set_adapters({names!r}, {weights!r})")
    without = f", negative_prompt={unwanted!r}" if unwanted else ""
    lines.append(f"image = pipeline({said!r}{without}).images[0]")
    return ToolPrompt(
        tool="diffusers",
        positive=said,
        negative=unwanted,
        kits=_used(kits),
        setup="\n".join(lines),
        remarks=remarks,
    )


_WRITERS: Mapping[str, Callable[[str, str, Sequence[PromptKit], tuple[str, ...]], ToolPrompt]] = {
    "a1111": _webui("a1111"),
    "forge": _webui("forge"),
    "comfy": _comfy,
    "invoke": _invoke,
    "diffusers": _diffusers,
}
TOOLS = tuple(_WRITERS)
