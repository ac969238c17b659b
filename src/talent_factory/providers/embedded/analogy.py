"""Carry the look of one picture over to a drawing: palette, tones, and its own marks patch by patch.

After image analogies (Hertzmann and others 2001) and texture optimisation (Kwatra and others 2005): a patch
of the result must look like some patch of the style picture, and its blurred colours like the drawing's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from talent_factory.providers.embedded.palette import dominant_colours
from talent_factory.providers.embedded.raster import F32, blur, f32, from_lab, resize, stretch, to_lab

METHOD = "patch-analogy-1"
_PATCH = 7
_STRIDE = 2
_KEPT = 28  # principal components of a patch that are compared
_LEVELS = (4, 2, 1)
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Level:
    """One size of the style picture, ready to be searched.

    `lab` (H, W, 3); `codes` (places, K) the described patch at each top-left corner; `basis` (D, K) and
    `mean` (D,) take a patch and its guide to a code.
    """

    lab: F32
    codes: F32
    basis: F32
    mean: F32


@dataclass(frozen=True)
class Style:
    """What is known of a style picture: its levels, coarse to fine, its colours and how it inks.

    `broad` (N, 3) are its Lab colours without lines and marks; `ink` (0..1) is how much line there is,
    `ink_lab` its colour; `guide` the blur in pixels below which a picture is marks and above which it is
    content; `volume` (0..1) how much areas are modelled rather than flat.
    """

    levels: tuple[_Level, ...]
    broad: F32
    ink: float
    ink_lab: F32
    guide: float
    volume: float


def study(image_HWC: F32, *, size: int) -> Style:
    """Learn a style from a picture (H, W, 3) in 0..1 for results of `size` pixels square."""
    height, width = image_HWC.shape[:2]
    factor = size / min(height, width)
    longest = size * 1.5
    if max(height, width) * factor > longest:
        image_HWC = _centre(image_HWC, factor, longest)
        height, width = image_HWC.shape[:2]
    lab = to_lab(resize(image_HWC, round(width * factor), round(height * factor)))
    ink, ink_lab, field = _ink_of(lab)
    guide = _mark_size(lab)
    levels = []
    for down in _LEVELS:
        small = resize(lab, round(lab.shape[1] / down), round(lab.shape[0] / down))
        levels.append(_describe(small, _guide(small, guide / down)))
    broad = field if len(field) else blur(lab, guide * 1.6).reshape(-1, 3)
    return Style(tuple(levels), broad, ink, ink_lab, guide, _volume_of(lab))


def redraw(colour_HWC: F32, line_HW: F32, style: Style, rng: np.random.Generator) -> F32:
    """The drawing (S, S, 3) with its line layer (S, S), both in 0..1, in the look of `style`."""
    target = dress(colour_HWC, line_HW, style)
    size = target.shape[0]
    result = target
    places: Index | None = None
    # hatching must stay crisp, smooth paint must not look embossed
    spread = 1.6 if style.guide > 2.9 or style.volume < 0.3 else 6.0
    for number, (down, level) in enumerate(zip(_LEVELS, style.levels, strict=True)):
        side = size // down
        wanted = resize(target, side, side)
        guide = _guide(wanted, style.guide / down)
        result = wanted if number == 0 else stretch(result, wanted)
        if number == 0:
            result = guide
        for turn in range(2):
            query = _encode(result, guide, level)
            places = _search(query, level, places, rng, side)
            result = _vote(places, query, level, side, spread=spread if down == 1 and turn else 9.0)
    return from_lab(_trace(result, line_HW, style))


def _trace(result: F32, line_HW: F32, style: Style) -> F32:
    """The contours once more, as far as the style has any: ink on light ground, light on dark."""
    amount = f32(np.clip((style.ink - 0.7) / 0.25, 0, 1) * line_HW)
    ground = blur(f32(result[..., 0]), 5.0)
    tones = style.broad[:, 0]
    paper = style.broad[tones >= np.quantile(tones, 0.97)].mean(axis=0)
    clear = np.abs(ground - style.ink_lab[0]) > 16 if style.guide > 2.9 else np.ones_like(ground, bool)
    line = np.where(clear[..., None], style.ink_lab, paper)
    return f32(result + (line - result) * amount[..., None])


def dress(colour_HWC: F32, line_HW: F32, style: Style) -> F32:
    """The drawing in Lab with the style's tones and colours, inked as much as the style is."""
    lab = to_lab(colour_HWC)
    source, goal = lab.reshape(-1, 3), style.broad
    shares = np.linspace(0.01, 0.99, 49)
    levels_from, levels_to = np.quantile(source[::7, 0], shares), np.quantile(goal[::7, 0], shares)
    matched = np.interp(lab[..., 0], levels_from + np.arange(49) * 1e-4, levels_to)
    low, high = float(levels_to[1]), float(levels_to[-2])
    spread = low + (high - low) * np.clip(lab[..., 0] / 95, 0, 1) ** (0.75 if style.guide > 2.9 else 1.0)
    out = lab.copy()
    out[..., 0] = 0.4 * matched + 0.6 * spread
    out[..., 1:] = _colours(f32(out[..., 0]), lab[..., 1:], style, out)
    amount = line_HW * np.float32(style.ink**2)
    return f32(out + (style.ink_lab - out) * amount[..., None])


