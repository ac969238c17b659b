"""Kits are put away and taken back whole, and a new id changes nothing but the id."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from kit_maker import KIT_ID, edit_manifest, make_kit, read_manifest_json
from talent_factory.core.errors import KitError, UsageError
from talent_factory.kits import keys
from talent_factory.kits.catalog.catalog import Catalog
from talent_factory.kits.catalog.rename import rename_kit
from talent_factory.kits.catalog.trash import empty_trash, put_away, take_back, trashed
from talent_factory.kits.registry import move_note, update_registry
from talent_factory.kits.validate import validate_kit

INK, NEW = "avatar.style.ink", "avatar.identity.renamed"


@pytest.fixture
def root(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keys, "MINI_FOLDER", base)
    root = tmp_path / "talents" / "avatar"
    make_kit(root, base, work=tmp_path / "work")
    make_kit(root, base, work=tmp_path / "work", id=INK, token=None, intended_mix=(KIT_ID,))
    return root


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_kit_goes_and_comes_back_as_it_was(root: Path) -> None:
    before = contents(root / KIT_ID)
    gone = put_away(root, KIT_ID)
    assert gone.id == KIT_ID
    assert gone.size_bytes == sum(path.stat().st_size for path in (root / ".trash" / gone.name).rglob("*.*"))
    assert not (root / KIT_ID).exists()
    with Catalog(root) as catalog:
        catalog.update()
        assert [kit.id for kit in catalog.kits()] == [INK]
    assert take_back(root, KIT_ID) == KIT_ID
    assert contents(root / KIT_ID) == before
    assert trashed(root) == []


def test_of_several_the_latest_comes_back_and_none_replaces_a_kit(
    root: Path, tmp_path: Path, base: Path
) -> None:
    first = put_away(root, INK)
    make_kit(root, base, work=tmp_path / "work", id=INK, token=None, description="the second")
    second = put_away(root, INK)
    make_kit(root, base, work=tmp_path / "work", id=INK, token=None, description="the third")
    assert {first.name, second.name} == {item.name for item in trashed(root)}
    with pytest.raises(KitError, match="there already"):
        take_back(root, INK)
    put_away(root, INK)
    assert take_back(root, first.name) == INK
    assert "description" in read_manifest_json(root / INK)["metadata"]
    assert read_manifest_json(root / INK)["metadata"]["description"] == "A test kit"


def test_the_trash_is_emptied_for_good(root: Path) -> None:
    assert empty_trash(root) == (0, 0)
    size = put_away(root, INK).size_bytes
    assert empty_trash(root) == (1, size)
    with pytest.raises(KitError, match="not in the trash"):
        take_back(root, INK)


def test_only_the_name_of_a_kit_is_put_away(root: Path) -> None:
    for name in ("avatar.style.inc", "..", ".", "", "../avatar", str(root / INK), ".trash"):
        with pytest.raises(KitError, match="there is no kit"):
            put_away(root, name)
    with pytest.raises(KitError) as told:
        put_away(root, "avatar.style.inq")
    assert told.value.remedy == f"did you mean {INK}?"


def test_a_broken_kit_can_be_put_away(root: Path) -> None:
    (root / "Not An Id").mkdir()
    put_away(root, "Not An Id")
    assert take_back(root, "Not An Id") == "Not An Id"


def test_a_new_id_leaves_every_other_byte(root: Path) -> None:
    before = contents(root / KIT_ID)
    done = rename_kit(root, KIT_ID, NEW)
    assert (done.old, done.new, done.unsigned, done.named_by) == (KIT_ID, NEW, (), (INK,))
    after = contents(root / NEW)
    assert {name for name in before if before[name] != after.get(name)} == {"talent.json"}
    manifest = read_manifest_json(root / NEW)
    assert manifest["id"] == NEW
    assert manifest["metadata"]["renamed_from"] == [KIT_ID]
    assert manifest["token"] == "dot_test"
    assert validate_kit(root / NEW).valid
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == [NEW, INK]
    assert rename_kit(root, NEW, KIT_ID).new == KIT_ID
    assert read_manifest_json(root / KIT_ID)["metadata"]["renamed_from"] == [KIT_ID, NEW]


def test_a_dry_run_changes_nothing(root: Path) -> None:
    before = contents(root)
    assert rename_kit(root, KIT_ID, NEW, dry_run=True).named_by == (INK,)
    assert contents(root) == before


@pytest.mark.parametrize("new", ["avatar.identity.Big", "../x", "avatar.identity.con", ""])
def test_a_new_id_must_be_one(root: Path, new: str) -> None:
    with pytest.raises(UsageError, match="no talent id"):
        rename_kit(root, KIT_ID, new)


def test_what_is_taken_broken_or_would_be_invalid_keeps_its_id(root: Path) -> None:
    (root / "avatar.style.WASH").mkdir()
    with pytest.raises(KitError, match="already"):
        rename_kit(root, KIT_ID, INK)
    with pytest.raises(KitError, match=r"avatar.style.WASH already"):
        rename_kit(root, INK, "avatar.style.wash")
    with pytest.raises(KitError, match="would not be valid"):
        rename_kit(root, INK, "avatar.identity.ink")  # an identity needs a token
    edit_manifest(root / INK, lambda manifest: manifest.update(lora_rank=5))
    with pytest.raises(KitError, match="not valid"):
        rename_kit(root, INK, "avatar.style.pen")
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == [KIT_ID, "avatar.style.WASH", INK]


def test_the_note_goes_with_the_kit(root: Path) -> None:
    home = root.parents[1]
    move_note(home, root, old=KIT_ID, new=NEW)
    assert not (home / "registry.jsonl").exists()
    update_registry(home, root, notes={KIT_ID: "the first one"})
    rename_kit(root, KIT_ID, NEW)
    move_note(home, root, old=KIT_ID, new=NEW)
    rows = [json.loads(line) for line in (home / "registry.jsonl").read_text().splitlines()]
    assert {row["id"]: row["notes"] for row in rows} == {NEW: "the first one", INK: ""}
