"""The index: one entry a kit, broken ones included when asked for, none of them a crash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kit_maker import KIT_ID, make_kit
from talent_factory.core.errors import KitError
from talent_factory.kits import keys
from talent_factory.kits.catalog.catalog import index_kits
from talent_factory.kits.index import FIELDS, inspect_kits, kit_folders


@pytest.fixture
def root(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two good kits and one whose weights are text; `base` plays the embedded base."""
    monkeypatch.setattr(keys, "MINI_FOLDER", base)
    root = tmp_path / "talents"
    make_kit(root, base, work=tmp_path / "work")
    make_kit(root, base, work=tmp_path / "work", id="avatar.style.ink", token=None, intended_mix=(KIT_ID,))
    broken = make_kit(root, base, work=tmp_path / "work", id="avatar.style.mock", token=None)
    (broken / "weights.safetensors").write_text("# Mock weights file\n")
    return root


def test_valid_kits_are_listed_with_every_field(root: Path) -> None:
    entries = index_kits(root)
    assert [entry["id"] for entry in entries] == [KIT_ID, "avatar.style.ink"]
    assert set(entries[0]) == {"id", "path", "valid", *FIELDS}
    assert entries[0]["path"] == (root / KIT_ID).as_posix()
    assert entries[0]["token"] == "dot_test"
    assert entries[0]["metadata"]["alpha"] == 2.0
    assert entries[1]["token"] is None
    assert entries[1]["intended_mix"] == [KIT_ID]
    json.dumps(entries, allow_nan=False)


def test_invalid_kits_are_listed_when_asked_for(root: Path) -> None:
    (root / "avatar.style.empty").mkdir()
    (root / "avatar.style.list").mkdir()
    (root / "avatar.style.list" / "talent.json").write_text("[]")
    (root / "avatar.style.numbers").mkdir()
    (root / "avatar.style.numbers" / "talent.json").write_text('{"id": 3, "token": {"x": 1}}')
    entries = {entry["id"]: entry for entry in index_kits(root, include_invalid=True)}
    assert [name for name, entry in entries.items() if entry["valid"]] == [KIT_ID, "avatar.style.ink"]
    assert entries["avatar.style.mock"]["base_model"] == "mini"
    assert entries["avatar.style.empty"]["base_model"] is None
    assert entries["avatar.style.numbers"]["token"] == {"x": 1}
    assert entries["avatar.style.list"]["metadata"] is None


def test_hidden_and_loose_entries_are_no_kits(root: Path) -> None:
    (root / ".tmp-1-avatar.style.half").mkdir()
    (root / "index.json").write_text("[]")
    assert {folder.name for folder in kit_folders(root)} == {KIT_ID, "avatar.style.ink", "avatar.style.mock"}


def test_ids_that_differ_in_case_only_are_reported_on_both(root: Path) -> None:
    shutil.copytree(root / "avatar.style.ink", root / "avatar.style.Ink")
    if not (root / "avatar.style.ink").samefile(root / "avatar.style.Ink"):
        found = {item.report.id: item.report for item in inspect_kits(root)}
        for name in ("avatar.style.ink", "avatar.style.Ink"):
            assert "id-collision" in {finding.code for finding in found[name].findings}
        assert found["avatar.style.ink"].valid
        assert not found["avatar.style.Ink"].valid


def test_a_missing_folder_is_an_error_and_an_empty_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no folder of kits"):
        index_kits(tmp_path / "nothing")
    assert index_kits(tmp_path) == []