def _colours(tone_HW: F32, ab_HW2: F32, style: Style, out: F32) -> F32:
    """Hue and chroma of the drawing pulled onto colours that the style has at about that tone; in flat styles
    the tone (written to `out`) snaps to those colours, too."""
    goal = style.broad
    scale = np.minimum(goal[:, 1:].std(axis=0) / np.maximum(ab_HW2.reshape(-1, 2).std(axis=0), 1e-3), 1.25)
    shifted = (ab_HW2 - ab_HW2.reshape(-1, 2).mean(axis=0)) * scale + goal[:, 1:].mean(axis=0)
    moved = f32(0.7 * ab_HW2 + 0.3 * shifted)
    palette = _palette(goal, style.volume)
    place = np.dstack([tone_HW * np.float32(0.5), moved])
    keys = palette * np.array([0.5, 1, 1], np.float32)
    distance = np.stack([((place - key) ** 2).sum(axis=2) for key in keys])
    # the colour of the outlines is for outlines: an area takes it only where it is dark itself
    inky = np.linalg.norm(palette - style.ink_lab, axis=1) < 16
    distance[inky] += np.float32(24 * style.ink) * np.maximum(np.abs(tone_HW - style.ink_lab[0]) - 14, 0)
    weight = np.exp(-(distance - distance.min(axis=0)) / (1.0 + 110.0 * style.volume))
    weight /= weight.sum(axis=0)
    pulled = np.tensordot(weight, palette, axes=([0], [0]))
    snap = np.float32(1 - style.volume)
    out[..., 0] += (pulled[..., 0] - out[..., 0]) * snap
    keep = np.float32(0.15 * style.volume)
    return f32(keep * moved + (1 - keep) * pulled[..., 1:])


def _palette(goal_N3: F32, volume: float) -> F32:
    colours = dominant_colours(np.random.default_rng(0), goal_N3[::5], 14)
    if volume >= 0.3:
        return colours
    # a flat picture has few colours; the rest are blends along their borders
    near = np.linalg.norm(goal_N3[::5, None] - colours, axis=2) < 5.0
    solid = near.mean(axis=0) > 0.006
    return colours[solid] if solid.any() else colours[:1]


