"""Contact sheets hold any pictures and any labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from talent_factory.core.errors import UsageError
from talent_factory.foundry.sheets import contact_sheet


def test_pictures_of_any_shape_find_their_cell(tmp_path: Path) -> None:
    pictures = []
    for index, size in enumerate([(128, 128), (300, 20), (5, 700)]):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", size, (200, 30, 30)).save(path)
        pictures.append(("a label that is far too long for a cell, \n with <tags> and 漢字 " * 3, path))
    sheet = contact_sheet(pictures, columns=2, cell=64)
    assert sheet.size == (2 * 76 + 12, 2 * 102 + 12)
    assert sheet.getpixel((12 + 32, 12 + 32)) == (200, 30, 30)


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(UsageError):
        contact_sheet([])
