"""Read captions the way an experienced trainer would, and say what will go wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from talent_factory.core.doctor import Finding
from talent_factory.dataset.captions import has_word
from talent_factory.dataset.lint_words import EXCUSED, MEDIA, PLAIN, TRAITS, named

MAX_WORDS = 50  # about the 75 tokens that a CLIP text model reads
MIN_WORDS = 3
FULL_WORDS = 8  # what a large base wants to be told; small ones know few words
_COMMON_SHARE = 0.8
_COMMON_FROM = 5  # images; in fewer a shared phrase says nothing
_LONGEST_PHRASE = 8  # words


def lint_captions(
    captions: Sequence[tuple[str, str]],
    *,
    kind: Literal["identity", "style"],
    token: str,
    class_noun: str = "",
    least_words: int = MIN_WORDS,
) -> tuple[Finding, ...]:
    """Findings about `captions`, pairs of (file, caption), errors first; empty when all is well.

    `least_words` is how many a caption should have: `FULL_WORDS` for large bases.
    """
    findings: list[Finding] = []
    for file, caption in captions:
        findings.extend(_one(file, caption, kind=kind, token=token, least=least_words))
    findings.extend(_repeated(captions))
    findings.extend(_everywhere(captions, kind=kind, token=token, class_noun=class_noun))
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))


def _one(file: str, caption: str, *, kind: str, token: str, least: int) -> list[Finding]:
    found = []
    if token and not has_word(caption, token):
        severity: Literal["warn", "error"] = "error" if kind == "identity" else "warn"
        found.append(
            Finding(
                severity=severity,
                subject=file,
                message=f"the caption lacks the trigger '{token}'",
                remedy=f"put '{token}' into it",
            )
        )
    words = len(caption.split())
    if words > MAX_WORDS:
        found.append(
            Finding(
                severity="warn",
                subject=file,
                message=f"{words} words: the text model cuts it near {MAX_WORDS}",
                remedy="keep what is seen, drop the rest",
            )
        )
    elif words < least:
        found.append(
            Finding(
                severity="warn",
                subject=file,
                message=f"only {words} words: everything seen grows into the token",
                remedy="name medium, background and light",
            )
        )
    found.extend(_misplaced(file, caption, kind=kind, token=token))
    return found


def _misplaced(file: str, caption: str, *, kind: str, token: str) -> list[Finding]:
    vocabulary, reason = (
        (TRAITS, "a permanent trait that is named does not grow into the token")
        if kind == "identity"
        else (MEDIA, "a medium that is named does not grow into the style")
    )
    # the token itself may hold such a word (blue_fur): only whole words beside it count
    words = named(caption.replace(token, " ") if token else caption, vocabulary)
    if not words:
        return []
    message = f"names {', '.join(words)}: {reason}"
    return [Finding(severity="warn", subject=file, message=message, remedy="leave it out")]


def _repeated(captions: Sequence[tuple[str, str]]) -> list[Finding]:
    files: dict[str, list[str]] = {}
    for file, caption in captions:
        files.setdefault(" ".join(caption.lower().split()), []).append(file)
    return [
        Finding(
            severity="warn",
            subject=", ".join(same[:4]) + (" ..." if len(same) > 4 else ""),
            message=f"{len(same)} images share one caption",
            remedy="say what differs between them",
        )
        for same in files.values()
        if len(same) > 1
    ]


def _everywhere(
    captions: Sequence[tuple[str, str]], *, kind: str, token: str, class_noun: str
) -> list[Finding]:
    """Phrases that stand in nearly every caption: what is said of all images teaches nothing, or a falsehood.

    A phrase has two telling words or stands alone between commas; in style captions any telling word counts,
    as a subject that is in all images grows into the style.
    """
    if len(captions) < _COMMON_FROM:
        return []
    counts: Counter[tuple[str, ...]] = Counter()
    for _, caption in captions:
        counts.update(_phrases(caption, token=token, class_noun=class_noun, single=kind == "style"))
    common = {phrase for phrase, count in counts.items() if count >= _COMMON_SHARE * len(captions)}
    whole = [
        phrase for phrase in common if not any(phrase != other and _holds(other, phrase) for other in common)
    ]
    return [
        Finding(
            severity="warn",
            subject=f"'{' '.join(phrase)}'",
            message=f"stands in {counts[phrase]} of {len(captions)} captions",
            remedy="a phrase that is everywhere teaches nothing; vary it or leave it out",
        )
        for phrase in sorted(whole)
    ]


def _phrases(caption: str, *, token: str, class_noun: str, single: bool) -> set[tuple[str, ...]]:
    """The runs of words in `caption` that mean something, without the trigger and what belongs to it."""
    found: set[tuple[str, ...]] = set()
    ours = {token.lower(), *class_noun.lower().split(), "portrait"} - {""}
    for part in re.split(r"[,.;:]", EXCUSED.sub(",", caption.lower())):
        words = part.split()
        for start in range(len(words)):
            for end in range(start + 1, min(len(words), start + _LONGEST_PHRASE) + 1):
                run = words[start:end]
                telling = [word for word in run if word not in PLAIN and word not in ours]
                plain_ends = run[0] in PLAIN or run[-1] in PLAIN
                if plain_ends or ours & set(run) or len(telling) < (1 if single else 2):
                    continue
                found.add(tuple(run))
        if len(words) == 1 and words[0] not in ours:
            found.add(tuple(words))
    return found


def _holds(longer: tuple[str, ...], shorter: tuple[str, ...]) -> bool:
    size = len(shorter)
    return any(longer[at : at + size] == shorter for at in range(len(longer) - size + 1))
