"""The loss curve as inline SVG: steps in a light line, the trend in a strong one, held-out images dotted."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from talent_factory.report.content import LossPoint

_WIDTH, _HEIGHT = 1040, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 16, 40
# More points than this are not visible on the page; they only make the file heavy.
_MAX_POINTS = 800


def smooth(values: Sequence[float], *, width: float) -> list[float]:
    """A centred Gaussian mean with a standard deviation of `width` steps; same length, no lag.

    At the ends the window is cut and weighed anew, so the first and last points are means of what exists.
    """
    reach = max(1, math.ceil(3 * width))
    weights = [math.exp(-0.5 * (offset / width) ** 2) for offset in range(-reach, reach + 1)]
    result = []
    for index in range(len(values)):
        low, high = max(0, index - reach), min(len(values), index + reach + 1)
        window = weights[low - index + reach : high - index + reach]
        total = math.fsum(weight * value for weight, value in zip(window, values[low:high], strict=True))
        result.append(total / math.fsum(window))
    return result


def ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) within `low`..`high`."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def loss_curve(points: Sequence[LossPoint], validation: Sequence[LossPoint] = ()) -> Markup:
    """An accessible SVG of the loss, and of that on held-out images; empty for fewer than two steps."""
    if len(points) < 2:
        return Markup("")
    points = _thinned(points)
    trend = smooth([point.loss for point in points], width=max(1.0, len(points) / 30))
    ordered = sorted(point.loss for point in points)
    # a few wild steps must not press the curve flat: the axis ends at the 99th percentile and clips the rest
    usual = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    top = max(usual, *trend, *(point.loss for point in validation)) * 1.05 or 1.0
    first, last = points[0].step, max(points[-1].step, points[0].step + 1)

    def place(step: float, loss: float) -> tuple[float, float]:
        across = _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        return across, _TOP + (1 - min(loss, top) / top) * (_HEIGHT - _TOP - _BOTTOM)

    raw = [place(point.step, point.loss) for point in points]
    strong = [place(point.step, value) for point, value in zip(points, trend, strict=True)]
    summary = (
        f"Loss from step {first} to {points[-1].step}: the trend goes from {trend[0]:.3f} to {trend[-1]:.3f}."
    )
    if validation:
        summary += f" On held-out images it goes from {validation[0].loss:.3f} to {validation[-1].loss:.3f}."
    end_x, end_y = strong[-1]
    parts = [
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-describedby="curve-desc">',
        "<title>Training loss</title>",
        f'<desc id="curve-desc">{escape(summary)}</desc>',
        *_axes(first, last, top),
        f'<polyline class="raw" points="{_points(raw)}"/>',
        f'<polyline class="trend" points="{_points(strong)}"/>',
        *_held_out([place(point.step, point.loss) for point in validation]),
        f'<circle class="end" cx="{end_x:.1f}" cy="{end_y:.1f}" r="4"/>',
        f'<text class="end-label" x="{end_x - 8:.1f}" y="{end_y - 10:.1f}" text-anchor="end">',
        f"{trend[-1]:.3f}</text>",
        "</svg>",
    ]
    # every number is formatted here and the only text is escaped above
    return Markup("".join(parts))


def _held_out(places: Sequence[tuple[float, float]]) -> list[str]:
    if not places:
        return []
    dots = [f'<circle class="held" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in places]
    return [f'<polyline class="held" points="{_points(places)}"/>', *dots]


def _thinned(points: Sequence[LossPoint]) -> list[LossPoint]:
    """At most `_MAX_POINTS` points: means of neighbours in long runs, each at the last of its steps."""
    width = math.ceil(len(points) / _MAX_POINTS)
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    return [
        LossPoint(step=group[-1].step, loss=math.fsum(point.loss for point in group) / len(group))
        for group in groups
    ]


def _axes(first: int, last: int, top: float) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for value in ticks(0.0, top):
        level = _TOP + (1 - value / top) * (bottom - _TOP)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 10}" y="{level + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for value in ticks(first, last, count=6):
        across = _LEFT + (value - first) / (last - first) * (right - _LEFT)
        parts.append(
            f'<text class="tick" x="{across:.1f}" y="{bottom + 20}" text-anchor="middle">{value:g}</text>'
        )
    parts.append(f'<text class="axis" x="{right}" y="{_HEIGHT - 4}" text-anchor="end">step</text>')
    return parts


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
