"""Cutting grids: gutters are found where they are, whatever their place, width and tone."""

from __future__ import annotations

import numpy as np
import pytest

from talent_factory.core.errors import ProviderError
from talent_factory.datagen.grid import U8, cut, find_cells


def _grid(side: int, *, gutter: int, tone: int = 255, shift: tuple[int, int] = (0, 0), border: int = 0) -> U8:
    """Nine noisy tiles, each about one gray of its own, with straight gutters between them."""
    rng = np.random.default_rng(3)
    image: U8 = np.full((side, side, 3), tone, np.uint8)
    edges = [border, side // 3 + shift[0], 2 * side // 3 + shift[1], side - border]
    for row in range(3):
        for column in range(3):
            top = edges[row] + (gutter // 2 if row else 0)
            left = edges[column] + (gutter // 2 if column else 0)
            bottom = edges[row + 1] - (gutter - gutter // 2 if row < 2 else 0)
            right = edges[column + 1] - (gutter - gutter // 2 if column < 2 else 0)
            level = 30 + 20 * (3 * row + column)
            area = rng.normal(level, 14, (bottom - top, right - left, 3))
            image[top:bottom, left:right] = np.clip(area, 0, 255)
    return image


@pytest.mark.parametrize(
    ("gutter", "tone", "shift", "border"),
    [(12, 255, (0, 0), 0), (20, 0, (14, -16), 0), (6, 255, (-20, 20), 9), (30, 128, (5, 5), 14)],
)
def test_tiles_hold_no_gutter(gutter: int, tone: int, shift: tuple[int, int], border: int) -> None:
    image = _grid(900, gutter=gutter, tone=tone, shift=shift, border=border)
    cells = find_cells(image)
    tiles = [cut(image, cell) for cell in cells]
    assert [cell.number for cell in cells] == list(range(1, 10))
    assert all(cell.measured for cell in cells)
    assert len({tile.shape for tile in tiles}) == 1
    assert tiles[0].shape[0] == tiles[0].shape[1] > 900 / 3 - gutter - border - 45
    for number, tile in enumerate(tiles):
        gray = tile.astype(float).mean(axis=2)
        rims = [gray[0], gray[-1], gray[:, 0], gray[:, -1]]
        assert all(abs(rim.mean() - (30 + 20 * number)) < 6 for rim in rims), number


def test_tiles_that_touch_are_cut_at_their_seam_and_not_called_measured() -> None:
    image = _grid(900, gutter=0, shift=(9, -9))
    cells = find_cells(image)
    assert not any(cell.measured for cell in cells)
    left = cut(image, cells[0]).astype(float).mean(axis=2)
    assert abs(left[:, -1].mean() - 30) < 6
    assert abs(left[:, 0].mean() - 30) < 6


def test_plain_tiles_are_not_taken_for_gutters() -> None:
    """A tile of one colour around a gutter's place must not swallow its neighbours."""
    image = _grid(900, gutter=10)
    image[305:595, 305:595] = 255
    side = cut(image, find_cells(image)[0]).shape[0]
    assert side > 270


def test_a_flat_picture_is_cut_in_thirds() -> None:
    cells = find_cells(np.full((600, 600, 3), 90, np.uint8))
    assert cells[8].box[2] <= 600
    assert 180 < cells[0].box[2] - cells[0].box[0] <= 200


def test_a_picture_too_small_to_cut_is_refused() -> None:
    with pytest.raises(ProviderError, match="too small"):
        find_cells(np.zeros((90, 400, 3), np.uint8))
