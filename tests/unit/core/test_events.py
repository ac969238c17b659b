"""Reporters: the log keeps whole lines, the console suits its reader."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from talent_factory.core.console import ConsoleReporter, ProgressMode
from talent_factory.core.events import EventLog, Fanout, Reporter, SilentReporter


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def _tell(reporter: Reporter) -> None:
    reporter.event("stage", name="cast", path=Path("a/b"))
    for done in range(101):
        reporter.progress("train", done, 100, note="loss 0.1")
    reporter.message("done [bold]kairo[/bold]")


def test_log_appends_json_lines_and_cuts_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "run" / "events.jsonl"
    _tell(EventLog(path))
    with open(path, "ab") as stream:
        stream.write(b'{"time": "20')
    EventLog(path).event("again")
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["stage", "message", "again"]
    assert lines[0]["path"] == "a/b"
    assert all(line["time"].endswith("+00:00") for line in lines)


def test_fanout_reaches_all_and_silence_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = EventLog(tmp_path / "1"), EventLog(tmp_path / "2")
    _tell(Fanout(first, SilentReporter(), second))
    assert (tmp_path / "1").read_bytes().count(b"\n") == (tmp_path / "2").read_bytes().count(b"\n") == 2
    assert capsys.readouterr() == ("", "")


def test_log_mode_prints_a_line_each_tenth() -> None:
    stream = io.StringIO()
    with ConsoleReporter(stream=stream) as reporter:
        _tell(reporter)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 12
    assert lines[0].startswith("train 0/100")
    assert "left" in lines[5]
    assert lines[10].startswith("train 100/100  100 %")
    assert lines[11] == "done [bold]kairo[/bold]"


def test_json_mode_is_json_lines_even_when_quiet() -> None:
    stream = io.StringIO()
    with ConsoleReporter(stream=stream, mode="json", quiet=True) as reporter:
        _tell(reporter)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {line["event"] for line in lines} == {"stage", "progress", "message"}
    assert lines[1] == {
        "event": "progress", "stage": "train", "done": 0, "total": 100, "unit": "step", "note": "loss 0.1"
    }  # fmt: skip


@pytest.mark.parametrize(("mode", "quiet"), [("auto", True), ("none", False)])
def test_quiet_says_nothing(mode: ProgressMode, quiet: bool) -> None:
    stream = Terminal()
    with ConsoleReporter(stream=stream, mode=mode, quiet=quiet) as reporter:
        _tell(reporter)
    assert stream.getvalue() == ""


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with ConsoleReporter(stream=stream) as reporter:
        _tell(reporter)
        _tell(reporter)
    text = stream.getvalue()
    assert "100/100" in text
    assert "loss 0.1" in text
    assert "done [bold]kairo[/bold]" in text


def test_nothing_to_do_is_no_error() -> None:
    stream = io.StringIO()
    ConsoleReporter(stream=stream).progress("empty", 0, 0)
    assert stream.getvalue().startswith("empty 0/0")
