"""The catalog: reads what changed and nothing else, tells what a fresh look tells, survives damage."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from kit_maker import KIT_ID, edit_manifest, make_images, make_kit
from talent_factory.core.errors import KitError, WorkspaceBusy
from talent_factory.kits import keys
from talent_factory.kits.catalog import catalog as catalog_module
from talent_factory.kits.catalog import crew, database, stamps
from talent_factory.kits.catalog.catalog import Catalog, Changes, catalog_place, index_kits
from talent_factory.kits.catalog.stamps import kit_stamp
from talent_factory.kits.index import entry, entry_fields, inspect_kits

INK, MOCK = "avatar.style.ink", "avatar.style.mock"


@pytest.fixture
def root(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace's folder with two good kits and one whose weights are text."""
    monkeypatch.setattr(keys, "MINI_FOLDER", base)
    # the files are young: without this, all would be read twice
    monkeypatch.setattr(stamps, "SETTLED_NS", 0)
    root = tmp_path / "talents" / "avatar"
    make_kit(root, base, work=tmp_path / "work")
    make_kit(root, base, work=tmp_path / "work", id=INK, token=None, tags=("Ink", "line art"))
    broken = make_kit(root, base, work=tmp_path / "work", id=MOCK, token=None)
    (broken / "weights.safetensors").write_text("# Mock weights file\n")
    return root


def update(root: Path, *, verify: bool = False) -> Changes:
    with Catalog(root) as catalog:
        return catalog.update(verify=verify)


def plain(root: Path, *, include_invalid: bool) -> str:
    """The index as a look at every file gives it."""
    return json.dumps(
        [
            entry(item.report.id, item.report.path, valid=item.report.valid, fields=entry_fields(item.raw))
            for item in inspect_kits(root)
            if include_invalid or item.report.valid
        ]
    )


def test_the_index_is_the_same_byte_for_byte_cold_and_warm(root: Path) -> None:
    (root / "avatar.style.empty").mkdir()
    (root / "avatar.style.numbers").mkdir()
    (root / "avatar.style.numbers" / "talent.json").write_text(
        '{"id": 3, "token": "\\ud800", "metadata": []}'
    )
    (root / "avatar.identity.\udcff").mkdir()
    for include_invalid in (False, True):
        expected = plain(root, include_invalid=include_invalid)
        for _ in range(2):
            assert json.dumps(index_kits(root, include_invalid)) == expected
            with Catalog(root) as catalog:
                assert catalog.index_text(include_invalid=include_invalid) == expected


def test_only_what_changed_is_read_again(root: Path, tmp_path: Path, base: Path) -> None:
    assert update(root) == Changes(read=3, gone=0, kept=0)
    assert update(root) == Changes(read=0, gone=0, kept=3)
    edit_manifest(root / INK, lambda manifest: manifest.update(negatives="smoke"))
    assert update(root) == Changes(read=1, gone=0, kept=2)
    make_kit(root, base, work=tmp_path / "work", id="avatar.style.wash", token=None)
    shutil.rmtree(root / MOCK)
    assert update(root) == Changes(read=1, gone=1, kept=2)
    entries = index_kits(root, include_invalid=True)
    assert [item["id"] for item in entries] == [KIT_ID, INK, "avatar.style.wash"]
    assert entries[1]["negatives"] == "smoke"


@pytest.mark.parametrize("name", ["talent.json", "weights.safetensors", "examples/02.png"])
def test_a_change_that_keeps_size_and_time_is_seen(root: Path, name: str) -> None:
    update(root)
    path = root / KIT_ID / name
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert update(root).read == 1
    assert KIT_ID not in {item["id"] for item in index_kits(root)}


def test_a_stamp_holds_until_a_file_comes_goes_or_is_touched(root: Path) -> None:
    kit = root / KIT_ID
    first = kit_stamp(kit)
    assert first == kit_stamp(kit) != b""
    (kit / "examples" / "more.txt").write_text("x")
    second = kit_stamp(kit)
    assert second not in (first, b"")
    (kit / "examples" / "more.txt").unlink()
    assert kit_stamp(kit) not in (first, second)
    assert kit_stamp(kit / "nothing") == b""


def test_a_kit_that_changed_a_moment_ago_is_not_taken_for_granted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "SETTLED_NS", int(3600e9))
    assert kit_stamp(root / KIT_ID) == b""
    assert update(root).read == 3
    assert update(root).read == 3


def test_verify_reads_all_and_names_what_changed_behind_the_stamps(root: Path) -> None:
    update(root)
    assert update(root, verify=True) == Changes(read=3, gone=0, kept=0, altered=())
    # as if the disk had lied: the stamp is the new one, the content the old one
    edit_manifest(root / INK, lambda manifest: manifest.update(negatives="smoke"))
    place = catalog_place(root)
    assert place is not None
    with sqlite3.connect(place) as lie:
        lie.execute("UPDATE kits SET stamp = ? WHERE folder = ?", (kit_stamp(root / INK), INK.encode()))
    lie.close()
    assert update(root).read == 0
    assert update(root, verify=True).altered == (INK,)
    assert update(root) == Changes(read=0, gone=0, kept=3)


