"""Datasets from casts and from folders: whole, described by one manifest, never prepared twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from cast_maker import BlockEditor, write_face
from talent_factory.core.errors import DatasetError, ProviderError, UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.core.records import write_record
from talent_factory.datagen.actor import CastOptions, cast_actor
from talent_factory.datagen.cast import CAST_FILE, load_cast
from talent_factory.datagen.quality.verdict import Check
from talent_factory.datagen.review.book import Decision, decide
from talent_factory.dataset.captions import CaptionStyle
from talent_factory.dataset.manifest import DatasetManifest, load_dataset
from talent_factory.dataset.prepare import check_dataset, prepare_cached, prepare_cast, prepare_folder


@pytest.fixture
def cast(tmp_path: Path) -> Path:
    """A cast of 16 images; the slot `manga` failed."""
    editor = BlockEditor()
    editor.broken = {"manga": ProviderError("flagged")}
    cast_actor(
        write_face(tmp_path / "face.png"),
        out=tmp_path / "cast",
        token="dot",
        options=CastOptions(long_side=160, sex="woman", portrait_medium="flat", portrait_words=("smiling",)),
        editor=editor,
        reporter=SilentReporter(),
    )
    return tmp_path / "cast"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three captioned pictures."""
    for name, caption in (("a", "dot woman at sea"), ("b", "a walk in the wood"), ("c", "dot, city street")):
        write_face(tmp_path / "mine" / f"{name}.jpg", (200, 120))
        (tmp_path / "mine" / f"{name}.txt").write_text(caption)
    return tmp_path / "mine"


