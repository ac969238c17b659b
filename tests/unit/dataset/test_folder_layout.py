"""Folders as people and other tools make them: read where they are whole, refused by name where not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cast_maker import write_face
from talent_factory.core.errors import DatasetError
from talent_factory.dataset.layout import read_folder, write_image_folder, write_kohya, write_metadata_jsonl
from talent_factory.dataset.prepare import prepare_folder


def _pair(folder: Path, stem: str, caption: str | None, suffix: str = "png") -> Path:
    path = write_face(folder / f"{stem}.{suffix}", (80, 80))
    if caption is not None:
        (folder / f"{stem}.txt").write_text(caption, "utf-8")
    return path


def test_a_plain_folder_in_name_order(tmp_path: Path) -> None:
    _pair(tmp_path, "b", "two\n words ")
    _pair(tmp_path, "a", "one", "jpg")
    _pair(tmp_path, "c", "\ufeffthree")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "._a.jpg").write_bytes(b"x")
    (tmp_path / "notes.md").write_text("not for training")
    (tmp_path / "README.txt").write_text("nor this")
    found = read_folder(tmp_path)
    assert [(source.name, source.caption) for source in found] == [
        ("a.jpg", "one"),
        ("b.png", "two words"),
        ("c.png", "three"),
    ]


def test_kohya_folders_give_repeats_and_a_caption(tmp_path: Path) -> None:
    _pair(tmp_path / "10_dot woman", "a", None)
    _pair(tmp_path / "3_dot woman", "b", "dot woman on a hill")
    _pair(tmp_path / "samples", "ignored", "no kohya name")
    found = read_folder(tmp_path)
    assert [(source.name, source.caption, source.repeats) for source in found] == [
        ("10_dot woman/a.png", "dot woman", 10),
        ("3_dot woman/b.png", "dot woman on a hill", 3),
    ]


def test_a_prepared_dataset_gives_what_its_manifest_says(tmp_path: Path) -> None:
    _pair(tmp_path / "own" / "3_dot woman", "a", "dot woman on a hill")
    _pair(tmp_path / "own" / "1_dot woman", "b", "dot woman at home")
    made = tmp_path / "made"
    wishes = {"kind": "identity", "token": "dot", "class_noun": "woman", "resolution": 64}
    first = prepare_folder(tmp_path / "own", out=made, **wishes)
    found = read_folder(made)
    assert [(s.path, s.name, s.caption, s.repeats) for s in found] == [
        (made / item.file, item.file, item.caption, item.repeats) for item in first.items
    ]
    again = prepare_folder(made, out=tmp_path / "again", **wishes)
    assert [(i.sha256, i.caption, i.repeats) for i in again.items] == [
        (i.sha256, i.caption, i.repeats) for i in first.items
    ]


def test_an_edited_text_of_a_prepared_dataset_is_not_passed_over(tmp_path: Path) -> None:
    _pair(tmp_path / "own", "a", "dot woman on a hill")
    made = tmp_path / "made"
    prepare_folder(
        tmp_path / "own", out=made, kind="identity", token="dot", class_noun="woman", resolution=64
    )
    (text,) = (made / "images").glob("*.txt")
    text.write_text("dot woman in the woods", "utf-8")
    with pytest.raises(DatasetError, match=r"differs from dataset\.json") as refused:
        read_folder(made)
    assert str(made / "images") in refused.value.remedy
    assert [source.caption for source in read_folder(made / "images")] == ["dot woman in the woods"]


def test_a_cast_is_told_from_a_folder_of_images(tmp_path: Path) -> None:
    _pair(tmp_path / "images", "a", None)
    (tmp_path / "cast.json").write_text("{}")
    with pytest.raises(DatasetError, match="is a cast") as refused:
        read_folder(tmp_path)
    assert refused.value.remedy.startswith(f"talent dataset prepare {tmp_path}")


def test_metadata_jsonl_gives_captions(tmp_path: Path) -> None:
    _pair(tmp_path, "a", None)
    _pair(tmp_path, "b", "its own text")
    rows = [{"file_name": "a.png", "text": "from the table"}, {"file_name": "b.png", "text": "not this"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert [source.caption for source in read_folder(tmp_path)] == ["from the table", "its own text"]


def test_a_caption_may_end_in_caption(tmp_path: Path) -> None:
    _pair(tmp_path, "a", None)
    (tmp_path / "a.caption").write_text("told here")
    assert read_folder(tmp_path)[0].caption == "told here"


def test_bad_folders_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(DatasetError, match="a file"):
        read_folder(write_face(tmp_path / "file.png"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DatasetError, match="no images") as caught:
        read_folder(empty)
    assert "talent cast" in caught.value.remedy


def test_captions_without_images_are_named(tmp_path: Path) -> None:
    _pair(tmp_path, "a", "fine")
    (tmp_path / "ghost.txt").write_text("who?")
    with pytest.raises(DatasetError, match=r"1 captions without an image: ghost\.txt"):
        read_folder(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"no images: a\.txt, ghost\.txt"):
        read_folder(tmp_path)


def test_a_table_that_names_missing_images_is_refused(tmp_path: Path) -> None:
    _pair(tmp_path, "a", None)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "gone.png", "text": "x"}\n')
    with pytest.raises(DatasetError, match=r"gone\.png"):
        read_folder(tmp_path)


@pytest.mark.parametrize("row", ["not json", '{"text": "x"}', "[1]", '{"file_name": "a.png"}'])
def test_a_broken_table_names_its_line(tmp_path: Path, row: str) -> None:
    _pair(tmp_path, "a", "fine")
    (tmp_path / "metadata.jsonl").write_text(f'{{"file_name": "a.png", "text": "ok"}}\n{row}\n')
    with pytest.raises(DatasetError, match="line 2"):
        read_folder(tmp_path)


def test_twins_and_unreadable_captions_are_refused(tmp_path: Path) -> None:
    _pair(tmp_path, "a", "one")
    _pair(tmp_path, "a", "one", "jpg")
    with pytest.raises(DatasetError, match="share one caption"):
        read_folder(tmp_path)
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00caf\xe9")
    with pytest.raises(DatasetError, match="UTF-8"):
        read_folder(tmp_path)
    (tmp_path / "a.txt").write_text("x" * 20_000)
    with pytest.raises(DatasetError, match="KiB"):
        read_folder(tmp_path)


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    source = tmp_path / "source" / "4_x"
    _pair(source, "a", "dot woman on a hill")
    _pair(source, "b", "dot woman at sea")
    out = tmp_path / "data"
    made = prepare_folder(
        tmp_path / "source", out=out, kind="identity", token="dot", class_noun="woman", resolution=64
    )
    kohya = write_kohya(out, made, tmp_path / "kohya")
    again = read_folder(kohya)
    assert [(source.caption, source.repeats) for source in again] == [
        ("dot woman on a hill", 4),
        ("dot woman at sea", 4),
    ]
    assert {path.name for path in kohya.iterdir()} == {"4_dot woman"}
    with pytest.raises(DatasetError, match="not empty"):
        write_kohya(out, made, tmp_path / "kohya")
    rows = [json.loads(line) for line in write_metadata_jsonl(out, made).read_text().splitlines()]
    assert rows[0] == {"file_name": "images/01.png", "text": "dot woman on a hill"}
    folder = write_image_folder(out, made, tmp_path / "hub")
    told = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert told == rows
    assert all(
        (folder / row["file_name"]).read_bytes() == (out / row["file_name"]).read_bytes() for row in told
    )
    with pytest.raises(DatasetError, match="not empty"):
        write_image_folder(out, made, tmp_path / "hub")
