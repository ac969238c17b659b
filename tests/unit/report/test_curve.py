"""The loss curve is a faithful, small and well-formed drawing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.report.content import LossPoint
from talent_factory.report.curve import loss_curve, smooth, ticks

LOSSES = st.lists(st.floats(0, 1e6), min_size=2, max_size=300)


def points(values: list[float]) -> list[LossPoint]:
    return [LossPoint(step=index + 1, loss=value) for index, value in enumerate(values)]


@given(LOSSES)
def test_any_losses_give_a_drawing_within_its_frame(values: list[float]) -> None:
    root = ElementTree.fromstring(str(loss_curve(points(values))))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for line in root.iter("polyline"):
        for x, y in (map(float, pair.split(",")) for pair in line.attrib["points"].split()):
            assert 0 <= x <= width
            assert 0 <= y <= height


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=80), st.floats(0.5, 10))
def test_smoothing_stays_within_its_values(values: list[float], width: float) -> None:
    result = smooth(values, width=width)
    assert len(result) == len(values)
    assert all(min(values) - 1e-6 <= value <= max(values) + 1e-6 for value in result)


def test_smoothing_keeps_a_straight_level_and_has_no_lag() -> None:
    assert smooth([2.0] * 9, width=3) == pytest.approx([2.0] * 9)
    peak = smooth([0.0] * 10 + [1.0] + [0.0] * 10, width=2)
    assert peak.index(max(peak)) == 10
    assert peak == pytest.approx(peak[::-1])


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.integers(2, 8))
def test_ticks_are_round_few_and_inside(low: float, span: float, count: int) -> None:
    found = ticks(low, low + span, count=count)
    assert len(found) <= 2 * count + 2
    assert all(low - span * 1e-6 - 1e-9 <= value <= low + span * (1 + 1e-6) + 1e-9 for value in found)
    assert found == sorted(set(found))


def test_a_long_run_stays_a_small_file() -> None:
    drawing = str(loss_curve(points([1.0 / (1 + step) for step in range(20_000)])))
    assert len(drawing) < 60_000


def test_the_drawing_says_what_it_shows() -> None:
    drawing = str(loss_curve(points([1.0, 0.5, 0.25])))
    assert re.search(r"<desc id=\"curve-desc\">Loss from step 1 to 3", drawing)


def test_one_point_is_no_curve() -> None:
    assert not loss_curve(points([1.0]))


def test_the_loss_on_held_out_images_is_drawn_at_its_steps() -> None:
    line = points([1.0, 0.5, 0.25, 0.2])
    held = [LossPoint(step=2, loss=2.0), LossPoint(step=4, loss=1.5)]
    plain, both = str(loss_curve(line)), str(loss_curve(line, held))
    assert "held" not in plain
    root = ElementTree.fromstring(both)
    dots = [dot for dot in root.iter("circle") if dot.attrib["class"] == "held"]
    ends = [dot for dot in root.iter("circle") if dot.attrib["class"] == "end"]
    assert len(dots) == 2
    assert float(dots[0].attrib["cy"]) < float(dots[1].attrib["cy"])
    assert dots[1].attrib["cx"] == ends[0].attrib["cx"]
    assert "held-out images it goes from 2.000 to 1.500" in both