def _centre(image_HWC: F32, factor: float, longest: float) -> F32:
    keep = round(longest / factor)
    height, width = image_HWC.shape[:2]
    top, left = max(0, (height - keep) // 2), max(0, (width - keep) // 2)
    return image_HWC[top : top + keep, left : left + keep]


def _ink_of(lab: F32) -> tuple[float, F32, F32]:
    """How much thin line a picture has, its usual colour (dark or glowing), and its colours off the lines."""
    tone = f32(lab[..., 0])
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))
    below = f32(cv2.morphologyEx(tone, cv2.MORPH_CLOSE, kernel)) - tone > 22
    wide = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (21, 21))  # light that glows is broader than ink
    above = tone - f32(cv2.morphologyEx(tone, cv2.MORPH_OPEN, wide)) > 22
    # Thin light ridges are ink where they are the rule and of one colour, else highlights or gaps.
    glows = above.mean() > 5.0 * below.mean() and tone.mean() < 50
    glows = bool(glows and float(lab[above][:, 1:].std(axis=0).max(initial=0.0)) < 6.0)
    lines = above if glows else below
    share = float(lines.mean())
    near = cv2.dilate(lines.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    field = lab[~near] if share < 0.25 and (~near).mean() > 0.2 else np.empty((0, 3), np.float32)
    dark = lab[tone <= np.quantile(tone[::3, ::3], 0.03)].mean(axis=0)
    if share < 0.004:
        return share / 0.004 * 0.3, f32(dark), f32(field)
    end = lab[tone >= np.quantile(tone[::3, ::3], 0.985)].mean(axis=0) if glows else dark
    return float(np.clip(0.3 + share * 12, 0, 1)), f32(lab[lines].mean(axis=0) * 0.4 + end * 0.6), f32(field)


def _volume_of(lab: F32) -> float:
    """0 for pictures of flat areas, 1 for modelled or textured ones."""
    tone = f32(lab[..., 0])
    spread = np.sqrt(np.maximum(f32(cv2.blur(tone * tone, (13, 13))) - f32(cv2.blur(tone, (13, 13))) ** 2, 0))
    return float(np.clip((0.62 - (spread < 1.0).mean()) / 0.3, 0, 1))


def _mark_size(lab: F32) -> float:
    """Blur in pixels that takes the marks off a picture: more for hatching, less for smooth paint."""
    tone = f32(lab[..., 0])
    total = float(tone.std()) + 1e-6
    fine = float((tone - blur(tone, 3.0)).std()) / total
    return float(np.clip(1.0 + 4.5 * fine, 1.2, 3.6))


def _guide(lab: F32, sigma: float) -> F32:
    return blur(lab, sigma) if sigma >= 0.3 else lab


def _describe(lab: F32, guide: F32) -> _Level:
    raw = _patches(lab, guide, 1)
    mean = raw[::11].mean(axis=0)
    sample = raw[::11] - mean
    values, vectors = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    basis = f32(vectors[:, np.argsort(-values)[:_KEPT]])
    return _Level(lab, f32((raw - mean) @ basis), basis, f32(mean))


def _patches(lab: F32, guide: F32, stride: int) -> F32:
    """Described patches (places, D): the marks, and the guide at a coarse grid inside, weighted up."""
    weights = np.array([1.0, 0.8, 0.8], np.float32)
    marks = np.lib.stride_tricks.sliding_window_view(lab * weights, (_PATCH, _PATCH), axis=(0, 1))
    broad = np.lib.stride_tricks.sliding_window_view(guide * weights, (_PATCH, _PATCH), axis=(0, 1))
    marks = marks[::stride, ::stride]
    broad = broad[::stride, ::stride, :, ::3, ::3]
    count = marks.shape[0] * marks.shape[1]
    return np.concatenate(
        [0.62 * marks.reshape(count, -1), 2.3 * broad.reshape(count, -1)], axis=1, dtype=np.float32
    )


def _encode(result: F32, guide: F32, level: _Level) -> F32:
    return f32((_patches(result, guide, _STRIDE) - level.mean) @ level.basis)


def _search(query: F32, level: _Level, before: Index | None, rng: np.random.Generator, side: int) -> Index:
    """The best known patch of the style for every patch of the result, (rows * columns,) flat places."""
    rows = (side - _PATCH) // _STRIDE + 1
    height, width = level.lab.shape[0] - _PATCH + 1, level.lab.shape[1] - _PATCH + 1
    if before is None:
        return _exhaustive(query, level.codes)
    if len(before) != rows * rows:
        before = _finer(before, rows, height, width)
    best = before
    cost = ((query - level.codes[best]) ** 2).sum(axis=1)
    for reach in (0.08, 0.0, 0.02, 0.0, 0.005, 0.0):
        if reach:
            candidates = [_near(best, reach, height, width, rng) for _ in range(2)]
        else:
            candidates = _neighbours(best, rows, height, width)
        for candidate in candidates:
            value = ((query - level.codes[candidate]) ** 2).sum(axis=1)
            better = value < cost
            best, cost = np.where(better, candidate, best), np.where(better, value, cost)
    return best


def _exhaustive(query: F32, codes: F32) -> Index:
    norms = (codes**2).sum(axis=1)
    found = [
        np.argmin(norms - 2.0 * (part @ codes.T), axis=1)
        for part in np.array_split(query, max(1, len(query) // 256))
    ]
    return np.concatenate(found).astype(np.int64)


def _finer(before: Index, rows: int, height: int, width: int) -> Index:
    """Places of a level at half the size, carried to this one."""
    coarse = int(np.sqrt(len(before)))
    small_w = width + _PATCH - 1
    small_w = round(small_w / 2) - _PATCH + 1
    at = np.arange(rows)
    near = np.minimum((at + 1) // 2, coarse - 1)
    field = before.reshape(coarse, coarse)[np.ix_(near, near)]
    offset = (at * _STRIDE) - near * _STRIDE * 2
    y = np.clip(field // small_w * 2 + offset[:, None], 0, height - 1)
    x = np.clip(field % small_w * 2 + offset[None, :], 0, width - 1)
    return np.asarray(y * width + x, np.int64).ravel()


def _neighbours(best: Index, rows: int, height: int, width: int) -> list[Index]:
    """What each place would be if it continued the patch of a neighbour."""
    field = best.reshape(rows, rows)
    y, x = field // width, field % width
    out = []
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        ny = np.clip(np.roll(y, (dy, dx), (0, 1)) + dy * _STRIDE, 0, height - 1)
        nx = np.clip(np.roll(x, (dy, dx), (0, 1)) + dx * _STRIDE, 0, width - 1)
        out.append(np.asarray(ny * width + nx, np.int64).ravel())
    return out


def _near(best: Index, reach: float, height: int, width: int, rng: np.random.Generator) -> Index:
    radius = max(2, round(reach * max(height, width)))
    y = np.clip(best // width + rng.integers(-radius, radius + 1, best.shape), 0, height - 1)
    x = np.clip(best % width + rng.integers(-radius, radius + 1, best.shape), 0, width - 1)
    return np.asarray(y * width + x, np.int64)


def _vote(found: Index, query: F32, level: _Level, side: int, *, spread: float) -> F32:
    """Lab of the result from the overlapping patches, each weighted by how well it fits."""
    width = level.lab.shape[1] - _PATCH + 1
    rows = (side - _PATCH) // _STRIDE + 1
    y, x = (found // width).reshape(rows, rows), (found % width).reshape(rows, rows)
    cost = ((query - level.codes[found]) ** 2).sum(axis=1).reshape(rows, rows)
    scale = float(np.median(cost)) + 1e-6
    trust = np.exp(-cost / (scale * 2.0)) + 1e-3
    middle = (_PATCH - 1) / 2
    total = np.zeros((side, side, 3), np.float32)
    weights = np.zeros((side, side), np.float32)
    span = (rows - 1) * _STRIDE + 1
    for dy in range(_PATCH):
        for dx in range(_PATCH):
            away = (dy - middle) ** 2 + (dx - middle) ** 2
            here = trust * float(np.exp(-away / spread))
            area = (slice(dy, dy + span, _STRIDE), slice(dx, dx + span, _STRIDE))
            total[area] += level.lab[y + dy, x + dx] * here[..., None]
            weights[area] += here.astype(np.float32)
    painted = total / np.maximum(weights, 1e-9)[..., None]
    bare = weights < 1e-9
    if bare.any():
        edge = int((~bare[:, side // 2]).sum())
        rest = (0, side - edge)
        return f32(np.pad(painted[:edge, :edge], (rest, rest, (0, 0)), mode="edge"))
    return f32(painted)
