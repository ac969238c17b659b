"""What to do after a failure, and how long to wait: the rules of the window, without any clock or network."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from talent_factory.datagen.ledger import Attempt

# Rungs of the ladder for images that the safety filter refused.
PLAIN, NEW_SEED, SOFTENED = 0, 1, 2
_LADDER = (PLAIN, NEW_SEED, SOFTENED)
MAX_TRANSIENT = 2
MAX_ABSENT = 3
BREAKER = 5


class GaveUp(Exception):
    """This image is not to be had in this run; the text says why."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.message, self.code = message, code


def next_rung(history: Sequence[Attempt], *, run: int) -> int:
    """The rung on which to ask next for an image with these earlier attempts. Raises GaveUp.

    Flagged attempts count over all runs (the same words to the same filter), faults over this run only.
    """
    lost = [attempt for attempt in history if attempt.state == "lost"]
    if lost:
        raise GaveUp(f"paid perhaps and lost: {lost[-1].message}; --pay-again makes it anew", code="LOST")
    flagged = [attempt for attempt in history if attempt.state == "failed" and attempt.flagged]
    if len(flagged) >= len(_LADDER):
        last = flagged[-1]
        raise GaveUp(
            f"skipped: the provider's safety filter refused it {len(flagged)} times, with another seed and "
            f"softer words, too ({last.code or last.message})",
            code=last.code or "FLAGGED",
        )
    ours = [attempt for attempt in history if attempt.run == run]
    faults = [attempt for attempt in ours if attempt.state == "failed" and not attempt.flagged]
    if faults and (not faults[-1].transient or len(faults) > MAX_TRANSIENT):
        raise GaveUp(faults[-1].message or "the provider gave it up", code=faults[-1].code)
    absent = [attempt for attempt in ours if attempt.state == "absent"]
    if len(absent) >= MAX_ABSENT:
        raise GaveUp(f"{len(absent)} submissions got no answer and made no job", code="UNANSWERED")
    return _LADDER[len(flagged)]


# Words that filters stumble over, and what says nearly the same.
_GENTLER = {
    r"alley": "side street",
    r"dark": "dim",
    r"night": "evening",
    r"gritty": "textured",
    r"dramatic": "clear",
    r"moody": "quiet",
    r"intense": "attentive",
    r"noir": "monochrome",
    r"running": "walking briskly",
    r"action": "everyday",
    r"fight\w*": "posing",
    r"bare": "simple",
    r"wet": "shiny",
    r"close-up": "portrait",
}
_GENTLER_RE = re.compile(r"\b(" + "|".join(_GENTLER) + r")\b", re.IGNORECASE)


def soften(prompt: str) -> str:
    """The prompt in milder words, with a sentence that says how harmless it is meant."""

    def milder(match: re.Match[str]) -> str:
        word = match.group(0)
        new = next(value for pattern, value in _GENTLER.items() if re.fullmatch(pattern, word, re.IGNORECASE))
        return new[:1].upper() + new[1:] if word[:1].isupper() else new

    text = _GENTLER_RE.sub(milder, prompt).rstrip()
    return f"{text} A calm, friendly scene for a general audience, everyone fully clothed."


@dataclass(frozen=True)
class Pace:
    """All waits of the window in seconds, each to be multiplied by `scale` (1 in real life).

    A job is looked at after `first_poll_s`, then every `poll_s` +- `jitter`. An unanswered submission is
    looked for during `settle_s` before it counts as never made.
    """

    scale: float = 1.0
    first_poll_s: float = 4.0
    poll_s: float = 1.5
    jitter: float = 0.2
    settle_s: float = 120.0
    job_limit_s: float = 1800.0
    backoff_s: float = 1.0
    backoff_limit_s: float = 30.0
    _dice: random.Random = field(default_factory=random.SystemRandom, repr=False, compare=False)

    def real(self, seconds: float) -> float:
        """Seconds on this machine's clock."""
        return seconds * self.scale

    def next_poll(self) -> float:
        """Real seconds to the next look at a job."""
        return self.real(self.poll_s * self._dice.uniform(1 - self.jitter, 1 + self.jitter))

    def backoff(self, failures: int) -> float:
        """Real seconds to wait after the n-th failure in a row (n >= 1): doubling, with jitter."""
        wait = min(self.backoff_limit_s, self.backoff_s * 2.0 ** (failures - 1))
        return self.real(wait * self._dice.uniform(1 - self.jitter, 1 + self.jitter))
