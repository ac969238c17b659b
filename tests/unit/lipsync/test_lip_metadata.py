"""metadata.npz: ours is plain and checked, legacy files give their names and nothing else."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.loopback import Exchange, Loopback
from talent_factory.core.errors import FileError, TalentError, UsageError
from talent_factory.lipsync.data.metadata import (
    content_hash,
    from_json,
    parse_metadata,
    read_metadata,
    write_metadata,
)
from talent_factory.lipsync.records import Clip, Metadata

FOLDERS = [
    {"folder_name": "HDTF-0001", "image_count": 2, "image_names": ["000000", "000001.png"]},
    {"folder_name": "HDTF_0002", "image_count": 1, "image_names": ["000000"]},
]
CLIPS = (Clip(name="HDTF-0001", frames=("000000", "000001")), Clip(name="HDTF_0002", frames=("000000",)))


def legacy(folders: Any, **more: Any) -> bytes:
    """An .npz as other tools write it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, folder_data=folders, **more)
    return buffer.getvalue()


def objects(items: list[Any]) -> np.ndarray[Any, Any]:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_what_is_written_is_read_and_holds_no_pickle(tmp_path: Path) -> None:
    metadata = Metadata(extractor="mel-1", image_size=256, clips=CLIPS)
    write_metadata(tmp_path / "metadata.npz", metadata)
    assert read_metadata(tmp_path / "metadata.npz") == metadata
    with np.load(tmp_path / "metadata.npz", allow_pickle=False) as plain:
        assert json.loads(plain["folder_data"].tobytes())[0]["image_names"] == ["000000", "000001"]
    write_metadata(tmp_path / "again.npz", metadata)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "metadata.npz").read_bytes()


def test_a_change_by_hand_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "metadata.npz"
    write_metadata(path, Metadata(extractor="mel-1", clips=CLIPS))
    with np.load(path) as plain:
        arrays = dict(plain)
    arrays["extractor"] = np.frombuffer(b"mel-2", np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(FileError, match="changed after it was written"):
        read_metadata(path)


def test_the_hash_tells_extractors_and_frames_apart() -> None:
    one = Metadata(clips=CLIPS)
    assert content_hash(one) == content_hash(Metadata(clips=CLIPS))
    assert content_hash(one) != content_hash(Metadata(extractor="mel-1", clips=CLIPS))
    assert content_hash(one) != content_hash(Metadata(clips=CLIPS[:1]))


@pytest.mark.parametrize(
    "folders",
    [
        objects([dict(item) for item in FOLDERS]),
        objects([{**item, "image_names": np.array(item["image_names"])} for item in FOLDERS]),
        objects([{**item, "image_names": objects(list(item["image_names"]))} for item in FOLDERS]),
        objects([{**item, "image_count": np.int64(len(item["image_names"]))} for item in FOLDERS]),
        objects([{**item, "folder_name": np.str_(item["folder_name"])} for item in FOLDERS]),
        objects([{**item, "image_names": tuple(item["image_names"])} for item in FOLDERS]),
    ],
    ids=["lists", "arrays", "object arrays", "numpy counts", "numpy names", "tuples"],
)
def test_legacy_files_are_read(folders: Any) -> None:
    assert parse_metadata(legacy(folders), source="x").clips == CLIPS


def test_legacy_lists_inside_one_object_are_read() -> None:
    whole = np.empty((), object)
    whole[()] = FOLDERS
    assert parse_metadata(legacy(whole), source="x").clips == CLIPS


class Payload:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, mark: Path, function: Any = subprocess.call) -> None:
        self.mark, self.function = mark, function

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, (["touch", str(self.mark)],)


def test_a_payload_is_refused_and_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for folders in (
        objects([Payload(mark)]),
        objects([{**FOLDERS[0], "image_names": Payload(mark)}]),
        objects([dict(FOLDERS[0]), Payload(mark, getattr)]),
    ):
        data = legacy(folders)
        with pytest.raises(FileError, match="refused: its pickle asks for"):
            parse_metadata(data, source="x")
    assert not mark.exists()
    # the same bytes do run in a reader that trusts them, so the test is none of nothing
    with np.load(io.BytesIO(legacy(objects([Payload(mark)]))), allow_pickle=True) as careless:
        assert careless["folder_data"] is not None
    assert mark.exists()


def test_a_payload_in_another_member_is_refused(tmp_path: Path) -> None:
    data = legacy(objects([dict(item) for item in FOLDERS]), extra=objects([Payload(tmp_path / "ran")]))
    with pytest.raises(FileError, match="refused"):
        parse_metadata(data, source="x")
    assert not (tmp_path / "ran").exists()


