"""Lines: extended difference of Gaussians, plain or smoothed along the picture's flow."""

from __future__ import annotations

import numpy as np

from talent_factory.providers.embedded.flow import Flow, smooth_along
from talent_factory.providers.embedded.raster import F32, blur, clip01, f32, shrink, stretch


def xdog(
    gray_HW: F32,
    *,
    sigma: float,
    sharpness: float = 18.0,
    threshold: float = 0.6,
    softness: float = 12.0,
    flow: Flow | None = None,
) -> F32:
    """1 on paper, towards 0 on lines and dark areas (Winnemöller, Kyprianidis, Olsen 2012, eqs. 5 and 7).

    `sigma` in pixels; `sharpness` is p, `threshold` epsilon, `softness` phi of the paper, for gray in 0..1.
    With `flow` the response is integrated along the edges (Kang, Lee, Chui 2007), which joins broken lines.
    """
    narrow, wide = blur(gray_HW, sigma), blur(gray_HW, sigma * 1.6)
    response = f32((1.0 + sharpness) * narrow - sharpness * wide)
    if flow is not None:
        response = _along(response, flow, sigma)
    return f32(1.0 + np.tanh(softness * np.minimum(response - threshold, 0.0)))


def edge_lines(gray_HW: F32, *, sigma: float, weight: float, flow: Flow | None = None) -> F32:
    """Ink of pure edge lines, 0..1, without filling dark areas: the difference of Gaussians against its own
    zero.

    `weight` is how little contrast (0..1) already makes a full line.
    """
    response = f32(blur(gray_HW, sigma * 1.6) - blur(gray_HW, sigma))
    if flow is not None:
        response = _along(response, flow, sigma)
    return clip01((response - 0.2 * weight) / (0.5 * weight))


def _along(response: F32, flow: Flow, sigma: float) -> F32:
    # Half size is enough: the response is already smoother than two pixels.
    factor = 2.0 if sigma > 1.2 else 1.0
    small = Flow(shrink(flow.x, factor), shrink(flow.y, factor), flow.strength)
    smooth = smooth_along(shrink(response, factor), small, length=3.0 * sigma / factor, steps=4)
    return stretch(smooth, response) if factor > 1 else smooth
