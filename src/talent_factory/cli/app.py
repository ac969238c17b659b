"""The shell of the `talent` command: global options, commands that load late, errors as one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import Abort, Exit, TyperException

from talent_factory.cli.common import Shell, one_line, print_json, set_shell, tolerant_output
from talent_factory.core.errors import TalentError


@dataclass(frozen=True)
class Entry:
    """One command of `talent`: where it lives and the line that `--help` shows without loading it."""

    name: str
    module: str
    attribute: str
    help: str


# An attribute that is a typer.Typer becomes a group; a function becomes a command.
COMMANDS = (
    Entry(
        "run", "talent_factory.cli.run", "run", "Portrait to rendered Talent Kit: the whole path, resumable."
    ),
    Entry(
        "new", "talent_factory.cli.new", "new", "Photos of a person to a trained likeness, checks included."
    ),
    Entry("cast", "talent_factory.cli.cast", "app", "Make training images of an actor or in a style."),
    Entry("dataset", "talent_factory.cli.dataset", "app", "Prepare, check and export images with captions."),
    Entry("train", "talent_factory.cli.train", "app", "Train a LoRA; resume it; see how far it is."),
    Entry("kit", "talent_factory.cli.kit", "app", "Take kits in, find, check, sign and export them."),
    Entry("render", "talent_factory.cli.render", "render", "Render scenes with a kit."),
    Entry("mix", "talent_factory.cli.mix", "app", "Mix kits: render, check, choose, export."),
    Entry(
        "lipsync", "talent_factory.cli.lipsync", "app", "Train and run a talking head on clips with audio."
    ),
    Entry("serve", "talent_factory.cli.serve", "serve", "Kits, mixes and renders over HTTP."),
    Entry("persona", "talent_factory.cli.persona", "app", "Save, change and draw personas."),
    Entry("base", "talent_factory.cli.base", "app", "Build, show and measure the embedded base model."),
    Entry("sample", "talent_factory.cli.sample", "app", "Write the sample portrait and sample data."),
    Entry(
        "selftest",
        "talent_factory.cli.selftest",
        "app",
        "Prove promises on this machine, such as exact resume.",
    ),
    Entry("doctor", "talent_factory.cli.doctor", "doctor", "Check this machine and say what to do about it."),
)


def load_command(entry: Entry) -> Any:
    """Import the module of one command and build it.

    Raises:
        ImportError, AttributeError: the table names something that is not there.
    """
    target = getattr(import_module(entry.module), entry.attribute)
    if isinstance(target, typer.Typer):
        command: Any = typer.main.get_group(target)
    else:
        single = typer.Typer(add_completion=False)
        single.command(entry.name)(target)
        command = typer.main.get_command(single)
    command.name = entry.name
    command.help = command.help or entry.help
    return command


class LazyGroup(TyperGroup):
    """Lists commands from the table and imports one only when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for entry in COMMANDS:
            self.add_command(TyperCommand(entry.name, help=entry.help), entry.name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Replace the placeholder of the called command by the real one."""
        for entry in COMMANDS:
            if args and args[0] == entry.name:
                self.commands[entry.name] = load_command(entry)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="talent",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="One portrait in, one digital actor out.",
    epilog="Start with: talent doctor, then talent run PORTRAIT --token NAME",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from talent_factory import __version__

        print(f"talent {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    progress: Annotated[
        str, typer.Option(help="auto, bar, lines, json (JSON lines on stderr) or none.")
    ] = "auto",
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if progress not in ("auto", "bar", "lines", "json", "none"):
        raise typer.BadParameter("choose auto, bar, lines, json or none", param_hint="--progress")
    set_shell(Shell(quiet=quiet, progress=progress))


def main(argv: Sequence[str] | None = None) -> None:
    """Run `talent` and leave: 0 ok, 1 failed, 2 usage, 3 partial or refused, 130 cancelled."""
    tolerant_output()
    raise SystemExit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run `talent` with these arguments and return its exit code."""
    arguments, debug = _take_debug(list(argv))
    try:
        result = typer.main.get_command(app).main(arguments, prog_name="talent", standalone_mode=False)
    except Exit as stop:
        return stop.exit_code
    except (Exception, KeyboardInterrupt) as error:
        return report_error(error, as_json="--json" in arguments, debug=debug)
    if result == 130:  # typer has already turned Ctrl-C into this exit code, without a word
        return report_error(KeyboardInterrupt(), as_json="--json" in arguments, debug=debug)
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def report_error(error: BaseException, *, as_json: bool = False, debug: bool = False) -> int:
    """Tell the user what failed, in one line and with the next step, and return the exit code."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error, file=sys.stderr)
        return 2
    if debug:
        import traceback

        traceback.print_exception(error)
    message, remedy, code = _explain(error)
    if as_json:
        kind = type(error).__name__
        print_json({"error": {"kind": kind, "message": message, "remedy": remedy, "exit_code": code}})
    print(f"error: {one_line(message)}", file=sys.stderr)
    if remedy:
        print(f"next: {one_line(remedy)}", file=sys.stderr)
    return code


def _explain(error: BaseException) -> tuple[str, str, int]:
    if isinstance(error, TalentError):
        return error.message, error.remedy, error.exit_code
    if isinstance(error, KeyboardInterrupt | Abort):
        return "cancelled", "run the same command again to go on", 130
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "talent"
        return (
            error.format_message() if hasattr(error, "format_message") else str(error),
            f"{command} --help",
            2,
        )
    if isinstance(error, OSError):
        from talent_factory.core.files import disk_full, is_no_room

        if is_no_room(error):
            full = disk_full(error.filename or "the workspace", error)
            return full.message, full.remedy, full.exit_code
        return _os_error(error), "check the path and its permissions; add --debug for a traceback", 1
    text = str(error) or "no message"
    return f"{type(error).__name__}: {text}", "add --debug for a traceback", 1


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take `--debug` from anywhere before a `--`: people append it to the command that just failed."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [word for word in arguments[:end] if word != "--debug"]
    return kept + arguments[end:], len(kept) < end


if __name__ == "__main__":
    main()
