"""The sheet shows every slot at its place, failures included, and knows which cast it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cast_maker import BlockEditor, write_face
from talent_factory.core.errors import ProviderError
from talent_factory.core.events import SilentReporter
from talent_factory.datagen.actor import CastOptions, cast_actor
from talent_factory.datagen.cast import SHEET_FILE, CastManifest
from talent_factory.datagen.contact_sheet import draw_contact_sheet, sheet_is_current, write_contact_sheet
from talent_factory.datagen.quality.verdict import Check
from talent_factory.datagen.review.book import Decision, decide


def _cast(folder: Path, editor: BlockEditor, aspect: str = "16:9") -> CastManifest:
    return cast_actor(
        write_face(folder / "face.png"),
        out=folder,
        token="dot",
        options=CastOptions(long_side=64, aspect=aspect),
        editor=editor,
        reporter=SilentReporter(),
    )


def test_each_image_stands_at_its_own_place(tmp_path: Path) -> None:
    editor = BlockEditor()
    editor.broken = {"subway": ProviderError("flagged")}
    made = _cast(tmp_path, editor)
    sheet = draw_contact_sheet(made, tmp_path)
    assert sheet.width > 6 * 400
    step = (sheet.width - 14) // 6
    cell_height = 225

    def middle(index: int) -> tuple[int, ...]:
        row, column = divmod(index, 6)
        top = 78 + row * (cell_height + 48 + 14)
        value = sheet.getpixel((14 + column * step + 30, top + cell_height - 20))
        assert isinstance(value, tuple)
        return tuple(int(part) for part in value)

    for index, slot in enumerate(made.slots, start=1):
        if slot.state == "failed":
            assert middle(index) == (30, 32, 37)
            continue
        with Image.open(tmp_path / slot.file) as image:
            corner = image.convert("RGB").getpixel((4, image.height - 4))
        assert isinstance(corner, tuple)
        assert all(abs(a - b) < 24 for a, b in zip(middle(index), corner, strict=True)), slot.name


def test_the_sheet_knows_its_cast(tmp_path: Path) -> None:
    editor = BlockEditor()
    editor.broken = {"subway": ProviderError("flagged")}
    broken = _cast(tmp_path, editor)
    path = tmp_path / SHEET_FILE
    assert sheet_is_current(broken, path)
    mended = _cast(tmp_path, BlockEditor())
    assert sheet_is_current(mended, path)
    assert not sheet_is_current(broken, path)
    path.write_bytes(b"no picture")
    assert not sheet_is_current(mended, path)
    assert not sheet_is_current(mended, tmp_path / "none.jpg")


@pytest.mark.parametrize("aspect", ["1:1", "9:16", "4:1"])
def test_other_aspects_fit(tmp_path: Path, aspect: str) -> None:
    made = _cast(tmp_path, BlockEditor(), aspect)
    write_contact_sheet(made, tmp_path, tmp_path / "sheet.jpg")
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size[0] > 500


def test_lost_images_leave_a_placeholder(tmp_path: Path) -> None:
    made = _cast(tmp_path, BlockEditor())
    (tmp_path / made.slots[3].file).unlink()
    (tmp_path / "portrait.png").write_bytes(b"")
    assert draw_contact_sheet(made, tmp_path).height > 700


def _look_odd(made: CastManifest) -> CastManifest:
    verdicts = {1: "pass", 2: "warn", 3: "fail"}
    slots = tuple(
        slot.model_copy(
            update={"checks": (Check(name="sharpness", verdict=verdicts[slot.number], note="blurred"),)}
        )
        if slot.number in verdicts
        else slot
        for slot in made.slots
    )
    return made.model_copy(update={"slots": slots})


def test_the_sheet_shows_verdicts_and_decisions(tmp_path: Path) -> None:
    plain = _cast(tmp_path, BlockEditor())
    plain = plain.model_copy(
        update={"slots": tuple(slot.model_copy(update={"checks": ()}) for slot in plain.slots)}
    )
    odd = _look_odd(plain)
    path = tmp_path / "sheet.jpg"
    write_contact_sheet(plain, tmp_path, path)
    assert not sheet_is_current(odd, path)
    before, after = draw_contact_sheet(plain, tmp_path), draw_contact_sheet(odd, tmp_path)
    line = 78 + 225 + 26
    for index in (1, 2, 3):
        box = (14 + index * 414, line, 14 + index * 414 + 400, line + 20)
        assert before.crop(box).tobytes() != after.crop(box).tobytes()
    write_contact_sheet(odd, tmp_path, path)
    assert sheet_is_current(odd, path)
    decide(
        tmp_path,
        {odd.slots[0].sha256: Decision(choice="reject"), odd.slots[2].sha256: Decision(choice="keep")},
    )
    assert not sheet_is_current(odd, path)
    crossed = draw_contact_sheet(odd, tmp_path)
    assert crossed.getpixel((14 + 414 + 200, 78 + 112)) == pytest.approx((232, 112, 104), abs=2)
    box = (14 + 3 * 414, 78, 14 + 3 * 414 + 400, 78 + 225)
    assert crossed.crop(box).tobytes() == after.crop(box).tobytes()


def test_damaged_decisions_do_not_spoil_the_sheet(tmp_path: Path) -> None:
    made = _cast(tmp_path, BlockEditor())
    (tmp_path / "review.json").write_text("{", "utf-8")
    write_contact_sheet(made, tmp_path, tmp_path / "sheet.jpg")
    assert sheet_is_current(made, tmp_path / "sheet.jpg")


@pytest.mark.parametrize(("count", "columns"), [(1, 2), (5, 6), (12, 5), (17, 6), (20, 6)])
def test_rows_are_filled_as_well_as_can_be(tmp_path: Path, count: int, columns: int) -> None:
    made = _cast(tmp_path, BlockEditor())
    slots = (made.slots * 2)[:count]
    sheet = draw_contact_sheet(made.model_copy(update={"slots": slots}), tmp_path)
    assert sheet.width == columns * 414 + 14
