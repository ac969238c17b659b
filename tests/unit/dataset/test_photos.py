"""Photos of a person are looked at before a likeness is trained: what will do, and what the set lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.photo_maker import astronaut, blurred, textured, write_photos

from talent_factory.core.errors import DatasetError
from talent_factory.dataset.photo_folder import write_photo_folder, write_photo_sheet
from talent_factory.dataset.photos import Photo, PhotoSet, examine_photos


def _remarks(found: PhotoSet) -> dict[str, str]:
    return {photo.name: "; ".join(photo.remarks) for photo in found.photos}


def _said(found: PhotoSet, subject: str) -> tuple[str, str]:
    finding = next(finding for finding in found.findings if finding.subject == subject)
    return finding.severity, finding.message


def test_what_is_wrong_with_a_photo_is_said_of_it(tmp_path: Path) -> None:
    folder = write_photos(tmp_path, 3)
    first = textured(0)
    ImageOps.mirror(first).save(folder / "10_mirrored.png")
    blurred(textured(20)).save(folder / "11_blurred.png")
    textured(21, (70, 66)).save(folder / "12_small.png")
    Image.new("RGB", (160, 120), (90, 90, 90)).save(folder / "13_empty.png")
    (folder / "14_broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    found = examine_photos(folder, resolution=160)
    said = _remarks(found)
    assert said["00.jpg"] == said["01.jpg"] == said["02.jpg"] == ""
    assert said["10_mirrored.png"] == "the same as 00.jpg, mirrored"
    assert "blurred" in said["11_blurred.png"]
    assert "enlarged 2.3 times" in said["12_small.png"]
    assert "hardly anything can be seen" in said["13_empty.png"]
    assert said["14_broken.jpg"]
    assert found.kept == ("00.jpg", "01.jpg", "02.jpg")
    assert [photo.name[:2] for photo in found.left_out] == ["10", "11", "12", "13", "14"]


def test_all_that_can_be_read_may_be_kept(tmp_path: Path) -> None:
    folder = write_photos(tmp_path, 1)
    textured(0).save(folder / "copy.png")
    (folder / "broken.png").write_bytes(b"no")
    assert examine_photos(folder, resolution=64).kept == ("00.jpg",)
    assert examine_photos(folder, resolution=64, keep_all=True).kept == ("00.jpg", "copy.png")


def test_drawn_pictures_may_be_soft(tmp_path: Path) -> None:
    blurred(textured(1)).save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match="none of the 1 photos can be used"):
        examine_photos(tmp_path, resolution=64)
    assert examine_photos(tmp_path, resolution=64, drawn=True).kept == ("a.png",)


def test_all_refused_names_the_reasons(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"no")
    with pytest.raises(DatasetError, match=r"none of the 4 photos can be used \(0.jpg: ") as caught:
        examine_photos(tmp_path, resolution=64)
    assert "--keep-all" in caught.value.remedy
    with pytest.raises(DatasetError, match="no such folder"):
        examine_photos(tmp_path / "gone", resolution=64)


@pytest.mark.parametrize(
    ("count", "severity"), [(3, "warn"), (19, "warn"), (20, "ok"), (40, "ok"), (41, "warn")]
)
def test_twenty_to_forty_are_wanted(tmp_path: Path, count: int, severity: str) -> None:
    found = examine_photos(write_photos(tmp_path, count, size=(96, 72)), resolution=64)
    assert _said(found, "number")[0] == severity
    assert len(found.kept) == count


def test_angles_are_measured_where_a_face_is_found_and_said_not_to_be_elsewhere(tmp_path: Path) -> None:
    folder = write_photos(tmp_path, 2)
    assert _said(examine_photos(folder, resolution=64), "angles")[1].startswith("not measured")
    astronaut().save(folder / "a.jpg")
    astronaut().crop((120, 0, 340, 300)).save(folder / "b.jpg")
    found = examine_photos(folder, resolution=64)
    assert _said(found, "angles")[1].startswith("2 from the front, 2 turned or hidden")
    framings = {photo.name: photo.framing for photo in found.photos}
    assert framings["00.jpg"] == ""
    assert framings["a.jpg"] in ("portrait", "body")
    assert framings["b.jpg"] in ("portrait", "close-up")


def test_two_people_in_one_photo_are_warned_of(tmp_path: Path) -> None:
    both = Image.new("RGB", (1024, 512))
    both.paste(astronaut(), (0, 0))
    both.paste(astronaut(), (512, 0))
    both.save(tmp_path / "both.jpg")
    found = examine_photos(tmp_path, resolution=64)
    assert _remarks(found)["both.jpg"].startswith("2 faces")
    assert found.kept == ("both.jpg",)


def test_the_whole_photo_stands_on_white(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (200, 100), (20, 60, 200)).save(folder / "wide.png")
    textured(3, (120, 240)).save(folder / "tall.png")
    (folder / "tall.txt").write_text("at the sea, red coat")
    found = examine_photos(folder, resolution=64, keep_all=True)
    place = write_photo_folder(found, tmp_path / "out", token="zwx", class_noun="woman", resolution=64)
    assert place.name == "30_zwx"
    tall, wide = (np.asarray(Image.open(place / name)) for name in ("01.png", "02.png"))
    assert tall.shape == wide.shape == (64, 64, 3)
    assert (wide[:16] == 255).all()
    assert (wide[48:] == 255).all()
    assert (wide[18:46] == (20, 60, 200)).all()
    assert (tall[:, :16] == 255).all()
    assert (place / "01.txt").read_text() == "zwx woman, at the sea, red coat\n"
    assert (place / "02.txt").read_text() == "photo of a zwx woman, blue background\n"


def test_a_mask_is_squared_with_its_photo(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 1, size=(200, 100))
    Image.new("L", (200, 100), 255).save(folder / "00.mask.png")
    found = examine_photos(folder, resolution=64)
    place = write_photo_folder(found, tmp_path / "out", token="zwx", class_noun="man", resolution=64)
    mask = np.asarray(Image.open(place / "01.mask.png"))
    assert (mask[:15] == 0).all()
    assert (mask[17:47] == 255).all()


def test_the_sheet_shows_every_photo(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 9)
    (folder / "zz.jpg").write_bytes(b"no")
    found = examine_photos(folder, resolution=64)
    place = write_photo_folder(found, tmp_path / "out", token="zwx", class_noun="man", resolution=64)
    sheet = Image.open(write_photo_sheet(found, place, tmp_path / "sheet.jpg", title="zwx"))
    assert sheet.size[0] > 8 * 180
    assert sheet.size[1] > 2 * 180
    pixels = np.asarray(sheet, np.int16)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 140) & (pixels[..., 2] < 140)
    assert red[300:480, 200:380].sum() > 300  # the broken one, second in the second row, is crossed out
    assert np.asarray(sheet)[64:244, 12:192].std() > 20  # and the first one is to be seen


def test_a_photo_says_whether_it_is_unfit() -> None:
    assert not Photo(name="a", sha256="0" * 64).unfit
