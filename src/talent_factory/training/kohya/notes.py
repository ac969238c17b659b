"""What became of each thing that kohya was told: the honest half of an import."""

from __future__ import annotations

from typing import Any, Literal

from talent_factory.core.records import Record

Outcome = Literal["mapped", "needless", "differs", "unknown", "missing"]

_SECRETS = ("token", "api_key", "password")
_LONGEST = 120


class Note(Record):
    """One option and what became of it.

    mapped: it is a key of ours now; needless: it changes nothing here, with the reason; differs: ours will do
    something else, with the difference; unknown: not known here, hence not obeyed; missing: ours needs it.
    `key` and `value` are kohya's.
    """

    outcome: Outcome
    key: str
    value: str
    text: str


def note(outcome: Outcome, key: str, value: Any, text: str) -> Note:
    """A note whose value is shortened, and left out where it is a secret."""
    shown = "" if value is None else str(value)
    # `keep_tokens` is no secret, `huggingface_token` is one
    if shown and any(key == word or key.endswith(f"_{word}") for word in _SECRETS):
        shown = "(not copied)"
    shown = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 3] + "..."
    return Note(outcome=outcome, key=key, value=shown, text=text)
