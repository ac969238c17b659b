"""Folders as kohya's tools know them: the class in general, masks, and what those tools leave behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.photo_maker import textured

from talent_factory.core.errors import DatasetError
from talent_factory.dataset.layout import read_folder, write_kohya
from talent_factory.dataset.manifest import DatasetManifest, load_dataset, verify_files
from talent_factory.dataset.prepare import check_folder, prepare_folder


def _image(path: Path, seed: int, caption: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    textured(seed).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Three pictures of zwx, shown 2 + 2 + 5 times, and two of men."""
    folder = tmp_path / "project"
    _image(folder / "img" / "2_zwx man" / "a.png", 1, "zwx man, a walk in the wood")
    _image(folder / "img" / "2_zwx man" / "b.png", 2, "zwx man, at the sea, sunny")
    _image(folder / "img" / "5_zwx man" / "c.png", 3, "zwx man, on a roof at night")
    _image(folder / "reg" / "1_man" / "x.png", 4)
    _image(folder / "reg" / "1_man" / "y.png", 5)
    (folder / "log").mkdir()
    (folder / "img" / "2_zwx man" / "a.npz").write_bytes(b"cache")
    (folder / "img" / "2_zwx man" / "metadata_cache.json").write_text("{}")
    return folder


def _prepare(folder: Path, out: Path) -> DatasetManifest:
    return prepare_folder(folder, out=out, kind="identity", token="zwx", class_noun="man", resolution=64)


def test_a_project_is_read_with_its_class_images(project: Path) -> None:
    assert [(s.name, s.repeats, s.regular, s.caption) for s in read_folder(project)] == [
        ("img/2_zwx man/a.png", 2, False, "zwx man, a walk in the wood"),
        ("img/2_zwx man/b.png", 2, False, "zwx man, at the sea, sunny"),
        ("img/5_zwx man/c.png", 5, False, "zwx man, on a roof at night"),
        ("reg/1_man/x.png", 1, True, "man"),
        ("reg/1_man/y.png", 1, True, "man"),
    ]


def test_class_images_are_shown_as_often_and_never_get_the_trigger(project: Path, tmp_path: Path) -> None:
    made = _prepare(project, tmp_path / "out")
    own = sum(item.repeats for item in made.items if not item.regular)
    assert own == sum(item.repeats for item in made.items if item.regular) == 9
    assert [item.caption for item in made.items if item.regular] == ["man", "man"]
    assert not [finding for finding in made.findings if finding.severity == "error"]


def test_more_class_images_than_are_shown_are_left_out(project: Path, tmp_path: Path) -> None:
    for number in range(20):
        _image(project / "reg" / "1_man" / f"z{number:02d}.png", 30 + number)
    made = _prepare(project, tmp_path / "out")
    regular = [item for item in made.items if item.regular]
    assert len(regular) == 9
    assert {item.repeats for item in regular} == {1}


def test_class_images_that_call_the_trigger_are_refused(project: Path) -> None:
    (project / "reg" / "1_man" / "x.txt").write_text("zwx man")
    (project / "reg" / "1_man" / "y.txt").write_text("man")
    with pytest.raises(DatasetError, match=r"reg/1_man/x\.png is an image of the class"):
        check_folder(project, kind="identity", token="zwx")


def test_what_is_written_is_read_back(project: Path, tmp_path: Path) -> None:
    Image.new("L", (160, 120), 200).save(project / "img" / "5_zwx man" / "c.mask.png")
    made = _prepare(project, tmp_path / "out")
    again = write_kohya(tmp_path / "out", made, tmp_path / "kohya")
    assert (again / "masks").is_dir()
    read = read_folder(again)
    assert sorted((s.repeats, s.regular, s.caption or "") for s in read) == sorted(
        (item.repeats, item.regular, item.caption) for item in made.items
    )


def test_a_mask_gets_the_cut_of_its_image(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    _image(folder / "a.png", 1, "zwx man, a walk in the wood")
    whole = np.zeros((120, 160), np.uint8)
    whole[:, 80:] = 255
    Image.fromarray(whole).save(folder / "a.mask.png")
    made = _prepare(folder, tmp_path / "out")
    (item,) = made.items
    assert item.mask == "images/01.mask.png"
    # the picture is cut with the same box, so the half that is white in one is the right one in the other
    mask = np.asarray(Image.open(tmp_path / "out" / item.mask))
    picture = np.asarray(Image.open(tmp_path / "out" / item.file), np.int16)
    source = np.asarray(textured(1).resize((85, 64), Image.Resampling.LANCZOS), np.int16)
    errors = [np.abs(source[:, left : left + 64] - picture).mean() for left in range(22)]
    left = int(np.argmin(errors))
    edge = int(np.argmax(mask[32] > 127))
    assert abs(edge - (42.5 - left)) <= 1.5
    assert load_dataset(tmp_path / "out").fingerprint == made.fingerprint


def test_a_changed_mask_is_another_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    _image(folder / "a.png", 1, "zwx man, a walk in the wood")
    plain = _prepare(folder, tmp_path / "plain")
    Image.new("L", (160, 120), 200).save(folder / "a.mask.png")
    masked = _prepare(folder, tmp_path / "masked")
    assert plain.fingerprint != masked.fingerprint
    assert plain.items[0].digest != masked.items[0].digest
    assert verify_files(tmp_path / "masked", masked) == []
    Image.new("L", (64, 64), 9).save(tmp_path / "masked" / "images" / "01.mask.png")
    (finding,) = verify_files(tmp_path / "masked", masked)
    assert (finding.severity, finding.subject) == ("error", "images/01.mask.png")


@pytest.mark.parametrize(
    ("size", "value", "said"),
    [((120, 160), 255, "not the shape of its image"), ((160, 120), 0, "black wherever")],
)
def test_masks_that_cannot_be_meant_are_refused(
    tmp_path: Path, size: tuple[int, int], value: int, said: str
) -> None:
    folder = tmp_path / "in"
    _image(folder / "a.png", 1, "zwx man, a walk in the wood")
    Image.new("L", size, value).save(folder / "a.mask.png")
    with pytest.raises(DatasetError, match=said):
        _prepare(folder, tmp_path / "out")


def test_a_mask_without_its_image_is_named(tmp_path: Path) -> None:
    _image(tmp_path / "a.png", 1, "zwx man")
    Image.new("L", (8, 8), 255).save(tmp_path / "b.mask.png")
    with pytest.raises(DatasetError, match=r"1 masks without an image: b\.mask\.png"):
        read_folder(tmp_path)


def test_a_style_that_is_never_called_is_refused(tmp_path: Path) -> None:
    _image(tmp_path / "a.png", 1, "a house in the snow")
    with pytest.raises(DatasetError, match="none of the 1 captions holds the trigger 'inkx'"):
        check_folder(tmp_path, kind="style", token="inkx")
    check_folder(tmp_path, kind="style", token="")


def test_an_identity_that_is_never_called_is_repaired_with_a_warning(tmp_path: Path) -> None:
    _image(tmp_path / "in" / "a.png", 1, "a house in the snow")
    made = _prepare(tmp_path / "in", tmp_path / "out")
    assert made.items[0].caption == "zwx man, a house in the snow"
    (finding,) = [finding for finding in made.findings if finding.subject == "trigger"]
    assert finding.severity == "warn"
