"""Read captions the way an experienced trainer would, and say what will go wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from talent_factory.core.doctor import Finding
from talent_factory.dataset.captions import has_word

MAX_WORDS = 50  # about the 75 tokens that a CLIP text model reads
MIN_WORDS = 3
_COMMON_SHARE = 0.8
_COMMON_FROM = 5  # images; in fewer a shared phrase says nothing

_TRAITS = (
    "hair",
    "haired",
    "eyes",
    "eyed",
    "skin",
    "skinned",
    "freckles",
    "freckled",
    "scar",
    "scarred",
    "beard",
    "bearded",
    "mustache",
    "moustache",
    "mole",
    "birthmark",
    "tattoo",
    "nose",
    "lips",
    "jaw",
    "cheekbones",
    "eyebrows",
    "bald",
    "blonde",
    "brunette",
    "fangs",
    "horns",
    "fur",
    "scales",
    "tail",
)
_MEDIA = (
    "watercolor",
    "watercolour",
    "gouache",
    "ink",
    "pencil",
    "graphite",
    "charcoal",
    "woodcut",
    "vector",
    "manga",
    "anime",
    "comic",
    "oil painting",
    "sketch",
    "illustration",
    "painting",
    "drawing",
    "photo",
    "photograph",
    "screentone",
    "monochrome",
    "style",
)


def lint_captions(
    captions: Sequence[tuple[str, str]],
    *,
    kind: Literal["identity", "style"],
    token: str,
    class_noun: str = "",
) -> tuple[Finding, ...]:
    """Findings about `captions`, pairs of (file, caption), errors first; empty when all is well."""
    findings: list[Finding] = []
    for file, caption in captions:
        findings.extend(_one(file, caption, kind=kind, token=token))
    findings.extend(_repeated(captions))
    findings.extend(_everywhere(captions, token=token, class_noun=class_noun))
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))


def _one(file: str, caption: str, *, kind: str, token: str) -> list[Finding]:
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
    elif words < MIN_WORDS:
        found.append(
            Finding(
                severity="warn",
                subject=file,
                message=f"only {words} words: everything seen grows into the token",
                remedy="name medium, background and light",
            )
        )
    vocabulary, reason = (
        (_TRAITS, "a permanent trait that is named does not grow into the token")
        if kind == "identity"
        else (_MEDIA, "a medium that is named does not grow into the style")
    )
    # the token itself may hold such a word (blue_fur): only whole words beside it count
    named = [word for word in vocabulary if has_word(caption.replace(token, " ") if token else caption, word)]
    if named:
        found.append(
            Finding(
                severity="warn",
                subject=file,
                message=f"names {', '.join(named)}: {reason}",
                remedy="leave it out",
            )
        )
    return found


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


def _everywhere(captions: Sequence[tuple[str, str]], *, token: str, class_noun: str) -> list[Finding]:
    if len(captions) < _COMMON_FROM:
        return []
    counts: Counter[str] = Counter()
    for _, caption in captions:
        counts.update({phrase.strip().lower() for phrase in caption.split(",")})
    found = []
    for phrase, count in counts.items():
        ours = not phrase or phrase == f"{token} {class_noun}".strip() or phrase == token
        if not ours and count >= _COMMON_SHARE * len(captions):
            found.append(
                Finding(
                    severity="warn",
                    subject=f"'{phrase}'",
                    message=f"stands in {count} of {len(captions)} captions",
                    remedy="a phrase that is everywhere teaches nothing; vary it or leave it out",
                )
            )
    return found
