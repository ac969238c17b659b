"""The painter's styles: every motif draws, results repeat, palette and kind of mark come from the picture."""

from __future__ import annotations

import numpy as np
import pytest

from talent_factory.core.errors import ProviderError
from talent_factory.providers.embedded.motifs import MOTIFS
from talent_factory.providers.embedded.painter import paint
from talent_factory.providers.embedded.raster import U8
from talent_factory.providers.embedded.sketch import Sketch
from talent_factory.providers.embedded.stylist import paint_style
from talent_factory.providers.vision.embedded import style_match
from talent_factory.providers.vision.measures import measure_look
from talent_factory.world.samples import kairo_portrait


@pytest.fixture(scope="module")
def drawn() -> U8:
    return kairo_portrait(zoom=1)


@pytest.fixture(scope="module")
def woodcut(drawn: U8) -> U8:
    return paint(drawn, medium="woodcut", seed=1, aspect="1:1", long_side=384).image


@pytest.mark.parametrize("name", MOTIFS)
def test_every_motif_fills_its_sheet(name: str) -> None:
    sketch = Sketch(96, np.random.default_rng(4))
    MOTIFS[name](sketch)
    assert sketch.colour.shape == (96, 96, 3)
    assert np.isfinite(sketch.colour).all()
    assert sketch.colour.min() >= 0
    assert sketch.colour.max() <= 1
    assert 0 <= sketch.line.min() <= sketch.line.max() <= 1
    assert sketch.colour.std() > 0.04
    assert 0.005 < (sketch.line > 0.5).mean() < 0.4


def _one(picture: U8, subject: str, seed: int = 1) -> U8:
    return paint_style(picture, medium="style_picture", subjects=subject, seed=seed, long_side=192)


def test_the_same_request_gives_the_same_pixels_and_another_seed_others(drawn: U8) -> None:
    first = _one(drawn, "teapot")
    assert first.shape == (192, 192, 3)
    assert np.array_equal(first, _one(drawn, "teapot"))
    assert not np.array_equal(first, _one(drawn, "teapot", seed=2))


def test_a_flat_picture_gives_its_own_few_colours(drawn: U8) -> None:
    result = _one(drawn, "balloon").reshape(-1, 3).astype(float)
    palette = np.unique(drawn.reshape(-1, 3), axis=0).astype(float)
    near = np.array([np.abs(palette - pixel).sum(axis=1).min() for pixel in result[::17]])
    assert (near < 30).mean() > 0.9


def test_a_black_and_white_picture_gives_black_and_white_marks(drawn: U8, woodcut: U8) -> None:
    result = _one(woodcut, "lighthouse")
    assert np.ptp(result.astype(int), axis=2).max() <= 6
    look, flat = measure_look(result), measure_look(_one(drawn, "lighthouse"))
    assert look.between < flat.between + 0.2
    assert look.lines > 3 * flat.lines
    assert style_match(look, measure_look(woodcut)) >= 3
    assert style_match(look, measure_look(drawn)) < style_match(flat, measure_look(drawn))


def test_a_grid_holds_nine_pictures_between_white_gutters(drawn: U8) -> None:
    names = ",".join(list(MOTIFS)[:63:7])
    grid = paint_style(drawn, medium="style_grid", subjects=names, seed=3, long_side=420)
    assert grid.shape == (420, 420, 3)
    side = (420 - 2 * 5) // 3
    assert (grid[:, side : side + 5] == 250).all()
    assert (grid[side : side + 5] == 250).all()


@pytest.mark.parametrize("subjects", ["", "teapot,fox", "a_thing_nobody_drew"])
def test_unknown_or_miscounted_subjects_are_refused(drawn: U8, subjects: str) -> None:
    with pytest.raises(ProviderError, match="subjects"):
        _one(drawn, subjects)
