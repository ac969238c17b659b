"""Stages run once for the same inputs, again when something changed, and never in a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from talent_factory.core.errors import Cancelled, FileError
from talent_factory.core.events import SilentReporter
from talent_factory.core.stop import StopSignal
from talent_factory.stage_book import Cost, Stage, StageBook

COST = Cost(seconds=2, memory_mb=10)


class Line:
    """Two stages: `a` upper-cases a source file, `b` counts the letters of what `a` left."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source, self.upper, self.count = root / "in.txt", root / "out" / "a.txt", root / "out" / "b.txt"
        self.source.write_text("portrait")
        self.calls: list[str] = []

    def walk(self, *, version: int = 1, seed: int = 0, plan_only: bool = False) -> StageBook:
        book = StageBook(self.root, self.root / "stages", SilentReporter(), plan_only=plan_only)
        inputs = {"source": self.source, "seed": seed}
        book.do(Stage("a", "upper", inputs, (self.upper,), self.make_upper, COST, version=version))
        book.do(Stage("b", "count", {"a": self.upper}, (self.count,), self.make_count, COST))
        return book

    def make_upper(self) -> None:
        self.calls.append("a")
        self.upper.parent.mkdir(exist_ok=True)
        self.upper.write_text(self.source.read_text().upper())

    def make_count(self) -> None:
        self.calls.append("b")
        self.count.write_text(str(len(self.upper.read_text())))

    def again(self, **changes: int) -> list[str]:
        self.calls.clear()
        self.walk(**changes)
        return list(self.calls)


@pytest.fixture
def line(tmp_path: Path) -> Line:
    made = Line(tmp_path)
    assert [outcome.state for outcome in made.walk().outcomes] == ["made", "made"]
    return made


def test_nothing_is_done_twice(line: Line) -> None:
    assert line.again() == []
    assert [outcome.state for outcome in line.walk().outcomes] == ["kept", "kept"]


def test_a_changed_input_redoes_what_depends_on_it(line: Line) -> None:
    line.source.write_text("another one")
    assert line.again() == ["a", "b"]
    assert line.count.read_text() == "11"


def test_what_came_out_the_same_stops_the_wave(line: Line) -> None:
    line.source.write_text("PORTRAIT")
    assert line.again() == ["a"]
    assert line.again(seed=4) == ["a"]
    assert line.again(seed=4, version=2) == ["a"]


def test_the_reason_is_told(line: Line) -> None:
    line.source.write_text("x")
    assert [outcome.because for outcome in line.walk().outcomes] == ["changed: source", "changed: a"]
    line.count.write_text("9")
    assert line.walk().outcomes[1].because == "b.txt was changed"


@pytest.mark.parametrize("damage", ["remove", "edit", "forget"])
def test_damaged_outputs_and_lost_records_are_made_again(line: Line, damage: str) -> None:
    if damage == "remove":
        line.count.unlink()
    elif damage == "edit":
        line.count.write_text("7")
    else:
        (line.root / "stages" / "b.json").write_text("{")
    assert line.again() == ["b"]
    assert line.count.read_text() == "8"


def test_a_plan_writes_nothing_and_sees_what_follows(line: Line) -> None:
    before = {path: path.read_bytes() for path in line.root.rglob("*") if path.is_file()}
    assert [step.state for step in line.walk(plan_only=True).steps] == ["done", "done"]
    line.source.write_text("another")
    book = line.walk(plan_only=True)
    assert [step.state for step in book.steps] == ["todo", "todo"]
    assert book.plan("x").seconds == 4
    line.source.write_text("portrait")
    assert {path: path.read_bytes() for path in line.root.rglob("*") if path.is_file()} == before


def test_a_workspace_may_be_moved(line: Line, tmp_path: Path) -> None:
    import shutil

    moved = tmp_path.with_name(f"{tmp_path.name}_moved")
    shutil.copytree(tmp_path, moved)
    other = Line(moved)
    assert other.again() == []


def test_a_stage_that_leaves_nothing_is_an_error(tmp_path: Path) -> None:
    book = StageBook(tmp_path, tmp_path / "stages", SilentReporter())
    with pytest.raises(FileError, match="left no"):
        book.do(Stage("a", "", {}, (tmp_path / "a.txt",), lambda: None, COST))
    assert not (tmp_path / "stages").exists()


def test_a_requested_stop_comes_before_the_next_stage(line: Line) -> None:
    stop = StopSignal()
    stop.request()
    line.source.write_text("new")
    book = StageBook(line.root, line.root / "stages", SilentReporter(), stop)
    stage = Stage("a", "", {"source": line.source, "seed": 0}, (line.upper,), line.make_upper, COST)
    line.calls.clear()
    with pytest.raises(Cancelled):
        book.do(stage)
    assert line.calls == []


def test_a_chapter_keeps_its_own_records_and_shares_the_list(tmp_path: Path) -> None:
    book = StageBook(tmp_path, tmp_path / "stages" / "one", SilentReporter())
    chapter = book.chapter(tmp_path / "stages" / "two", label="style")
    chapter.do(Stage("a", "", {}, (tmp_path / "a",), lambda: (tmp_path / "a").write_text("x") and None, COST))
    assert [outcome.name for outcome in book.outcomes] == ["style a"]
    assert (tmp_path / "stages" / "two" / "a.json").is_file()
