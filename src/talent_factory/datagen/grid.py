"""A picture of three by three tiles, cut where its gutters really are, into equal squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from talent_factory.core.errors import ProviderError

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

CELLS = 3
_WINDOW = 0.04  # how far a gutter may lie from k * W / 3, as a share of W
_INSET = 0.012  # taken off every side of a cell, as a share of the cell
_SMALLEST = 3 * 48


@dataclass(frozen=True, slots=True)
class Cell:
    """One tile of a grid: its number (1 to 9, row by row), where it lay, and whether gutters bound it.

    `box` is (left, top, right, bottom) in pixels of the grid.
    """

    number: int
    box: tuple[int, int, int, int]
    measured: bool


def find_cells(image_HWC: U8) -> tuple[Cell, ...]:
    """The nine tiles of a grid (H, W, 3), all of one size. Raises ProviderError when it is too small."""
    height, width = image_HWC.shape[:2]
    if min(height, width) < _SMALLEST:
        raise ProviderError(f"a grid of {width} x {height} pixels is too small to cut")
    gray = image_HWC.astype(np.float64).mean(axis=2)
    columns, sure_x = _spans(gray)
    rows, sure_y = _spans(gray.T)
    side = min(min(b - a for a, b in columns), min(b - a for a, b in rows))
    side -= 2 * max(1, round(side * _INSET))
    cells = []
    for number in range(CELLS * CELLS):
        (top, bottom), (left, right) = rows[number // CELLS], columns[number % CELLS]
        x, y = (left + right - side) // 2, (top + bottom - side) // 2
        cells.append(Cell(number + 1, (x, y, x + side, y + side), sure_x and sure_y))
    return tuple(cells)


def cut(image_HWC: U8, cell: Cell) -> U8:
    """The pixels of one tile, (side, side, 3)."""
    left, top, right, bottom = cell.box
    return np.ascontiguousarray(image_HWC[top:bottom, left:right])


def _spans(gray_HW: F64) -> tuple[list[tuple[int, int]], bool]:
    """Start and end of the three columns of tiles, and whether both gutters between them were seen."""
    width = gray_HW.shape[1]
    # a gutter is nearly one tone from top to bottom; a quantile range forgives marks that cross it
    low, high = np.quantile(gray_HW, [0.06, 0.94], axis=0)
    spread = high - low
    plain = spread < max(8.0, 0.16 * float(np.median(spread)))
    reach = round(width * _WINDOW)
    first = _edge(plain, reach)
    last = width - _edge(plain[::-1], reach)
    starts, ends, sure = [first], [], True
    for k in (1, 2):
        centre = round(k * width / CELLS)
        run = _longest(plain, centre - reach, centre + reach)
        if run is None:
            sure = False
            at = _seam(gray_HW, centre, reach // 2)
            run = (at, at)
        ends.append(run[0])
        starts.append(run[1])
    ends.append(last)
    return list(zip(starts, ends, strict=True)), sure


def _edge(plain: npt.NDArray[np.bool_], reach: int) -> int:
    """Width of the border before the first tile; a plain tile is no border."""
    width = int(np.argmin(plain)) if not plain.all() else 0
    return width if width <= reach else 0


def _longest(plain: npt.NDArray[np.bool_], start: int, stop: int) -> tuple[int, int] | None:
    """The longest plain run within start..stop, or None; one that fills it is no gutter but a tile."""
    best: tuple[int, int] | None = None
    at = start
    while at < stop:
        if not plain[at]:
            at += 1
            continue
        end = at
        while end < stop and plain[end]:
            end += 1
        if best is None or end - at > best[1] - best[0]:
            best = (at, end)
        at = end
    return None if best is None or best[1] - best[0] >= stop - start else best


def _seam(gray_HW: F64, centre: int, reach: int) -> int:
    """Where two tiles meet without a gutter: the sharpest column, or the exact third when none stands out."""
    area = gray_HW[:, centre - reach - 1 : centre + reach]
    jump = np.abs(np.diff(area, axis=1)).mean(axis=0)
    best = int(np.argmax(jump))
    if jump[best] < 3.0 * float(np.median(jump)) + 2.0:
        return centre
    return centre - reach + best
