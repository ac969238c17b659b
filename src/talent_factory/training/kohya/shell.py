"""Command lines, scripts included, as words: read like a shell would, never run."""

from __future__ import annotations

import re
import shlex

from talent_factory.core.errors import ConfigError

_CONTINUED = re.compile(r"[ \t]*(?:\\|\^|`)[ \t]*\r?\n")
_ASSIGNED = re.compile(
    r"""^\s*(?:export\s+|set\s+|\$(?:env:)?)?["']?([A-Za-z_]\w*)\s*=\s*(.*?)["']?\s*$""", re.IGNORECASE
)
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$env:(\w+)|\$(\w+)|%(\w+)%")
_WINDOWS = re.compile(r"\^[ \t]*\r?\n|`[ \t]*\r?\n|(?<![\w])[A-Za-z]:\\|%\w+%|\.\\\w")
_SCRIPT = re.compile(r"(?:^|[\\/])?(\w+)\.py$")
_ONE_NUMBER = re.compile(r"[-+]?\.?\d")


def find_command(text: str, *, source: str) -> tuple[str, dict[str, object], dict[str, object]]:
    """The training command in `text`: its script without `.py`, its options, and accelerate's own options.

    An option's value is a text, a list of texts, or True for a bare flag. Variables that the script itself
    sets to plain text are filled in; anything that only a running shell could tell stays as it is written.
    Raises ConfigError when no command of sd-scripts is found, or its quotes do not match.
    """
    windows = _WINDOWS.search(text) is not None
    known: dict[str, str] = {}
    for line in _CONTINUED.sub(" ", text).splitlines():
        found = _ASSIGNED.match(line)
        if found and "--" not in line:
            known[found[1]] = _fill(_unquote(found[2]), known)
            continue
        for part in _commands(_fill(line, known), windows=windows, source=source):
            script = next((index for index, word in enumerate(part) if _SCRIPT.search(word)), None)
            if script is None and not any(word.startswith("--pretrained_model") for word in part):
                continue
            name = "" if script is None else _SCRIPT.search(part[script])[1]  # type: ignore[index]
            before, after = ([], part) if script is None else (part[:script], part[script + 1 :])
            return name, options_of(after), options_of(before)
    raise ConfigError(
        f"{source} holds no command line of sd-scripts",
        remedy="give a file with `train_network.py --...`, a .toml of sd-scripts or a .json of kohya_ss",
    )


def options_of(words: list[str]) -> dict[str, object]:
    """`--name value`, `--name=value`, `--name a b` and bare `--name`, by name with underscores."""
    found: dict[str, object] = {}
    name = ""
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            found[name] = value if equals else True
            continue
        if not name or (word.startswith("-") and not _ONE_NUMBER.match(word)):
            continue  # what stands before the first option, and one-letter options
        before = found[name]
        found[name] = word if before is True else [*(before if isinstance(before, list) else [before]), word]
    return found


def unresolved(value: object) -> bool:
    """Whether a text holds something that only a running shell could fill in."""
    return isinstance(value, str) and (_VARIABLE.search(value) is not None or "$(" in value)


def _commands(line: str, *, windows: bool, source: str) -> list[list[str]]:
    """The commands of one line as words; `#` begins a comment, `;`, `&&` and `|` end a command."""
    stripped = line.lstrip()
    if "--" not in line or stripped.startswith(("#", "::", "rem ", "REM ")):
        return []
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    lexer.commenters = ""  # an inner # belongs to names such as v1#2; whole-line comments are gone already
    if windows:
        lexer.escape = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise ConfigError(f"{source}: {error} in: {stripped[:60]}", remedy="close that quote") from None
    parts: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set(";&|"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _fill(text: str, known: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = next(group for group in match.groups() if group)
        return known.get(name, match[0])

    return _VARIABLE.sub(value, text)


def _unquote(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text.strip("\"'")
