"""Writes happen whole or not at all, whatever interrupts them."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.core import files
from talent_factory.core.errors import DiskFull, FileError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def _entries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
def test_write_replaces_and_leaves_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, first: bytes, second: bytes
) -> None:
    folder = tmp_path_factory.mktemp("write")
    target = folder / "deep" / "file.bin"
    files.write_bytes(target, first)
    files.write_bytes(target, second)
    assert target.read_bytes() == second
    assert _entries(target.parent) == ["file.bin"]
    assert files.sha256_file(target) == files.sha256_bytes(second)


@given(value=json_values)
def test_json_survives_and_is_canonical(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("json") / "value.json"
    files.write_json(path, value)
    assert files.read_json(path) == value
    assert files.json_text(json.loads(files.json_text(value))) == files.json_text(value)


def test_json_refuses_numbers_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "value.json", {"loss": float("nan")})
    assert _entries(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_damaged_json_is_an_error_with_the_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "value.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"value\.json"):
        files.read_json(path)
    with pytest.raises(FileError, match="does not exist"):
        files.read_json(tmp_path / "none.json")


def test_failed_body_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "picture.png"
    files.write_bytes(target, b"old")
    with pytest.raises(RuntimeError), files.atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert _entries(tmp_path) == ["picture.png"]


def test_long_names_are_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".txt")
    files.write_text(target, "ä")
    assert target.read_bytes() == "ä".encode()


def test_full_device_becomes_diskfull(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskFull, match="No space left") as caught,
        files.atomic_path(tmp_path / "file") as temporary,
    ):
        temporary.touch()
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
    assert "--workspace" in caught.value.remedy
    assert _entries(tmp_path) == []


def test_errors_name_what_the_user_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder, not a file"):
        files.write_text(tmp_path, "x")
    target = tmp_path / "made"
    with pytest.raises(FileNotFoundError) as inside, files.atomic_folder(target) as temporary:
        (temporary / "missing" / "file").write_text("x")
    assert inside.value.filename == str(target / "missing" / "file")
    with pytest.raises(FileNotFoundError) as lost, files.atomic_path(target):
        pass  # nothing was written, so there is nothing to rename
    assert lost.value.filename == str(target)


def test_size_limit_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "weights"
    files.write_bytes(target, b"old")
    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(DiskFull, match="weights"):
            files.write_bytes(target, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert target.read_bytes() == b"old"
    assert _entries(tmp_path) == ["weights"]


def test_folder_appears_whole_and_replaces_whole(tmp_path: Path) -> None:
    target = tmp_path / "kit"
    for content in ("one", "two"):
        with files.atomic_folder(target) as temporary:
            (temporary / "sub").mkdir()
            (temporary / "sub" / f"{content}.txt").write_text(content)
        assert _entries(target / "sub") == [f"{content}.txt"]
    with pytest.raises(RuntimeError), files.atomic_folder(target) as temporary:
        (temporary / "three.txt").write_text("three")
        raise RuntimeError
    assert _entries(target) == ["sub"]
    assert _entries(tmp_path) == ["kit"]


def test_folder_replacement_without_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    target = tmp_path / "kit"
    for content in ("one", "two"):
        with files.atomic_folder(target) as temporary:
            (temporary / "text").write_text(content)
    assert (target / "text").read_text() == "two"
    assert _entries(tmp_path) == ["kit"]


@pytest.mark.parametrize("finished", [False, True])
def test_cut_replacement_is_mended(tmp_path: Path, finished: bool) -> None:
    old = tmp_path / ".old-kit"
    old.mkdir()
    (old / "text").write_text("old")
    if finished:
        (tmp_path / "kit").mkdir()
        (tmp_path / "kit" / "text").write_text("new")
    files.clear_leftovers(tmp_path)
    assert (tmp_path / "kit" / "text").read_text() == ("new" if finished else "old")
    assert _entries(tmp_path) == ["kit"]


def test_reader_never_misses_the_folder(tmp_path: Path) -> None:
    target = tmp_path / "kit"
    with files.atomic_folder(target) as temporary:
        (temporary / "text").write_text("0")
    done, missed = threading.Event(), []

    def watch() -> None:
        while not done.is_set():
            if not target.is_dir():
                missed.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(30):
        with files.atomic_folder(target) as temporary:
            (temporary / "text").write_text(str(number))
    done.set()
    watcher.join()
    assert not missed


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".tmp-{gone.pid}-aa-file").write_text("x")
    (tmp_path / f".tmp-{gone.pid}-bb-folder").mkdir()
    (tmp_path / f".tmp-{os.getpid()}-cc-file").write_text("x")
    (tmp_path / "mine.txt").write_text("x")
    assert files.clear_leftovers(tmp_path) == 2
    assert _entries(tmp_path) == [f".tmp-{os.getpid()}-cc-file", "mine.txt"]
    assert files.clear_leftovers(tmp_path / "nowhere") == 0


def test_killed_writer_leaves_old_or_new(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from talent_factory.core.files import write_bytes
        print("ready", flush=True)
        number = 0
        while True:
            write_bytes(Path(sys.argv[1]), bytes([number % 256]) * 300_000)
            number += 1
        """
    )
    target = tmp_path / "state.bin"
    files.write_bytes(target, b"\0" * 300_000)
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        # the moment of death differs from round to round; any of them must do
        threading.Event().wait(0.01 + 0.007 * _)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        content = target.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1
    files.clear_leftovers(tmp_path)
    assert _entries(tmp_path) == ["state.bin"]


def test_tree_hash_sees_names_contents_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_text("1")
    before = files.sha256_tree(tmp_path)
    (tmp_path / ".tmp-1-x").write_text("left over")
    (tmp_path / "skip.txt").write_text("left out")
    assert files.sha256_tree(tmp_path, exclude={"skip.txt"}) == before
    (tmp_path / "a" / "one.txt").rename(tmp_path / "a" / "two.txt")
    assert files.sha256_tree(tmp_path, exclude={"skip.txt"}) != before


def test_sums_name_what_changed(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights").write_text("w")
    (tmp_path / "index.json").write_text("{}")
    files.write_sums(tmp_path)
    assert files.check_sums(tmp_path) == []
    (tmp_path / "unet" / "weights").write_text("v")
    (tmp_path / "index.json").unlink()
    assert files.check_sums(tmp_path) == ["index.json", "unet/weights"]
