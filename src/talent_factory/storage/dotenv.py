"""Read a `.env` file into a dict: never into the environment, never into a log."""

from __future__ import annotations

import re
from pathlib import Path

from talent_factory.core.errors import ConfigError

MAX_BYTES = 1 << 16
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_ESCAPES = {"\\n": "\n", "\\t": "\t", '\\"': '"', "\\\\": "\\", "\\$": "$"}


def read_dotenv(path: Path) -> dict[str, str]:
    """The `NAME=value` lines of `path`; {} when there is no such file.

    Known: comments, `export`, single quotes (as they are), double quotes (with \\n, \\t, \\", \\\\), and a
    comment after ` #`. Nothing is substituted or run. Raises ConfigError, naming the line but never its
    content, for a line that is none of these.
    """
    try:
        if not path.is_file():
            return {}
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} is too large for a .env file", remedy="keep only NAME=value lines")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})", remedy="check its rights") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", remedy="save it as UTF-8") from None
    values: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        value = _value(found[2]) if found else None
        if found is None or value is None:
            raise ConfigError(
                f"{path} line {number} is not of the form NAME=value", remedy="mend the line or remove it"
            )
        values[found[1]] = value
    return values


def _value(text: str) -> str | None:
    """The value behind the equals sign, or None when its quotes do not close."""
    for mark in ("'", '"'):
        if text.startswith(mark):
            found = re.fullmatch(rf"{mark}((?:[^{mark}\\]|\\.)*){mark}\s*(?:#.*)?", text)
            if found is None:
                return None
            return found[1] if mark == "'" else re.sub(r"\\.", _unescape, found[1])
    return re.split(r"\s#", text, maxsplit=1)[0].strip() if not text.startswith("#") else ""


def _unescape(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[0], found[0])
