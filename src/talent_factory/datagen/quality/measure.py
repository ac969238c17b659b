"""Numbers read from the pixels of one image: sharpness, light, colour, tones, borders, dots.

All are classical statistics that need no weights. Functions take an RGB array (H, W, 3) of uint8, or what
`lab_of` made of it, and say the unit of their answer; lightness and chroma are CIE L*a*b* (L 0..100).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

_SHARP_SIDE = 1024
_TILES = 8
_TONE_TILE = 128


def pixels_of(image: Image.Image, *, long_side: int | None = None) -> Pixels:
    """`image` as an RGB array (H, W, 3), scaled down by area to `long_side` pixels where it is larger."""
    rgb = image.convert("RGB")
    if long_side is not None and max(rgb.size) > long_side:
        scale = long_side / max(rgb.size)
        size = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
        rgb = rgb.resize(size, Image.Resampling.BOX)
    return np.asarray(rgb, np.uint8)


def lab_of(rgb_HWC: Pixels) -> Floats:
    """CIE L*a*b* (H, W, 3) of an sRGB array."""
    unit = rgb_HWC.astype(np.float32) / np.float32(255.0)
    return np.asarray(cv2.cvtColor(unit, cv2.COLOR_RGB2LAB), np.float32)


def sharpness(rgb_HWC: Pixels) -> float:
    """How sharp the sharpest part is: the 90th percentile, over 8 x 8 tiles, of the Laplacian's variance.

    A percentile over tiles, since a portrait may well be soft everywhere but in the face. The array should
    have a long side of at most 1024 pixels, else the numbers of two sizes cannot be compared.
    """
    grey = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY)
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    rows = np.array_split(np.asarray(edges), min(_TILES, edges.shape[0]), axis=0)
    tiles = [tile for row in rows for tile in np.array_split(row, min(_TILES, row.shape[1]), axis=1)]
    return float(np.percentile([float(tile.var()) for tile in tiles], 90))


def clipped(lab_HWC: Floats) -> tuple[float, float]:
    """Share of pixels without detail in the shadows (L < 2) and in the lights (L > 98), each 0..1."""
    light = lab_HWC[..., 0]
    return float((light < 2.0).mean()), float((light > 98.0).mean())


def contrast(lab_HWC: Floats) -> float:
    """Standard deviation of lightness, in L; near 0 for an empty picture."""
    return float(lab_HWC[..., 0].std())


def mean_light(lab_HWC: Floats) -> float:
    """Mean lightness, in L."""
    return float(lab_HWC[..., 0].mean())


def chroma(lab_HWC: Floats) -> float:
    """Mean chroma: 0 for greys, 3 for warm paper, 15 and more for a picture in colour."""
    return float(np.hypot(lab_HWC[..., 1], lab_HWC[..., 2]).mean())


def coloured_share(lab_HWC: Floats, *, above: float = 14.0) -> float:
    """Share of pixels whose chroma is `above` a tint, 0..1."""
    return float((np.hypot(lab_HWC[..., 1], lab_HWC[..., 2]) > above).mean())


def soft_tones(rgb_HWC: Pixels) -> float:
    """Share of pixels that are neither ink nor paper and lie in no edge either, 0..1.

    Edges are left out because every line of an ink drawing has grey flanks when it is scaled or compressed.
    """
    grey = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY)
    low, high = np.percentile(grey, 2), np.percentile(grey, 98)
    span = max(1.0, float(high - low))
    unit = (grey.astype(np.float32) - float(low)) / np.float32(span)
    spread = cv2.dilate(grey, np.ones((3, 3), np.uint8)).astype(np.int16) - cv2.erode(
        grey, np.ones((3, 3), np.uint8)
    ).astype(np.int16)
    calm = spread < 0.12 * span
    return float(((unit > 0.22) & (unit < 0.78) & calm).mean())


def colour_count(rgb_HWC: Pixels, *, share: float = 0.9) -> int:
    """How many colours make up `share` of the picture, in steps of 16 levels, noise smoothed away first."""
    smooth = cv2.medianBlur(np.ascontiguousarray(rgb_HWC), 5)
    bins = smooth.astype(np.int32) >> 4
    codes = (bins[..., 0] << 8) | (bins[..., 1] << 4) | bins[..., 2]
    counts = np.sort(np.bincount(codes.ravel()))[::-1]
    return int(np.searchsorted(np.cumsum(counts), share * counts.sum()) + 1)


def dot_share(rgb_HWC: Pixels) -> float:
    """Share of 128-pixel tiles that carry a regular dot screen, 0..1.

    A screen is a sharp peak in a tile's spectrum, far above the other waves of like length (3 to 16 pixels),
    with a partner at a right angle; hatching has no partner, grain no peak. The power of natural pictures
    falls with the square of the frequency, which is made good before peaks are compared.
    """
    grey = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = min(_TONE_TILE, *grey.shape)
    if side < 48:
        return 0.0
    window = np.outer(np.hanning(side), np.hanning(side))
    y, x = np.mgrid[-(side // 2) : side - side // 2, -(side // 2) : side - side // 2]
    radius = np.maximum(np.hypot(x, y), 1e-6)
    ring = (side / radius > 2.9) & (side / radius < 16.0)
    hits = total = 0
    for top in range(0, grey.shape[0] - side + 1, side // 2):
        for left in range(0, grey.shape[1] - side + 1, side // 2):
            tile = grey[top : top + side, left : left + side]
            total += 1
            if tile.std() < 8.0:
                continue
            wave = np.fft.fftshift(np.fft.fft2((tile - tile.mean()) * window))
            hits += _is_grid(np.where(ring, np.abs(wave) ** 2 * radius**2, 0.0), ring)
    return hits / total


def _is_grid(power: NDArray[np.float64], ring: NDArray[np.bool_]) -> bool:
    """Whether the strongest wave stands out and has a partner at a right angle."""
    row, column = np.unravel_index(int(power.argmax()), power.shape)
    peak, middle = float(power.max()), power.shape[0] // 2
    if peak < 70.0 * float(power[ring].mean()):
        return False
    across, down = middle - (int(row) - middle), middle + (int(column) - middle)
    partner = power[max(0, down - 2) : down + 3, max(0, across - 2) : across + 3]
    return bool(partner.size and partner.max() > 0.3 * peak)


def bars(rgb_HWC: Pixels) -> tuple[float, str]:
    """The widest empty strip along a border, as a share of that side, and where it lies; (0.0, "") for none.

    A strip is black, white or of any one colour, from edge to edge, and ends in a straight line across the
    picture: bare paper around a drawing has no such end.
    """
    sides = {
        "top": rgb_HWC,
        "bottom": rgb_HWC[::-1],
        "left": rgb_HWC.transpose(1, 0, 2),
        "right": rgb_HWC[:, ::-1].transpose(1, 0, 2),
    }
    widest = max(((_strip(view), name) for name, view in sides.items()), key=lambda found: found[0])
    return widest if widest[0] > 0 else (0.0, "")


def _strip(rows_HWC: Pixels) -> float:
    """Share of rows, from the first on, that form one empty strip with a straight end."""
    rows = rows_HWC.astype(np.int16)
    first = np.median(rows[0], axis=0)
    limit = rows.shape[0] // 2
    empty = np.abs(rows[:limit] - first).max(axis=2)
    flat = (np.percentile(empty, 99, axis=1) <= 10.0) if limit else np.zeros(0, bool)
    depth = int(np.argmin(flat)) if not flat.all() else 0
    if depth == 0:
        return 0.0
    after = rows[min(depth + 2, rows.shape[0] - 1)]
    jump = float((np.abs(after - first).max(axis=1) > 14).mean())
    return depth / rows.shape[0] if jump > 0.75 else 0.0
