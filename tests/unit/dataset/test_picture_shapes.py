"""Sizes that no model takes are refused; what a size costs the pictures is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tests.photo_maker import write_photos

from talent_factory.core.errors import DatasetError
from talent_factory.dataset.prepare import prepare_folder
from talent_factory.dataset.shapes import check_resolution, shape_findings


@pytest.mark.parametrize("resolution", [8, 64, 72, 520, 1000, 1024])
def test_any_multiple_of_eight_will_do(resolution: int) -> None:
    assert check_resolution(resolution) == resolution


@pytest.mark.parametrize(("resolution", "near"), [(500, "496 or 504"), (7, "8 or 8"), (1023, "1016 or 1024")])
def test_other_sizes_are_refused_with_the_nearest(resolution: int, near: str) -> None:
    with pytest.raises(DatasetError, match="not a multiple of 8") as caught:
        check_resolution(resolution)
    assert near in caught.value.remedy


def test_odd_sizes_are_prepared_to_the_pixel(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "in", 1)
    (folder / "00.txt").write_text("zwx in a wood, red coat")
    order = {"kind": "identity", "token": "zwx", "class_noun": "man"}
    made = prepare_folder(folder, out=tmp_path / "out", resolution=72, **order)  # type: ignore[arg-type]
    with Image.open(tmp_path / "out" / made.items[0].file) as picture:
        assert picture.size == (72, 72)
    with pytest.raises(DatasetError, match="resolution 70 is not a multiple"):
        prepare_folder(folder, out=tmp_path / "no", resolution=70, **order)  # type: ignore[arg-type]


def test_small_pictures_and_deep_cuts_are_warned_of() -> None:
    said = {
        f.subject: f.message for f in shape_findings([(512, 512), (256, 900)], resolution=512, mode="crop")
    }
    assert said["size"] == "1 of 2 are enlarged, up to 2.0 times"
    assert said["crop"].startswith("1 of 2 lose more than a third of their area, up to 72%")


def test_a_letterbox_cuts_nothing() -> None:
    assert shape_findings([(1024, 512), (512, 1024)], resolution=512, mode="letterbox") == []


def test_buckets_are_counted_and_lone_ones_named() -> None:
    sizes = [(512, 512)] * 3 + [(512, 1024)]
    counted, lone = shape_findings(sizes, resolution=512, mode="bucket")
    assert (counted.severity, counted.message) == ("ok", "2 shapes: 512 x 512 (3), 320 x 704 (1)")
    assert lone.severity == "warn"
    assert "320 x 704" in lone.message
    assert [f.severity for f in shape_findings([(512, 512)] * 4, resolution=512, mode="bucket")] == ["ok"]