@pytest.mark.parametrize("damage", ["text", "cut", "page", "foreign"])
def test_a_broken_catalog_is_made_anew(root: Path, damage: str) -> None:
    expected = plain(root, include_invalid=True)
    update(root)
    place = catalog_place(root)
    assert place is not None
    data = place.read_bytes()
    if damage == "foreign":
        place.unlink()
        with sqlite3.connect(place) as other:
            other.execute("CREATE TABLE kits (something TEXT)")
        other.close()
    else:
        spoilt = {
            "text": b"not a database at all" * 400,
            "cut": data[: len(data) // 3],
            "page": data[:4096] + os.urandom(8192) + data[12288:],
        }
        place.write_bytes(spoilt[damage])
    assert json.dumps(index_kits(root, include_invalid=True)) == expected
    assert update(root).read == 0
    assert json.dumps(index_kits(root, include_invalid=True)) == expected


def test_damage_that_shows_only_when_asked_is_mended_too(root: Path) -> None:
    with Catalog(root) as catalog:
        catalog.update()
        expected = (catalog.entries(include_invalid=True), catalog.kits(), catalog.search("ink"))
        for table in ("entries", "kits", "words"):
            catalog.connection().execute(f"DROP TABLE {table}")
            assert (catalog.entries(include_invalid=True), catalog.kits(), catalog.search("ink")) == expected


def test_a_file_that_another_process_writes_is_waited_for_and_never_thrown_away(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_WAIT_S", 0.01)
    update(root)
    place = catalog_place(root)
    assert place is not None
    other = sqlite3.connect(place, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(WorkspaceBusy, match="another process"):
        update(root)
    other.execute("COMMIT")
    other.close()
    assert update(root).read == 0


def test_other_rules_judge_all_kits_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update(root)
    monkeypatch.setattr(database, "rules_stamp", lambda: "another version")
    assert update(root).read == 3
    assert update(root).read == 0


def test_a_base_that_is_away_keeps_nobody_from_listing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MINI_FOLDER", tmp_path / "nowhere")
    assert [item["valid"] for item in index_kits(root, include_invalid=True)] == [False] * 3


def test_a_folder_of_no_workspace_gets_no_file_beside_it(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "loras"
    shutil.copytree(root, elsewhere)
    assert catalog_place(elsewhere) is None
    assert len(index_kits(elsewhere)) == 2
    assert sorted(path.name for path in elsewhere.iterdir()) == sorted(path.name for path in root.iterdir())
    named = catalog_place(elsewhere, cache=tmp_path / "cache")
    assert named is not None
    assert named.parent == tmp_path / "cache"
    with Catalog(elsewhere, place=named) as catalog:
        catalog.update()
    assert named.is_file()


def test_where_no_file_can_be_written_the_answer_is_the_same(root: Path) -> None:
    expected = plain(root, include_invalid=False)
    (root.parents[1] / "cache").write_text("a file where the folder should be")
    assert json.dumps(index_kits(root)) == expected


def test_a_stop_in_the_middle_keeps_what_was_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "_KEEP_EVERY", 1)
    real = crew.read_kit
    seen: list[str] = []

    def stopped(folder: Path) -> object:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(folder.name)
        return real(folder)

    monkeypatch.setattr(crew, "read_kit", stopped)
    with pytest.raises(KeyboardInterrupt):
        update(root)
    monkeypatch.setattr(crew, "read_kit", real)
    assert update(root) == Changes(read=1, gone=0, kept=2)


def test_two_may_bring_it_up_to_date_at_the_same_time(root: Path) -> None:
    with Catalog(root) as one, Catalog(root) as other:
        one.update()
        assert other.update().read == 0
        shutil.rmtree(root / MOCK)
        other.update()
        assert [kit.id for kit in one.kits()] == [KIT_ID, INK]


def test_processes_read_as_one_does(root: Path) -> None:
    # the processes know nothing of the small base of this test, so that only broken kits read alike
    for number in range(40):
        (root / f"avatar.style.empty{number}").mkdir()
    folders = sorted(root.glob("*empty*"))
    alone = list(crew.read_kits(folders, processes=1))
    together = list(crew.read_kits(folders, processes=2))
    assert together == alone


def test_the_kits_of_a_process_that_dies_are_read_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [root / KIT_ID] * 40
    monkeypatch.setattr(crew._Worker, "_ask", lambda self, folders: None)
    readings = list(crew.read_kits(folders, processes=2))
    assert [folder for folder, _ in readings] == folders
    assert all(reading.valid for _, reading in readings)


def test_giving_up_ends_the_processes(root: Path) -> None:
    readings = crew.read_kits([root / KIT_ID] * 200, processes=2)
    next(readings)
    began = time.monotonic()
    readings.close()
    assert time.monotonic() - began < 60  # not the time of 200 kits on a machine that stands still


def test_twins_are_found_whatever_their_headers_say(root: Path, tmp_path: Path, base: Path) -> None:
    # the same tensors as the first kit, packed under another name
    make_kit(root, base, work=tmp_path / "work", id="avatar.style.twin", token=None)
    with Catalog(root) as catalog:
        catalog.update()
        assert catalog.duplicates() == [(KIT_ID, INK, "avatar.style.twin")]
        assert catalog.twins_of(INK) == (KIT_ID, "avatar.style.twin")
        assert catalog.twins_of(MOCK) == ()
    weights = {(root / name / "weights.safetensors").read_bytes() for name in (KIT_ID, INK)}
    assert len(weights) == 2


def test_equal_samples_are_not_yet_twins(root: Path, tmp_path: Path, base: Path) -> None:
    update(root)
    with Catalog(root) as catalog:
        catalog.connection().execute("UPDATE kits SET sample = 'same'")
        path = root / INK / "weights.safetensors"
        data = bytearray(path.read_bytes())
        data[-4000] ^= 1
        path.write_bytes(bytes(data))
        assert catalog.duplicates() == []


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no folder of kits"):
        index_kits(tmp_path / "nothing")
    assert not (tmp_path / "cache").exists()


def test_pictures_and_notes_beside_the_kits_are_no_kits(root: Path) -> None:
    make_images(root)
    (root / ".trash").mkdir()
    assert update(root).read == 3