def _mine(folder: Path, out: Path, **changes: object) -> DatasetManifest:
    aim: dict[str, object] = {"kind": "identity", "token": "dot", "class_noun": "woman", "resolution": 64}
    return prepare_folder(folder, out=out, **{**aim, **changes})  # type: ignore[arg-type]


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_cast_becomes_a_dataset(cast: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    made = prepare_cast(cast, out=out, resolution=128)
    assert load_dataset(out) == made
    assert len(made.items) == 16
    assert (made.kind, made.token, made.class_noun, made.resolution) == ("identity", "dot", "woman", 128)
    assert made.augmented == 2
    for number, item in enumerate(made.items, start=1):
        assert item.file == f"images/{number:02d}.png"
        with Image.open(out / item.file) as image:
            assert (image.size, image.mode) == ((128, 128), "RGB")
        assert (out / item.file).with_suffix(".txt").read_text() == item.caption + "\n"
        assert "of a dot woman" in item.caption
        assert "smiling" in item.caption
    by_source = {item.source: item for item in made.items}
    assert by_source["cast slot 4 subway"].augmentation
    assert by_source["cast slot 4 subway"].caption.startswith("flat portrait")
    assert by_source["cast slot 8 pen_ink"].method == "blocks-1"
    assert not any("manga" in source for source in by_source)


def test_the_same_cast_is_prepared_once_and_other_choices_anew(cast: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    first = prepare_cast(cast, out=out, resolution=128)
    times = _times(out)
    assert prepare_cast(cast, out=out, resolution=128) == first
    assert _times(out) == times
    other = prepare_cast(cast, out=out, resolution=96, mode="letterbox")
    assert (other.resolution, other.mode) == (96, "letterbox")
    assert other.fingerprint != first.fingerprint
    worded = prepare_cast(cast, out=out, resolution=128, style=CaptionStyle(form="trigger_first"))
    assert worded.items[0].caption.startswith("dot woman, ")
    assert worded.fingerprint != first.fingerprint
    assert prepare_cast(cast, out=out, resolution=128).fingerprint == first.fingerprint


def test_the_portrait_can_be_trained_on_too(cast: Path, tmp_path: Path) -> None:
    made = prepare_cast(cast, out=tmp_path / "data", resolution=128, include_portrait=True)
    assert made.items[-1].source == "portrait"
    assert made.items[-1].caption == "flat portrait of a dot woman, teal background, smiling"


def test_a_damaged_dataset_is_prepared_again(cast: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    first = prepare_cast(cast, out=out, resolution=64)
    (out / first.items[2].file).write_bytes(b"gone")
    assert any(f.severity == "error" for f in check_dataset(out))
    assert prepare_cast(cast, out=out, resolution=64) == first
    (out / "dataset.json").write_text("{")
    assert prepare_cast(cast, out=out, resolution=64) == first
    assert not any(f.severity == "error" for f in check_dataset(out))


def test_bad_casts_are_refused(cast: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cast\.json") as caught:
        prepare_cast(tmp_path, out=tmp_path / "data", resolution=64)
    assert "talent cast" in caught.value.remedy
    (cast / "images" / "01_rain_street.png").unlink()
    with pytest.raises(DatasetError, match="01_rain_street"):
        prepare_cast(cast, out=tmp_path / "data", resolution=64)
    assert not (tmp_path / "data").exists()
    (cast / "cast.json").write_text('{"version": 9}')
    with pytest.raises(DatasetError, match="version"):
        prepare_cast(cast, out=tmp_path / "data", resolution=64)


def test_a_folder_becomes_a_dataset_with_the_trigger_in_every_caption(folder: Path, tmp_path: Path) -> None:
    made = _mine(folder, tmp_path / "data")
    assert [item.caption for item in made.items] == [
        "dot woman at sea",
        "dot woman, a walk in the wood",
        "dot, city street",
    ]
    assert [item.source for item in made.items] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [finding.subject for finding in check_dataset(tmp_path / "data")] == ["crop"]
    shutil.move(folder, tmp_path / "moved")
    assert _mine(tmp_path / "moved", tmp_path / "again") == made


def test_a_style_keeps_its_captions_and_may_have_no_token(folder: Path, tmp_path: Path) -> None:
    made = _mine(folder, tmp_path / "data", kind="style", token="", class_noun="")
    assert made.items[1].caption == "a walk in the wood"
    assert made.token == ""


def test_buckets_are_recorded(folder: Path, tmp_path: Path) -> None:
    made = _mine(folder, tmp_path / "data", resolution=128, mode="bucket")
    assert (made.items[0].width, made.items[0].height) == (160, 96)


def test_a_folder_below_the_cache_is_named_by_its_contents(folder: Path, tmp_path: Path) -> None:
    def cached() -> Path:
        return prepare_cached(
            folder,
            datasets=tmp_path / "sets",
            kind="identity",
            token="dot",
            class_noun="woman",
            resolution=64,
        )

    one = cached()
    times = _times(one)
    assert cached() == one
    assert _times(one) == times
    (folder / "a.txt").write_text("dot woman in the rain")
    assert cached() != one
    assert len(list((tmp_path / "sets").iterdir())) == 2


def test_an_image_without_caption_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "b.txt").unlink()
    (folder / "c.txt").write_text("  \n")
    with pytest.raises(DatasetError, match=r"2 of 3 images have no caption: b\.jpg, c\.jpg") as caught:
        _mine(folder, tmp_path / "data")
    assert "b.txt" in caught.value.remedy
    assert not (tmp_path / "data").exists()


def test_a_picture_that_cannot_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:300])
    with pytest.raises(DatasetError, match=r"b\.jpg"):
        _mine(folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_foreign_folders_are_never_replaced(folder: Path, tmp_path: Path) -> None:
    for out in (folder, folder / "inside"):
        with pytest.raises(DatasetError, match="lies in the folder"):
            _mine(folder, out)
    foreign = tmp_path / "holiday"
    write_face(foreign / "photo.jpg")
    with pytest.raises(DatasetError, match="is no dataset"):
        _mine(folder, foreign)
    assert (foreign / "photo.jpg").is_file()
    (tmp_path / "fresh").mkdir()
    assert _mine(folder, tmp_path / "fresh").items


def test_an_identity_needs_a_token(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="token"):
        _mine(folder, tmp_path / "data", token="")


def test_check_names_what_was_changed_by_hand(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    _mine(folder, out)
    (out / "images" / "01.txt").write_text("another text")
    (out / "images" / "02.png").unlink()
    write_face(out / "images" / "99.png")
    found = {finding.subject: finding.severity for finding in check_dataset(out)}
    wanted = {"images/01.txt": "warn", "images/02.png": "error", "images/99.png": "warn"}
    assert found == wanted | {"crop": "warn"}


def test_a_persons_word_outranks_the_checks(cast: Path, tmp_path: Path) -> None:
    before = prepare_cast(cast, out=tmp_path / "data", resolution=64)
    manifest = load_cast(cast)
    blurred = Check(name="sharpness", verdict="fail", value=2.0, limit=18.0, note="blurred")
    fine = blurred.model_copy(update={"verdict": "pass", "note": ""})
    slots = tuple(
        slot.model_copy(update={"checks": (blurred if slot.number in (1, 2) else fine,)})
        for slot in manifest.slots
    )
    write_record(cast / CAST_FILE, manifest.model_copy(update={"slots": slots}))
    one, two, three = (slot.sha256 for slot in manifest.slots[:3])
    decide(cast, {one: Decision(choice="keep"), three: Decision(choice="reject")})
    made = prepare_cast(cast, out=tmp_path / "data", resolution=64)
    assert len(made.items) == len(before.items) - 1
    assert not any("slot 3 " in item.source for item in made.items)
    said = [finding for finding in made.findings if "check" in finding.message or finding.subject == "review"]
    assert [finding.subject for finding in said] == ["review", "cast slot 2 eye_contact"]
    assert "blurred" in said[1].message
    assert "03 window_light" in said[0].message
    assert prepare_cast(cast, out=tmp_path / "data", resolution=64) == made
    decide(cast, {two: Decision(choice="keep"), three: None})
    again = prepare_cast(cast, out=tmp_path / "data", resolution=64)
    assert again.fingerprint == before.fingerprint


def test_names_that_are_no_utf_8(folder: Path, tmp_path: Path) -> None:
    (folder / "a.jpg").rename(folder / "a\udcff.jpg")
    (folder / "a.txt").rename(folder / "a\udcff.txt")
    made = _mine(folder, tmp_path / "out")
    assert [item.source for item in made.items] == ["a\ufffd.jpg", "b.jpg", "c.jpg"]
    assert _mine(folder, tmp_path / "out") == made
