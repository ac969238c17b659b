"""The shell of `talent`: late loading, one line per error, exit codes, JSON everywhere."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

import talent_factory
from talent_factory.cli import app as shell
from talent_factory.cli import common, reference
from talent_factory.core.errors import ConfigError, DiskFull, ResumeRefused, TalentError

HEAVY = ("torch", "numpy", "cv2", "PIL", "diffusers", "transformers", "pydantic_core")


def _raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `talent doctor` fail with this error."""

    def fail(as_json: common.JsonOption = False) -> None:
        raise error

    single = typer.Typer(add_completion=False)
    single.command("doctor")(fail)
    monkeypatch.setattr(shell, "load_command", lambda entry: typer.main.get_command(single))


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from talent_factory.cli.app import run\n"
        "assert run(['--help']) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for entry in shell.COMMANDS:
        assert f" {entry.name} " in done.stdout


def test_no_library_remarks_on_kernels_that_nothing_uses() -> None:
    """Diffusers imports bitsandbytes where it is installed, which warns of what it lacks; not so here."""
    code = (
        "import logging, talent_factory\n"
        "logging.getLogger('bitsandbytes.backends.cpu.ops').warning('a kernel is missing')\n"
        "logging.getLogger('bitsandbytes.optim').error('a true error')\n"
        "logging.getLogger('diffusers').warning('a warning of another')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["a true error", "a warning of another"]


@pytest.mark.parametrize("entry", shell.COMMANDS, ids=lambda entry: entry.name)
def test_every_command_exists_has_help_and_speaks_json(
    entry: shell.Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    command = shell.load_command(entry)
    assert command.help
    assert shell.run([entry.name, "--help"]) == 0
    assert entry.name in capsys.readouterr().out
    leaves = [child for child in getattr(command, "commands", {"": command}).values() if not child.hidden]
    for leaf in leaves:
        assert leaf.help, leaf.name
        assert any("--json" in item.opts for item in leaf.params), f"{entry.name} {leaf.name} has no --json"


def test_loading_every_command_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from talent_factory.cli.app import COMMANDS, load_command\n"
        "for entry in COMMANDS:\n"
        "    load_command(entry)\n"
        f"print([name for name in {HEAVY[:-1]!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(["--version"]) == 0
    assert capsys.readouterr().out == f"talent {talent_factory.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dotcor"], "Did you mean 'doctor'?"),
        (["doctor", "--depe"], "--depe"),
        (["--progress", "loud", "doctor"], "--progress"),
    ],
)
def test_wrong_usage_is_one_line_and_code_two(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert lines[1].startswith("next: talent")


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run([]) == 2
    assert "doctor" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (TalentError("kit x is broken", remedy="talent kit validate x"), 1, "next: talent kit validate x"),
        (ConfigError("bad\nconfig"), 2, "error: bad config"),
        (ResumeRefused("changed"), 3, "error: changed"),
        (KeyboardInterrupt(), 130, "error: cancelled"),
        (OSError(28, "No space left on device", "/disk/x"), 1, "error: no room to write /disk/x"),
        (PermissionError(13, "Permission denied", "/disk/x"), 1, "error: /disk/x: Permission denied"),
        (ZeroDivisionError("division by zero"), 1, "error: ZeroDivisionError: division by zero"),
        (DiskFull("full"), 1, "error: full"),
    ],
)
def test_errors_are_one_line_and_a_code(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _raises(monkeypatch, error)
    assert shell.run(["doctor"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 2
    assert shell.run(["doctor", "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["exit_code"] == code
    assert document["error"]["message"]


def test_unknown_errors_point_to_debug_and_debug_works_anywhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raises(monkeypatch, RuntimeError("what"))
    assert shell.run(["doctor"]) == 1
    assert "--debug" in capsys.readouterr().err
    for arguments in (["--debug", "doctor"], ["doctor", "--debug"]):
        assert shell.run(arguments) == 1
        assert "Traceback" in capsys.readouterr().err


def test_doctor_speaks_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = shell.run(["doctor", "--json", "--workspace", str(tmp_path)])
    document = json.loads(capsys.readouterr().out)
    assert code == (1 if document["verdict"] == "error" else 0)
    assert {"python", "torch", "workspace"} <= {finding["subject"] for finding in document["findings"]}


def test_doctor_fails_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from talent_factory.core import doctor

    finding = doctor.Finding(severity="error", subject="disk", message="full", remedy="free some")
    monkeypatch.setattr(doctor, "run_checks", lambda workspace, deep: [finding])
    assert shell.run(["doctor", "-w", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "full" in out
    assert "free some" in out


def test_default_command_runs_without_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    group = typer.Typer(cls=common.DefaultCommandGroup)

    @group.command()
    def start(config: str) -> None:
        """Start."""
        print("start", config)

    @group.command()
    def resume(run: str) -> None:
        """Resume."""
        print("resume", run)

    command = typer.main.get_command(group)
    for arguments in (["c.yaml"], ["start", "c.yaml"], ["resume", "r"]):
        command.main(arguments, standalone_mode=False)
    assert capsys.readouterr().out == "start c.yaml\nstart c.yaml\nresume r\n"


def test_guarded_entry_points_report_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["module"])
    with pytest.raises(SystemExit) as caught, common.run_guarded():
        raise ConfigError("bad", remedy="edit")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: bad\nnext: edit\n"


def test_plain_reaches_every_depth() -> None:
    from talent_factory.core.plan import PlanStep

    value = common.plain({"path": Path("a"), "steps": (PlanStep(name="x"), {"deep": [Path("b")]})})
    assert value["path"] == "a"
    assert value["steps"][0]["name"] == "x"
    assert value["steps"][1] == {"deep": ["b"]}


def test_reference_is_up_to_date(repository: Path) -> None:
    reference.main(["--check", str(repository / "docs")])


def test_stale_reference_is_found(tmp_path: Path) -> None:
    reference.main(["--write", str(tmp_path)])
    reference.main(["--check", str(tmp_path)])
    (tmp_path / "cli.md").write_text("old", "utf-8")
    with pytest.raises(TalentError, match=r"cli\.md no longer says"):
        reference.main(["--check", str(tmp_path)])


def test_public_names_load() -> None:
    for name in talent_factory.__all__:
        assert getattr(talent_factory, name) is not None
    assert set(dir(talent_factory)) == set(talent_factory.__all__)
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = import_module("talent_factory").nothing_such


def test_public_names_have_types_where_they_are_used() -> None:
    tree = ast.parse(Path(talent_factory.__file__).read_text("utf-8"))
    shown = {
        alias.asname: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert shown == talent_factory._PUBLIC
