"""Write a training config as the YAML that a person would write: keys in order, groups indented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_.~/][A-Za-z0-9_./+-]*(?: [A-Za-z0-9_./+-]+)*")
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "~", ".inf", ".nan"}


def config_text(config: Mapping[str, Any], *, head: Sequence[str] = ()) -> str:
    """`config` as YAML, with the lines of `head` as comments on top.

    Values are texts, numbers, truth values, lists of them, and mappings one level deep; what is written is
    read back equal by `core.config.parse_yaml`.
    """
    lines = [f"# {' '.join(line.split())}".rstrip() for line in head]
    if lines:
        lines.append("")
    for key, value in config.items():
        lines.extend(_entry(key, value))
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield f"{key}:"
        for name, inner in value.items():
            yield f"  {name}: {_scalar(inner)}"
    else:
        yield f"{key}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _RESERVED
        return value if plain else _quoted(value)
    return json.dumps(value, allow_nan=False)


def _quoted(text: str) -> str:
    # what JSON leaves as it is, YAML may take for the end of a line
    marks = (
        letter if letter.isprintable() else f"\\U{ord(letter):08x}"
        for letter in json.dumps(text, ensure_ascii=False)
    )
    return "".join(marks)
