"""What all commands share: how results and progress are shown, and the options they have in common."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.console import Console

    from talent_factory.core.console import ConsoleReporter, ProgressMode
    from talent_factory.core.plan import Plan

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show steps, time, memory, disk and cost; do nothing.")
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        envvar="TALENT_WORKSPACE",
        show_default="the current folder",
        help="Folder that holds casts, datasets, runs, kits and reports.",
    ),
]


@dataclass(frozen=True)
class Shell:
    """The global options of one invocation of `talent`."""

    quiet: bool = False
    progress: str = "auto"


_SHELL: ContextVar[Shell | None] = ContextVar("talent_shell", default=None)


def set_shell(shell: Shell) -> None:
    """Remember the global options for the command that follows."""
    _SHELL.set(shell)


def shell() -> Shell:
    """The global options of this invocation."""
    return _SHELL.get() or Shell()


def console() -> Console:
    """A rich console on stdout for results."""
    from rich.console import Console

    return Console(highlight=False)


def reporter(*, quiet: bool | None = None) -> ConsoleReporter:
    """The progress reporter that the global options ask for; use it as a context manager."""
    from talent_factory.core.console import ConsoleReporter

    chosen = shell()
    return ConsoleReporter(
        mode=cast("ProgressMode", chosen.progress), quiet=chosen.quiet if quiet is None else quiet
    )


def emit(obj: Any, as_json: bool, human: Callable[[], None]) -> None:
    """Show a result: as one JSON document on stdout, or by calling `human`.

    `obj` may be a record, a mapping, a sequence of them, or anything JSON knows; paths become text.
    """
    if as_json:
        print_json(obj)
    else:
        human()


def print_json(obj: Any) -> None:
    """Print one JSON document on stdout."""
    # stdout may be a terminal of another encoding: escape what it cannot show
    ascii_only = (sys.stdout.encoding or "ascii").lower().replace("-", "") != "utf8"
    print(json.dumps(plain(obj), indent=2, ensure_ascii=ascii_only, allow_nan=False))


def printable(text: str) -> str:
    """`text` on one line, its control characters spelt out: what others wrote must not steer a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def counted(number: int, noun: str) -> str:
    """`1 kit`, `2 kits`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def one_line(text: str) -> str:
    """`text` as one line that a terminal shows as it is, for errors and what to do about them."""
    return printable(" ".join(text.split()))


def tolerant_output() -> None:
    """Let stdout spell out what its encoding lacks, as stderr does; inside JSON that is an escape too."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def plain(obj: Any) -> Any:
    """`obj` as JSON knows it: records, paths, tuples and mappings at any depth become plain."""
    if hasattr(obj, "model_dump"):
        return obj.model_dump(mode="json")
    if isinstance(obj, Mapping):
        return {str(key): plain(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple | set | frozenset):
        return [plain(value) for value in obj]
    if isinstance(obj, Path):
        return str(obj)
    return obj


def show_plan(plan: Plan, as_json: bool) -> None:
    """Show what a dry run found."""
    emit(plan.as_json(), as_json, lambda: console().print(plan.as_table()))


class DefaultCommandGroup(TyperGroup):
    """A group whose first command also runs without its name.

    `talent train CONFIG` is `talent train start CONFIG`.
    Use it as `typer.Typer(cls=DefaultCommandGroup)`; the command that is registered first is the default.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Put the default command's name in front when the first word is not a command."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [next(iter(self.commands)), *args]
        return super().resolve_command(ctx, args)


@contextmanager
def run_guarded() -> Iterator[None]:
    """Turn errors into one line on stderr and an exit code, for entry points other than `talent`."""
    from talent_factory.cli.app import report_error

    tolerant_output()
    try:
        yield
    except SystemExit:
        raise
    except BaseException as error:
        raise SystemExit(
            report_error(error, as_json="--json" in sys.argv, debug="--debug" in sys.argv)
        ) from None
