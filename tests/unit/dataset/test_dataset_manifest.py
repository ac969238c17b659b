"""The manifest is strict about where its files lie, and its fingerprint follows what is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from talent_factory.core.doctor import Finding
from talent_factory.core.errors import DatasetError
from talent_factory.core.records import write_record
from talent_factory.dataset.manifest import DatasetManifest, Item, load_dataset

ITEM = Item(file="images/01.png", sha256="a" * 64, caption="dot woman", width=64, height=64, source="a.png")
DATA = DatasetManifest(
    kind="identity",
    token="dot",
    class_noun="woman",
    resolution=64,
    mode="crop",
    source_key="b" * 64,
    items=(ITEM,),
)


@pytest.mark.parametrize(
    "file",
    ["../01.png", "/etc/passwd", "images/../../x.png", "images/a.txt", "images/01.png\n", "images//a.png"],
)
def test_files_outside_the_folder_are_refused(file: str) -> None:
    with pytest.raises(ValidationError):
        Item.model_validate({**ITEM.model_dump(), "file": file})


def test_a_manifest_survives_the_disk_and_nothing_unknown_is_read(tmp_path: Path) -> None:
    write_record(tmp_path / "dataset.json", DATA)
    assert load_dataset(tmp_path) == DATA
    text = (tmp_path / "dataset.json").read_text().replace('"token"', '"tocken"')
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match="tocken"):
        load_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"dataset\.json") as caught:
        load_dataset(tmp_path / "none")
    assert "talent dataset prepare" in caught.value.remedy


def test_an_empty_dataset_is_none() -> None:
    with pytest.raises(ValidationError):
        DatasetManifest.model_validate({**DATA.model_dump(), "items": []})


def test_the_fingerprint_follows_all_that_is_trained_on_and_only_that() -> None:
    changes: list[dict[str, object]] = [
        {"token": "dat"},
        {"class_noun": "man"},
        {"resolution": 96},
        {"kind": "style"},
        {"items": (ITEM, ITEM)},
        *({"items": (ITEM.model_copy(update=change),)} for change in (
            {"caption": "dot woman, sea"}, {"sha256": "c" * 64}, {"repeats": 2})),
    ]  # fmt: skip
    prints = {DATA.model_copy(update=change).fingerprint for change in changes}
    assert len(prints | {DATA.fingerprint}) == len(changes) + 1
    finding = Finding(severity="warn", subject="s", message="m")
    assert DATA.model_copy(update={"findings": (finding,)}).fingerprint == DATA.fingerprint
    two = ITEM.model_copy(update={"caption": "other"})
    one_way = DATA.model_copy(update={"items": (ITEM, two)})
    assert one_way.fingerprint != DATA.model_copy(update={"items": (two, ITEM)}).fingerprint
