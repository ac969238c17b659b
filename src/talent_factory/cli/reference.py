"""Writes the pages of docs/ that are made from the code, and checks that the written ones are still true."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from talent_factory.cli.app import COMMANDS, app, load_command
from talent_factory.cli.field_reference import config_page, findings_page, lipsync_config_page
from talent_factory.core.errors import TalentError, UsageError

_HEAD = """# The `talent` command

Written by `make docs` from the commands themselves; `make check` fails when it is out of date.
Global options stand before the command; `--debug` may also stand behind it.
Results go to stdout, progress and errors to stderr.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed, or a check found errors |
| 2 | wrong usage or config |
| 3 | partly done, or refused by a rule or a limit |
| 130 | cancelled |
"""


def reference() -> str:
    """The whole reference as Markdown; the same on every machine and terminal width."""
    sections = [_HEAD, *_sections("talent", typer.main.get_command(app), nested=False)]
    for entry in COMMANDS:
        sections.extend(_sections(f"talent {entry.name}", load_command(entry), nested=True))
    return "\n".join(sections)


def _sections(path: str, command: Any, *, nested: bool) -> Iterator[str]:
    yield _section(path, command)
    if nested:
        for name, child in getattr(command, "commands", {}).items():
            if not child.hidden:
                yield from _sections(f"{path} {name}", child, nested=True)


def _section(path: str, command: Any) -> str:
    parameters = [item for item in command.params if not getattr(item, "hidden", False)]
    arguments = [item for item in parameters if item.param_type_name == "argument"]
    options = [item for item in parameters if item.param_type_name == "option"]
    usage = [path, "[OPTIONS]" if options else "", *(_usage_name(item) for item in arguments)]
    if hasattr(command, "commands"):
        usage.append("COMMAND ...")
    lines = [
        f"## {path}",
        "",
        "    " + " ".join(word for word in usage if word),
        "",
        (command.help or "").strip(),
    ]
    rows = [(f"`{_usage_name(item)}`", _about(item)) for item in arguments]
    rows += [
        (", ".join(f"`{name}`" for name in (*item.opts, *item.secondary_opts)), _about(item))
        for item in options
    ]
    if rows:
        lines += ["", "| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in rows)]
    return "\n".join(lines) + "\n"


def _usage_name(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _about(parameter: Any) -> str:
    text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    parts = [text]
    default = parameter.default
    if isinstance(default, str | int | float | Path) and not isinstance(default, bool) and default != "":
        parts.append(f"Default: `{default}`.")
    if getattr(parameter, "envvar", None):
        parts.append(f"Environment: `{parameter.envvar}`.")
    if parameter.required and parameter.param_type_name == "option":
        parts.append("Required.")
    return " ".join(part for part in parts if part)


PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": reference,
    "config.md": config_page,
    "findings.md": findings_page,
    "lipsync-config.md": lipsync_config_page,
}


def main(arguments: list[str]) -> None:
    """`--write FOLDER` writes every page, `--check FOLDER` compares them.

    Raises:
        UsageError: other arguments.
        TalentError: a written page differs; all that differ are named.
    """
    if len(arguments) != 2 or arguments[0] not in ("--write", "--check"):
        raise UsageError("reference takes --write FOLDER or --check FOLDER", remedy="make docs")
    folder = Path(arguments[1])
    pages = {folder / name: make() for name, make in PAGES.items()}
    if arguments[0] == "--write":
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in pages.items():
            path.write_text(text, "utf-8")
        return
    old = [path for path, text in pages.items() if not path.is_file() or path.read_text("utf-8") != text]
    if old:
        names = ", ".join(map(str, old))
        raise TalentError(f"{names} no longer says what the code does", remedy="make docs")


if __name__ == "__main__":
    from talent_factory.cli.common import run_guarded

    with run_guarded():
        main(sys.argv[1:])
