"""Captions from what is known about an image: trigger, medium, scene, light; never the permanent traits.

What a caption names stays changeable, what it leaves out grows into the token. Hence the face, hair, skin and
marks of an actor are never written, while medium, background, light, expression and clothes always are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from talent_factory.core.records import Record
from talent_factory.datagen.cast import CastManifest, CastSlot

Form = Literal["auto", "sentence", "trigger_first"]
Detail = Literal["auto", "short", "scene"]

# The one provider that keeps pose and place of the portrait, whatever scene its slots name.
_KEEPS_THE_SCENE = "embedded"
_LARGE = 512  # pixels; from here on bases read whole sentences

COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "gray",
)
_HUES = frozenset(COLOURS) - {"black", "white", "gray"}


class CaptionStyle(Record):
    """How captions are written.

    `sentence` is "ink portrait of a TOKEN woman, white background", the word order small bases were trained
    on; `trigger_first` is "TOKEN woman, ink portrait, white background", what the tools for large bases
    expect (kohya's keep_tokens). `auto` takes the first below 512 px and the second from there on. `scene`
    adds the action, place and light that a provider was asked for, `short` leaves them out; `auto` adds them
    from 512 px on where the provider paints new scenes, which the embedded painter does not.
    """

    form: Form = "auto"
    detail: Detail = "auto"

    def form_at(self, resolution: int) -> Literal["sentence", "trigger_first"]:
        """The form that is used at a training size of `resolution` pixels."""
        if self.form == "auto":
            return "sentence" if resolution < _LARGE else "trigger_first"
        return self.form

    def tells_scenes(self, cast: CastManifest, resolution: int) -> bool:
        """Whether captions name action, place and light as they were asked for."""
        if self.detail == "auto":
            return resolution >= _LARGE and cast.provider != _KEEPS_THE_SCENE
        return self.detail == "scene"


def cast_caption(
    cast: CastManifest, slot: CastSlot, *, place: str, style: CaptionStyle, resolution: int
) -> str:
    """The caption of one image of a cast. `place` is the background read from the picture, or empty.

    An augmentation keeps the medium of the portrait, whatever its slot asked for; colour words about the
    portrait are left out where the image has no colours.
    """
    words = slot.caption
    medium = cast.portrait.medium if slot.augmentation else words.medium
    told = [
        word
        for phrase in cast.portrait.words
        if (word := _as_seen(phrase, colour=slot.group != "monochrome"))
    ]
    scene = [words.place or place, words.light, words.mood, *told]
    if style.tells_scenes(cast, resolution) and not slot.augmentation:
        scene = [slot.action, slot.setting, slot.light, words.mood, *told]
    return compose(
        token=cast.token,
        class_noun=cast.class_noun,
        medium=medium,
        shot=words.shot,
        scene=scene,
        form=style.form_at(resolution),
    )


def portrait_caption(cast: CastManifest, *, place: str, style: CaptionStyle, resolution: int) -> str:
    """The caption of the portrait itself, when it is trained on too."""
    return compose(
        token=cast.token,
        class_noun=cast.class_noun,
        medium=cast.portrait.medium,
        shot="portrait",
        scene=[place, *cast.portrait.words],
        form=style.form_at(resolution),
    )


def compose(
    *,
    token: str,
    class_noun: str,
    medium: str,
    shot: str,
    scene: Sequence[str],
    form: Literal["sentence", "trigger_first"],
) -> str:
    """Put the words in order, in lower case, without empty or repeated phrases."""
    subject = f"{token} {class_noun}".strip()
    picture = f"{medium} {shot}".strip()
    opening = [f"{picture} of a {subject}"] if form == "sentence" else [subject, picture]
    phrases: list[str] = []
    for phrase in (*opening, *scene):
        clean = " ".join(phrase.lower().split()).strip(" ,.")
        if clean and clean not in phrases:
            phrases.append(clean)
    return ", ".join(phrases)


def with_trigger(caption: str, *, token: str, class_noun: str) -> tuple[str, bool]:
    """`caption` with the trigger in front when it lacks it, and whether it lacked it."""
    clean = " ".join(caption.split())
    if has_word(clean, token):
        return clean, False
    opening = f"{token} {class_noun}".strip()
    return f"{opening}, {clean}" if clean else opening, True


def has_word(text: str, word: str) -> bool:
    """Whether `word` stands in `text` as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(word.lower())}(?!\w)", text.lower()) is not None


def _as_seen(phrase: str, *, colour: bool) -> str:
    if colour:
        return phrase
    return " ".join(word for word in phrase.lower().split() if word not in _HUES)
