"""Commands on kits are killed at every step: no kit is lost or half there, and a second call ends it."""

from __future__ import annotations

import builtins
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crash_points import Fuse, in_a_child
from kit_maker import KIT_ID, make_images, make_kit, make_tensors, read_manifest_json, write_lora
from talent_factory.core.errors import KitError
from talent_factory.kits import keys
from talent_factory.kits.catalog.catalog import Catalog
from talent_factory.kits.catalog.rename import rename_kit
from talent_factory.kits.catalog.trash import empty_trash, put_away, take_back, trashed
from talent_factory.kits.consent import set_subject
from talent_factory.kits.export import Target, export_kit
from talent_factory.kits.index import kit_folders
from talent_factory.kits.intake.bring import bring
from talent_factory.kits.intake.outcome import Order
from talent_factory.kits.refill import refill_examples
from talent_factory.kits.validate import validate_kit

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")

OTHER, NEW = "avatar.style.ink", "avatar.identity.renamed"
STEPS = ("fsync", "rename", "replace", "link", "mkdir", "unlink", "rmdir", "ftruncate")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A folder with two kits, to be copied."""
    place = tmp_path_factory.mktemp("shelf")
    root = place / "talents" / "avatar"
    kept, keys.MINI_FOLDER = keys.MINI_FOLDER, base
    try:
        make_kit(root, base, work=place / "work")
        make_kit(root, base, work=place / "work", id=OTHER, token=None)
    finally:
        keys.MINI_FOLDER = kept
    return root


@pytest.fixture(autouse=True)
def _embedded(monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    monkeypatch.setattr(keys, "MINI_FOLDER", base)


def burning(work: Callable[[], object], at: int) -> int:
    """Do `work` in a process that kills itself at a step of the file system; returns how it ended."""

    def child() -> None:
        fuse = Fuse(at)
        for name in STEPS:
            setattr(os, name, fuse.around(getattr(os, name)))
        builtins.open = fuse.around(builtins.open)  # type: ignore[assignment]
        work()

    return in_a_child(child)


def killed_everywhere(
    shelf: Path, place: Path, work: Callable[[Path], object], *, check: Callable[[Path, bool], None]
) -> int:
    """Kill `work` at one step after another, each time on a fresh copy; returns how many kills there were.

    `check` looks at what a kill left, and once more when a second call has ended.
    """
    kills = 0
    while True:
        root = place / str(kills) / "talents" / "avatar"
        shutil.copytree(shelf, root)
        status = burning(lambda at=kills + 1, root=root: work(root), kills + 1)  # type: ignore[misc]
        check(root, status == 0)
        if status == 0:
            return kills
        assert status == -signal.SIGKILL, f"killed at step {kills + 1} it ended with {status}"
        assert in_a_child(lambda root=root: work(root)) == 0, f"after a kill at step {kills + 1}"  # type: ignore[misc]
        check(root, True)
        shutil.rmtree(place / str(kills))
        kills += 1


def ids(root: Path) -> list[str]:
    """The kits of a folder, all of which must be whole; the catalog must say the same."""
    folders = kit_folders(root)
    for folder in folders:
        assert validate_kit(folder).valid, (folder, validate_kit(folder).errors)
    with Catalog(root) as catalog:
        catalog.update()
        assert [kit.id for kit in catalog.kits() if kit.valid] == [folder.name for folder in folders]
    return [folder.name for folder in folders]


def hidden(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.name.startswith(".")} - {".lock", ".trash"}


def weights(kit: Path) -> str:
    return hashlib.sha256((kit / "weights.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_killed_rename_loses_no_kit_and_is_finished_by_the_same_call(shelf: Path, tmp_path: Path) -> None:
    def check(root: Path, ended: bool) -> None:
        there = ids(root)
        assert OTHER in there
        assert {KIT_ID, NEW} & set(there)
        for name in {KIT_ID, NEW} & set(there):
            assert weights(root / name) == weights(shelf / KIT_ID)
        if ended:
            assert there == [NEW, OTHER]
            assert hidden(root) == set()
            assert read_manifest_json(root / NEW)["metadata"]["renamed_from"] == [KIT_ID]

    def rename(root: Path) -> None:
        if (root / KIT_ID).exists() or not (root / NEW).exists():
            rename_kit(root, KIT_ID, NEW)
        else:  # all that a kill can leave undone then is the sweeping
            take_back(root, put_away(root, NEW).name)

    assert killed_everywhere(shelf, tmp_path, rename, check=check) > 30


def test_a_killed_removal_or_return_loses_no_kit(shelf: Path, tmp_path: Path) -> None:
    def away_and_back(root: Path) -> None:
        if not trashed(root):
            put_away(root, KIT_ID)
        take_back(root, KIT_ID)

    def check(root: Path, ended: bool) -> None:
        there = ids(root)
        assert there == [KIT_ID, OTHER] if ended else OTHER in there
        kept = [root / KIT_ID, *(root / ".trash" / item.name for item in trashed(root))]
        (one,) = [folder for folder in kept if folder.exists()]
        assert weights(one) == weights(shelf / KIT_ID)

    assert killed_everywhere(shelf, tmp_path, away_and_back, check=check) >= 10


def test_of_a_trash_whose_emptying_was_killed_only_whole_kits_come_back(shelf: Path, tmp_path: Path) -> None:
    def empty(root: Path) -> None:
        if (root / KIT_ID).exists():
            put_away(root, KIT_ID)
        empty_trash(root)

    def check(root: Path, ended: bool) -> None:
        for item in trashed(root):
            assert weights(root / ".trash" / item.name) == weights(shelf / KIT_ID)
            folder = root / ".trash" / item.name
            found = {path.relative_to(folder) for path in folder.rglob("*")}
            assert found == {path.relative_to(shelf / KIT_ID) for path in (shelf / KIT_ID).rglob("*")}

    killed_everywhere(shelf, tmp_path, empty, check=check)


@pytest.mark.slow
def test_a_killed_import_leaves_a_whole_kit_or_none(shelf: Path, tmp_path: Path, base: Path) -> None:
    lora = write_lora(tmp_path / "given" / "sea.safetensors", make_tensors(base, seed=5))
    export_kit(shelf / KIT_ID, target="zip", out=tmp_path / "given")
    archive = tmp_path / "given" / f"{KIT_ID}.zip"

    def take(root: Path) -> None:
        order = Order(root=root, base="mini", replace=True)
        found = bring([lora, archive], order)
        assert [taken.status for taken in found] == ["imported", "imported"], found

    def check(root: Path, ended: bool) -> None:
        there = ids(root)
        assert {KIT_ID, OTHER} <= set(there)
        assert weights(root / KIT_ID) == weights(shelf / KIT_ID)
        if ended:
            assert len(there) == 3
            assert hidden(root) == set()

    assert killed_everywhere(shelf, tmp_path, take, check=check) > 50


@pytest.mark.slow
def test_killed_examples_leave_the_old_ones_or_the_new(shelf: Path, tmp_path: Path) -> None:
    images = make_images(tmp_path / "fresh", 2)

    def refill(root: Path) -> None:
        refill_examples(root / KIT_ID, images)

    def check(root: Path, ended: bool) -> None:
        assert ids(root) == [KIT_ID, OTHER]
        assert len(list((root / KIT_ID / "examples").iterdir())) == 2 if ended else True
        if ended:
            assert hidden(root) == set()

    assert killed_everywhere(shelf, tmp_path, refill, check=check) > 20


def test_a_killed_statement_of_the_subject_leaves_a_valid_kit(shelf: Path, tmp_path: Path) -> None:
    def state(root: Path) -> None:
        set_subject(root / KIT_ID, real_person=True, consent="self")

    def check(root: Path, ended: bool) -> None:
        assert ids(root) == [KIT_ID, OTHER]
        if ended:
            assert read_manifest_json(root / KIT_ID)["metadata"]["subject"]["consent"] == "self"

    assert killed_everywhere(shelf, tmp_path, state, check=check) > 5


@pytest.mark.slow
@pytest.mark.parametrize("target", ["a1111", "comfy", "diffusers", "zip"])
def test_a_killed_export_is_finished_by_the_same_call(shelf: Path, tmp_path: Path, target: Target) -> None:
    def export(root: Path) -> None:
        export_kit(root / KIT_ID, target=target, out=root / "out")

    whole: set[str] = set()
    export_kit(shelf / KIT_ID, target=target, out=tmp_path / "whole")
    whole = {path.relative_to(tmp_path / "whole").as_posix() for path in (tmp_path / "whole").rglob("*")}

    def check(root: Path, ended: bool) -> None:
        found = {path.relative_to(root / "out").as_posix(): path for path in (root / "out").rglob("*")}
        for name, path in found.items():
            if path.is_file() and not path.name.startswith("."):
                assert path.read_bytes() == (tmp_path / "whole" / name).read_bytes()
        if ended:
            assert set(found) == whole

    assert killed_everywhere(shelf, tmp_path / "trials", export, check=check) >= 5


def test_two_kits_that_want_one_id_do_not_replace_each_other(shelf: Path, tmp_path: Path) -> None:
    root = tmp_path / "talents" / "avatar"
    shutil.copytree(shelf, root)
    ready, go = os.pipe()
    children = []
    for name in (KIT_ID, OTHER):
        child = os.fork()
        if child == 0:
            status = 2
            try:
                os.close(go)
                os.read(ready, 1)
                rename_kit(root, name, "avatar.identity.wanted")
                status = 0
            except KitError:
                status = 1
            finally:
                os._exit(status)
        children.append(child)
    os.close(ready)
    os.close(go)
    ended = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert ended == [0, 1]
    left = {weights(folder) for folder in kit_folders(root)}
    assert len(kit_folders(root)) == 2
    assert left == {weights(shelf / KIT_ID), weights(shelf / OTHER)}
