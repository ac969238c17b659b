"""The sheet that a translation is written on: kohya's options still to be read, our keys, and the notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from talent_factory.core.errors import ConfigError
from talent_factory.training.kohya.notes import Note, Outcome, note
from talent_factory.training.kohya.shell import unresolved

_LARGEST = 2.0**63


class Sheet:
    """Options are taken from it one by one; what is left at the end was not understood."""

    def __init__(self, values: Mapping[str, Any], notes: Iterable[Note] = ()) -> None:
        """Begin with kohya's `values` by option name and the `notes` that reading them gave."""
        self._left = dict(values)
        self.config: dict[str, Any] = {}
        self.notes: list[Note] = list(notes)

    @property
    def left(self) -> dict[str, Any]:
        """What nobody took yet."""
        return dict(self._left)

    def has(self, name: str) -> bool:
        """Whether an option is set and not taken yet."""
        return name in self._left

    def take(self, name: str, default: Any = None) -> Any:
        """An option's value, which then counts as read; `default` when it is not set."""
        value = self._left.pop(name, default)
        if unresolved(value):
            self.say("differs", name, value, "a shell variable: its value is not known here")
            return default
        return value

    def flag(self, name: str) -> bool:
        """Whether a switch is on."""
        value = self.take(name, False)
        return value is True or str(value).strip().lower() in ("true", "1", "yes")

    def number(self, name: str) -> float | None:
        """An option as a number, None when it is not set. Raises ConfigError when it is none."""
        value = self.take(name)
        if value is None or value is True or str(value).strip().lower() in ("", "none"):
            return None
        if isinstance(value, list):
            return as_number(name, value[0]) if value else None
        return as_number(name, value)

    def words(self, name: str) -> list[str]:
        """An option that takes several words, as sd-scripts' `nargs` do."""
        value = self.take(name)
        if value is None or value is True:
            return []
        return [str(word) for word in value] if isinstance(value, list | tuple) else str(value).split()

    def put(self, key: str, value: Any, *, source: str, raw: Any, text: str = "") -> None:
        """Set our `key` (`group.key` for one in a group) and note which option it came from."""
        raw = whole(raw) if isinstance(raw, float) else raw
        self.quietly(key, value)
        self.say("mapped", source, raw, f"{key}: {shown(value)}" + (f" ({text})" if text else ""))

    def quietly(self, key: str, value: Any) -> None:
        """Set our `key` without a note, for what follows from kohya's own defaults."""
        group, dot, name = key.partition(".")
        if dot:
            self.config.setdefault(group, {})[name] = value
        else:
            self.config[key] = value

    def say(self, outcome: Outcome, key: str, value: Any, text: str) -> None:
        """Add a note."""
        self.notes.append(note(outcome, key, value, text))


def as_number(name: str, value: Any) -> float:
    """`value` as a finite number of sane size. Raises ConfigError when the option `name` holds none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not abs(number) <= _LARGEST:
        raise ConfigError(f"{name} is {str(value)[:60]!r}, no number", remedy=f"correct {name} there")
    return number


def shown(value: object) -> str:
    """A value as it stands in YAML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def whole(value: float) -> int | float:
    """A whole number as an int."""
    return int(value) if float(value).is_integer() else float(value)
