"""Pictures that introduce a character: hero portrait, full body, character sheet, expressions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from talent_factory.core.errors import UsageError
from talent_factory.core.records import Record
from talent_factory.foundry.discover import Kit
from talent_factory.foundry.sheets import character_sheet, contact_sheet
from talent_factory.kits.words import wake_phrase

if TYPE_CHECKING:
    from PIL import Image as PillowImage

    from talent_factory.foundry.render import Shot
    from talent_factory.training.resolve import FoundBase

HERO, FULL_BODY, SHEET, EXPRESSIONS = "hero", "full-body", "character-sheet", "expressions"
KINDS = (HERO, FULL_BODY, SHEET, EXPRESSIONS)


class Plate(Record):
    """One picture of an introduction; `prompt` may hold places for `{subject}` and `{style}`."""

    title: str
    prompt: str


# The embedded base knows the words of the drawn world and no others; its pictures begin with their medium,
# and of a whole figure it was never told the mood. Close-ups are left out: kits learnt from one portrait
# break them (docs/log.md).
_DRAWN_MOODS = ("neutral", "smiling", "surprised", "angry")
_DRAWN: dict[str, tuple[Plate, ...]] = {
    HERO: (Plate(title="Hero portrait", prompt="{style} portrait of a {subject}, smiling, city background"),),
    FULL_BODY: (Plate(title="Full body", prompt="{style} full body of a {subject}, white background"),),
    SHEET: (
        Plate(title="Portrait", prompt="{style} portrait of a {subject}, neutral, white background"),
        Plate(title="Full body", prompt="{style} full body of a {subject}, white background"),
        Plate(title="In the woods", prompt="{style} portrait of a {subject}, angry, forest background"),
        Plate(title="Smiling", prompt="{style} portrait of a {subject}, smiling, yellow background"),
        Plate(title="By night", prompt="{style} portrait of a {subject}, surprised, night background"),
    ),
    EXPRESSIONS: tuple(
        Plate(
            title=mood.capitalize(), prompt=f"{{style}} portrait of a {{subject}}, {mood}, white background"
        )
        for mood in _DRAWN_MOODS
    ),
}
_MOODS = (
    "neutral expression", "smiling", "laughing", "surprised", "sad", "angry", "afraid", "thoughtful", "sleepy"
)  # fmt: skip
_PLAIN = "plain white background, {style}"
_GENERAL: dict[str, tuple[Plate, ...]] = {
    HERO: (
        Plate(
            title="Hero portrait",
            prompt="portrait of {subject}, looking at viewer, soft light, detailed background, {style}",
        ),
    ),
    FULL_BODY: (
        Plate(title="Full body", prompt=f"full body of {{subject}}, standing, head to feet, {_PLAIN}"),
    ),
    SHEET: (
        Plate(title="Front", prompt=f"full body of {{subject}}, standing, front view, {_PLAIN}"),
        Plate(title="Side", prompt=f"full body of {{subject}}, standing, side view, profile, {_PLAIN}"),
        Plate(title="Back", prompt=f"full body of {{subject}}, standing, from behind, {_PLAIN}"),
        Plate(title="Three quarters", prompt=f"portrait of {{subject}}, three-quarter view, {_PLAIN}"),
        Plate(title="Close-up", prompt=f"close-up of the face of {{subject}}, neutral expression, {_PLAIN}"),
    ),
    EXPRESSIONS: tuple(
        Plate(
            title=mood.removesuffix(" expression").capitalize(),
            prompt=f"portrait of {{subject}}, {mood}, {_PLAIN}",
        )
        for mood in _MOODS
    ),
}
# Width and height that suit a standing figure, for bases of full size.
_TALL = {"sd15": (512, 768), "sdxl": (832, 1216)}


def templates(kind: str, *, drawn: bool) -> tuple[Plate, ...]:
    """The pictures of an introduction, `drawn` for the embedded base; raises UsageError for other kinds."""
    if kind not in KINDS:
        raise UsageError(f"there is no kind {kind!r}", remedy=f"use one of: {', '.join(KINDS)}")
    return (_DRAWN if drawn else _GENERAL)[kind]


def plates_of(kind: str, kits: Sequence[Kit], *, drawn: bool) -> tuple[Plate, ...]:
    """The pictures of an introduction in the words of these kits: the first identity and all styles.

    A hero portrait and a full body are the kit's own first prompt for one, when no style comes with its own
    word for the medium. Raises UsageError for a kind that there is not.
    """
    identity = next((kit for kit in kits if kit.manifest.is_identity), None)
    words = [wake_phrase(kit.manifest) for kit in kits if not kit.manifest.is_identity]
    style = " ".join(word for word in words if word)
    found = templates(kind, drawn=drawn)
    if identity is not None and not style and kind in (HERO, FULL_BODY):
        view = "portrait" if kind == HERO else "full body"
        own = next((text for text in identity.prompts.positive_prompts if view in text), None)
        if own is not None:
            return (Plate(title=found[0].title, prompt=own),)
    subject = (wake_phrase(identity.manifest) if identity else "") or "person"
    return tuple(
        Plate(title=plate.title, prompt=_filled(plate.prompt, subject, style or ("flat" if drawn else "")))
        for plate in found
    )


def _filled(template: str, subject: str, style: str) -> str:
    text = template.replace("{subject}", subject).replace("{style}", style)
    return text.strip().removesuffix(",")


def usual_size(kind: str, found: FoundBase) -> dict[str, object]:
    """The size that suits a kind, as an option: standing figures are tall where the base can draw that."""
    tall = kind in (FULL_BODY, SHEET) and found.large
    return {"size": _TALL[found.family]} if tall and found.family in _TALL else {}


def lay_out(
    kind: str, titles: Sequence[str], shots: Sequence[Shot], images: Sequence[Path]
) -> PillowImage.Image:
    """The sheet of a render: made for its kind, else a contact sheet in the order of the images."""
    labels = list(titles) or [f"{shot.seed}  {shot.prompt}" for shot in shots]
    pictures = list(zip(labels, images, strict=True))
    if kind == SHEET and len(pictures) == len(set(labels)):
        return character_sheet(pictures)
    columns = {len(_DRAWN_MOODS): 2, len(_MOODS): 3}.get(len(pictures), 4) if kind == EXPRESSIONS else 4
    return contact_sheet(pictures, columns=columns, cell=512 if len(pictures) == 1 else 256)
