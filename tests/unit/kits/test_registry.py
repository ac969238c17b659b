"""The registry is rebuilt from the kits; only a person's names and notes live in it alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.kit_maker import make_base, make_kit

from talent_factory.core.errors import FileError, KitError
from talent_factory.kits.registry import PAGE, TABLE, move_note, update_registry

ONE, TWO = "avatar.identity.zwx", "avatar.identity.ohwx"


@pytest.fixture
def talents(tmp_path: Path) -> Path:
    """Two kits, the second made later."""
    base, root = make_base(tmp_path / "base"), tmp_path / "talents"
    for number, (name, token) in enumerate(((ONE, "zwx"), (TWO, "ohwx")), start=1):
        make_kit(
            root,
            base,
            work=tmp_path / f"work{number}",
            id=name,
            token=token,
            created_at=datetime(2026, 3, number, tzinfo=UTC),
            training_config={"max_train_steps": 100 * number},
            provenance={"images": 20 + number},
        )
    return root


def test_the_table_says_what_was_made(tmp_path: Path, talents: Path) -> None:
    rows = update_registry(tmp_path, talents)
    assert [(r.name, r.token, r.date, r.steps, r.images) for r in rows] == [
        ("ohwx", "ohwx", "2026-03-02", 200, 22),
        ("zwx", "zwx", "2026-03-01", 100, 21),
    ]
    assert [json.loads(line)["id"] for line in (tmp_path / TABLE).read_text().splitlines()] == [TWO, ONE]
    page = (tmp_path / PAGE).read_text().splitlines()
    assert page[2].startswith("| name | token | date |")
    assert page[4].startswith("| ohwx | ohwx | 2026-03-02 |")
    assert len({line.count("|") for line in page[2:]}) == 1


def test_notes_are_kept_when_it_is_rebuilt(tmp_path: Path, talents: Path) -> None:
    update_registry(tmp_path, talents, notes={ONE: "hair | a bit\nred"})
    (row,) = [row for row in update_registry(tmp_path, talents) if row.id == ONE]
    assert row.notes == "hair | a bit\nred"
    assert "hair \\| a bit red" in (tmp_path / PAGE).read_text()


def test_names_are_kept_and_move_with_the_kit(tmp_path: Path, talents: Path) -> None:
    update_registry(tmp_path, talents, names={ONE: "Anna-Lena Zwx", "avatar.identity.to_come": "B"})
    assert [row.name for row in update_registry(tmp_path, talents)] == ["ohwx", "Anna-Lena Zwx"]
    assert "| Anna-Lena Zwx | zwx |" in (tmp_path / PAGE).read_text()
    # as a rename does: the table still holds the old id
    new = "avatar.identity.other"
    text = (talents / ONE / "talent.json").read_text()
    (talents / ONE).rename(talents / new)
    (talents / new / "talent.json").write_text(text.replace(ONE, new))
    move_note(tmp_path, talents, old=ONE, new=new)
    move_note(tmp_path, talents, old=TWO, new="avatar.identity.nobody")
    assert {row.id: row.name for row in update_registry(tmp_path, talents)} == {
        TWO: "ohwx",
        new: "Anna-Lena Zwx",
    }


def test_a_note_needs_its_kit(tmp_path: Path, talents: Path) -> None:
    with pytest.raises(KitError, match=r"no kit avatar\.identity\.gone"):
        update_registry(tmp_path, talents, notes={"avatar.identity.gone": "x"})
    assert not (tmp_path / TABLE).exists()


@pytest.mark.parametrize("damaged", ["{", "[]", '{"id": "zwx"}', '{"id": null}'])
def test_a_damaged_table_is_not_overwritten(tmp_path: Path, talents: Path, damaged: str) -> None:
    (tmp_path / TABLE).write_text(damaged)
    with pytest.raises(FileError, match="holds your notes"):
        update_registry(tmp_path, talents)
    assert (tmp_path / TABLE).read_text() == damaged


def test_folders_that_are_no_kits_are_passed_over(tmp_path: Path, talents: Path) -> None:
    (talents / "junk").mkdir()
    (talents / "junk" / "talent.json").write_text("{}")
    assert len(update_registry(tmp_path, talents)) == 2
    assert update_registry(tmp_path / "new", tmp_path / "nothing") == []