def test_a_list_named_ten_thousand_times_is_counted_before_it_is_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("talent_factory.lipsync.data.metadata.MAX_NAMES", 50_000)
    names = [str(number) for number in range(1_000)]
    one = {"folder_name": "A", "image_count": len(names), "image_names": names}
    with pytest.raises(FileError, match="names more than 50000"):
        parse_metadata(legacy(objects([one] * 10_000)), source="x")


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("talent_factory.lipsync.data.metadata.MAX_BYTES", 1 << 20)
    with pytest.raises(FileError, match="unpacks to more than"):
        parse_metadata(legacy(np.zeros(1 << 21, np.uint8)), source="x")


def refusal(data: bytes) -> str:
    """What a reader says against these bytes, "" when it takes them; any other error fails the test."""
    try:
        parse_metadata(data, source="x")
    except FileError as error:
        return error.message
    return ""


@given(st.binary(max_size=300), st.integers(0, 2**32))
def test_damaged_files_end_in_one_kind_of_error(junk: bytes, place: int) -> None:
    whole = legacy(objects([dict(item) for item in FOLDERS]))
    at = place % len(whole)
    for data in (junk, whole[:at], whole[:at] + junk + whole[at + len(junk) :]):
        assert "\n" not in refusal(data)


@given(st.binary(min_size=1, max_size=40), st.integers(0, 2**32))
def test_a_damaged_pickle_ends_in_one_kind_of_error(junk: bytes, place: int) -> None:
    member = io.BytesIO()
    np.save(member, objects([dict(item) for item in FOLDERS]), allow_pickle=True)
    raw = member.getvalue()
    at = 128 + place % (len(raw) - 128)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("folder_data.npy", raw[:at] + junk + raw[at + len(junk) :])
    assert "\n" not in refusal(buffer.getvalue())


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ([], "lists no folder"),
        ([{"folder_name": "A"}], "is no {folder_name"),
        ([{"folder_name": "A", "image_count": 3, "image_names": ["0"]}], "says 3 images and names 1"),
        ([{"folder_name": "A", "image_names": ["0", "0.png"]}], "an image twice"),
        ([{"folder_name": "A", "image_names": []}], "names no image"),
        ([{"folder_name": "../A", "image_names": ["0"]}], "folder_data"),
        ([{"folder_name": "A", "image_names": ["../../etc/passwd"]}], "folder_data"),
        (
            [{"folder_name": "A_1", "image_names": ["0"]}, {"folder_name": "A-1", "image_names": ["0"]}],
            "twice",
        ),
        ([{"folder_name": "A", "image_names": [7]}], "no list of names"),
    ],
)
def test_names_that_make_no_clip_are_refused(tmp_path: Path, folders: list[Any], words: str) -> None:
    (tmp_path / "clips.json").write_text(json.dumps(folders))
    with pytest.raises(FileError, match=words):
        from_json(tmp_path / "clips.json")
    if folders:
        with pytest.raises(FileError):
            parse_metadata(legacy(objects(folders)), source="x")


def test_json_may_say_what_made_the_audio(tmp_path: Path) -> None:
    path = tmp_path / "clips.json"
    path.write_text(json.dumps({"folder_data": FOLDERS, "extractor": "mel-1", "image_size": 256}))
    assert from_json(path) == Metadata(extractor="mel-1", image_size=256, clips=CLIPS)
    path.write_text(json.dumps({"folder_data": FOLDERS, "extracter": "mel-1"}))
    with pytest.raises(FileError, match="extracter"):
        from_json(path)


def test_metadata_is_read_from_an_address(tmp_path: Path) -> None:
    write_metadata(tmp_path / "m.npz", Metadata(extractor="mel-1", clips=CLIPS))
    data = (tmp_path / "m.npz").read_bytes()

    def answer(exchange: Exchange) -> None:
        known = exchange.path == "/some/metadata.npz"
        exchange.send(200 if known else 404, data if known else b"", "application/octet-stream")

    with Loopback(answer) as server:
        assert read_metadata(f"{server.url}/some/metadata.npz").clips == CLIPS
        with pytest.raises(FileError, match="is not there"):
            read_metadata(f"{server.url}/some/other.npz")
    with pytest.raises(UsageError, match="not encrypted"):
        read_metadata("http://example.invalid/metadata.npz")


@pytest.mark.parametrize(
    "address",
    [
        "https://example.invalid/metadata.npz?X-Amz-Signature=SECRET",
        "https://example.invalid/metadata.npz#SECRET",
        "https://someone:SECRET@example.invalid/metadata.npz",
        "https://someone:SECRET@example.invalid/",
    ],
)
def test_what_signs_an_address_is_not_repeated(address: str) -> None:
    with pytest.raises(TalentError) as caught:
        read_metadata(address)
    assert "SECRET" not in caught.value.message + caught.value.remedy


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    left = tmp_path / ".tmp-4194999-0123abcd-metadata.npz"
    left.write_bytes(b"half")
    write_metadata(tmp_path / "metadata.npz", Metadata(clips=CLIPS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metadata.npz"]
