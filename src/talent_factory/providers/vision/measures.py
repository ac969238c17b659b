"""Numbers taken from a picture: palette, tones, lines, grain, and a fingerprint that finds look-alikes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from talent_factory.core.errors import ProviderError
from talent_factory.providers.embedded.palette import dominant_colours
from talent_factory.providers.embedded.raster import F32, blur, f32, from_lab, luminance, resize, to_lab

U8 = npt.NDArray[np.uint8]
_SIDE = 384

# Plain names at Lab points; the nearest one names a colour.
_NAMES: dict[str, tuple[int, int, int]] = {
    "black": (18, 18, 20),
    "charcoal gray": (64, 66, 70),
    "gray": (128, 128, 128),
    "light gray": (196, 196, 196),
    "white": (250, 250, 248),
    "cream": (242, 230, 206),
    "beige": (214, 190, 152),
    "brown": (112, 74, 48),
    "dark brown": (62, 42, 30),
    "olive": (118, 112, 56),
    "dark red": (124, 28, 34),
    "red": (206, 44, 44),
    "orange": (236, 130, 50),
    "peach": (246, 186, 152),
    "yellow": (244, 214, 80),
    "lime green": (156, 200, 80),
    "green": (66, 146, 76),
    "dark green": (30, 78, 56),
    "teal": (50, 140, 140),
    "turquoise": (96, 214, 220),
    "light blue": (164, 206, 234),
    "blue": (58, 104, 196),
    "navy blue": (26, 34, 82),
    "violet": (128, 86, 172),
    "lavender": (190, 172, 220),
    "pink": (240, 150, 184),
    "magenta": (196, 48, 140),
}


@dataclass(frozen=True)
class Look:
    """Measures of one picture, taken at 384 px on the short side.

    `palette` as (r, g, b, share); `chroma` the mean in Lab; `tone` and `spread` mean and deviation of L;
    `dark`, `light` shares of L below 20 and above 85; `between` the share of tones that are neither near the
    darkest nor the lightest; `edges` share of strong edge pixels; `lines` and `glow` shares of thin dark and
    bright ridges; `grain` deviation of the finest detail off the edges; `flat` share of unchanging areas.
    """

    palette: tuple[tuple[int, int, int, float], ...]
    chroma: float
    tone: float
    spread: float
    dark: float
    light: float
    between: float
    edges: float
    lines: float
    glow: float
    grain: float
    flat: float


def read_rgb(path: str) -> U8:
    """The picture as (H, W, 3) RGB bytes. Raises ProviderError when it cannot be read."""
    try:
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except OSError as error:
        raise ProviderError(f"{path} cannot be read: {error.strerror}", remedy="check the path") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if image is None:
        raise ProviderError(f"{path} is no picture that can be read", remedy="save it as PNG or JPEG")
    return np.asarray(image, np.uint8)


def measure_look(image_HWC: U8) -> Look:
    """Measure a picture (H, W, 3 RGB bytes)."""
    height, width = image_HWC.shape[:2]
    factor = _SIDE / min(height, width)
    small = resize(f32(image_HWC) / 255.0, max(8, round(width * factor)), max(8, round(height * factor)))
    lab = to_lab(np.clip(small, 0, 1))
    tone = f32(lab[..., 0])
    slope = np.hypot(f32(cv2.Scharr(tone, cv2.CV_32F, 1, 0)), f32(cv2.Scharr(tone, cv2.CV_32F, 0, 1))) / 32
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    ridges = f32(cv2.morphologyEx(tone, cv2.MORPH_CLOSE, kernel)) - tone
    wide = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (17, 17))
    crests = tone - f32(cv2.morphologyEx(tone, cv2.MORPH_OPEN, wide))
    low, high = np.quantile(tone, [0.03, 0.97])
    room = max(6.0, 0.22 * float(high - low))
    square = np.maximum(blur(tone * tone, 3.0) - blur(tone, 3.0) ** 2, 0)
    calm = slope <= np.quantile(slope, 0.6)
    return Look(
        palette=_palette(lab),
        chroma=float(np.hypot(lab[..., 1], lab[..., 2]).mean()),
        tone=float(tone.mean()),
        spread=float(tone.std()),
        dark=float((tone < 20).mean()),
        light=float((tone > 85).mean()),
        between=float(((tone > low + room) & (tone < high - room)).mean()),
        edges=float((slope > 6).mean()),
        lines=float((ridges > 22).mean()),
        glow=float((crests > 22).mean()),
        grain=float((tone - blur(tone, 1.2))[calm].std()),
        flat=float((square < 0.6).mean()),
    )


def _palette(lab: F32) -> tuple[tuple[int, int, int, float], ...]:
    points = np.ascontiguousarray(lab.reshape(-1, 3)[::3])
    centres = dominant_colours(np.random.default_rng(0), points, 6)
    owner = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    shares = np.bincount(owner, minlength=len(centres)) / len(points)
    rgb = np.round(from_lab(centres[None])[0] * 255).astype(int)
    order = np.argsort(-shares, kind="stable")
    return tuple((int(rgb[k][0]), int(rgb[k][1]), int(rgb[k][2]), float(shares[k])) for k in order)


def colour_name(red: int, green: int, blue: int) -> str:
    """The plain name nearest to a colour of bytes."""
    table = np.array([[*_NAMES.values(), (red, green, blue)]], np.float32) / 255.0
    lab = to_lab(table)[0]
    return list(_NAMES)[int(((lab[:-1] - lab[-1]) ** 2).sum(axis=1).argmin())]


def fingerprint(image_HWC: U8) -> npt.NDArray[np.bool_]:
    """Perceptual hash, 64 bits: signs of the low frequencies of the tones (after Zauner 2010)."""
    gray = resize(luminance(f32(image_HWC)), 32, 32)
    low = cv2.dct(np.ascontiguousarray(gray))[:8, :8].ravel()
    return np.asarray(low > np.median(low[1:]), np.bool_)


def sharpness(image_HWC: U8) -> float:
    """90th percentile of the Laplacian's variance over 8 x 8 areas at 512 px; small when blurred."""
    side = 512
    gray = resize(luminance(f32(image_HWC)), side, side)
    edges = f32(cv2.Laplacian(gray, cv2.CV_32F))
    areas = edges.reshape(8, side // 8, 8, side // 8).swapaxes(1, 2).reshape(64, -1)
    return float(np.quantile(areas.var(axis=1), 0.9))
