"""What a user's folder brings: captions that lack the trigger, and images of the class in general."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from talent_factory.core.doctor import Finding
from talent_factory.core.errors import DatasetError
from talent_factory.dataset.captions import has_word, with_trigger
from talent_factory.dataset.layout import Source
from talent_factory.dataset.manifest import Kind


def caption_of(source: Source, *, kind: Kind, token: str, class_noun: str) -> str:
    """The caption to train on: an identity's own images always call the trigger, those of the class never."""
    text = source.caption or ""
    if kind == "identity" and not source.regular:
        text, _ = with_trigger(text, token=token, class_noun=class_noun)
    return text


def check_triggers(folder: Path, sources: Sequence[Source], *, kind: Kind, token: str) -> None:
    """Raise DatasetError where the trigger could never be learned, or is taught to all of its class.

    An identity is repaired (see `trigger_findings`); a style's captions are left as they are, so a style
    whose token stands in none of them would not answer to it.
    """
    own = [source for source in sources if not source.regular]
    if kind == "style" and token and not any(has_word(source.caption or "", token) for source in own):
        raise DatasetError(
            f"{folder}: none of the {len(own)} captions holds the trigger {token!r}",
            remedy=f"put {token} into each caption, or leave the token out of the config",
        )
    told = [
        source for source in sources if source.regular and token and has_word(source.caption or "", token)
    ]
    if told:
        raise DatasetError(
            f"{folder}: {told[0].name} is an image of the class in general, but its caption calls {token!r}",
            remedy=f"take {token} out of the captions in reg/",
        )


def trigger_findings(sources: Sequence[Source], *, token: str) -> list[Finding]:
    """A warning when no caption of an identity held the trigger, so that all of them got it; else empty."""
    own = [source for source in sources if not source.regular]
    if not token or any(has_word(source.caption or "", token) for source in own):
        return []
    return [
        Finding(
            severity="warn",
            subject="trigger",
            message=f"none of {len(own)} captions holds the trigger '{token}': it was put in front of each",
            remedy=f"check that {token} is the word you meant",
        )
    ]


def apart(sources: Sequence[Source]) -> list[Source]:
    """The subject's images, then those of the class, repeated so that an epoch shows as many of each.

    So sd-scripts does it: the class's images are taken in turn until there are as many; of a class with more
    images than the subject's are shown, the last are left out.
    """
    own = [source for source in sources if not source.regular]
    regular = [source for source in sources if source.regular]
    wanted = sum(source.repeats for source in own)
    if not regular:
        return own
    counts = [0] * len(regular)
    index = total = 0
    while total < wanted:
        # the first round shows each as often as its folder says, every later one once
        more = regular[index % len(regular)].repeats if index < len(regular) else 1
        counts[index % len(regular)] += more
        total += more
        index += 1
    kept = [replace(source, repeats=count) for source, count in zip(regular, counts, strict=True) if count]
    return [*own, *kept]
