"""Five looks that the embedded base never saw, their pictures, and a judge that recognises them.

Three are the drawn world's own unseen media; two are made here. The judge holds a picture's colours, edges
and texture, taken from the early layers of the attribute probe, against true pictures of ten looks: a linear
discriminant with one covariance for all (Fisher 1936).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from talent_factory.core.files import sha256_bytes, sha256_file
from talent_factory.core.records import write_record
from talent_factory.core.seeds import derive_seed
from talent_factory.dataset.manifest import DATASET_FILE, IMAGES, DatasetManifest, Item
from talent_factory.training.mini.autoencoder import to_tensor
from talent_factory.training.probe import Probe
from talent_factory.world import Character, palette
from talent_factory.world.canvas import SIDE, Canvas
from talent_factory.world.character import phrases, sample_character
from talent_factory.world.draw import draw_character
from talent_factory.world.media import RENDER

LOOKS = ("charcoal", "woodcut", "mecha", "mosaic", "glass")
KNOWN = palette.MEDIA
COLOURED = ("mosaic", "glass")
PICTURES = 24
_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE]


def _mosaic(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.float32]:
    """Small square tiles, every other one darker, with pale seams between."""
    colour = canvas.flat().astype(np.float32)
    dark = ((_ROWS // 16 + _COLUMNS // 16) % 2 == 1)[..., None]
    seam = ((_ROWS % 16 < 3) | (_COLUMNS % 16 < 3))[..., None]
    tiles = np.where(dark, 0.72 * colour, colour)
    return np.where(seam, 0.3 * tiles + 0.7 * np.array([250, 246, 232], np.float32), tiles).astype(np.float32)


def _glass(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.float32]:
    """Stained glass: vivid panes that shine in the middle, between broad dark leads."""
    colour = canvas.colour.astype(np.float32)
    grey = colour.mean(axis=2, keepdims=True)
    vivid = np.clip(grey + (colour - grey) * 1.5, 0, 255)
    shine = 1.15 - 0.5 * np.hypot(_ROWS - SIDE / 2, _COLUMNS - SIDE / 2)[..., None] / SIDE
    leads = ((_ROWS + _COLUMNS) % 64 < 5) | ((_ROWS - _COLUMNS) % 64 < 5)
    cover = np.maximum(cv2.dilate(canvas.line, np.ones((6, 6), np.uint8)), leads.astype(np.uint8) * 150)
    share = cover.astype(np.float32)[..., None] / 255.0
    return (np.clip(vivid * shine, 0, 255) * (1 - share) + 16.0 * share).astype(np.float32)


RENDER |= {"mosaic": _mosaic, "glass": _glass}


def token(look: str) -> str:
    """The trigger of a look's LoRA."""
    return f"look_{look}"


def make_style_dataset(folder: Path, look: str) -> Path:
    """Pictures of many characters in one look; captions say all that is drawn."""
    (folder / IMAGES).mkdir(parents=True)
    items = []
    for index in range(PICTURES):
        rng = np.random.default_rng(derive_seed("looks", look, index))
        one = replace(sample_character(rng), medium=look)
        framing = {"portrait": "portrait", "close-up": "close-up portrait", "full body": "full body"}
        path = folder / IMAGES / f"{index:02d}.png"
        Image.fromarray(draw_character(one, rng, size=128)).save(path)
        said = phrases(one if look in COLOURED else replace(one, medium="charcoal"))
        items.append(
            Item(
                file=f"{IMAGES}/{path.name}",
                sha256=sha256_file(path),
                caption=", ".join([f"{token(look)} {framing[one.framing]} of a {one.kind}", *said]),
                width=128,
                height=128,
                source="drawn world",
            )
        )
    manifest = DatasetManifest(
        kind="style",
        token=token(look),
        class_noun="",
        resolution=128,
        mode="crop",
        source_key=sha256_bytes(look.encode()),
        items=tuple(items),
    )
    write_record(folder / DATASET_FILE, manifest)
    return folder


def drawn(who: Character, look: str, count: int, *, seed: str) -> NDArray[np.uint8]:
    """True pictures of one character in a look, moods in turn: (N, 128, 128, 3)."""
    pictures = []
    for index in range(count):
        rng = np.random.default_rng(derive_seed("looks", seed, look, index))
        one = replace(
            who,
            medium=look,
            mood=palette.MOODS[index % len(palette.MOODS)],
            background=palette.SCENES[index // len(palette.MOODS) % len(palette.SCENES)],
        )
        pictures.append(draw_character(one, rng, size=128))
    return np.stack(pictures)


@dataclass(frozen=True)
class Judge:
    """Which look is it? `accuracy` is the share of held-out true pictures that it names rightly."""

    probe: Probe
    names: tuple[str, ...]
    centre: NDArray[np.float64]
    weights: NDArray[np.float64]
    offsets: NDArray[np.float64]
    accuracy: float

    def shares(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The probability of each look for each picture, (N, looks)."""
        scores = (features(self.probe, pictures) - self.centre) @ self.weights + self.offsets
        scores -= scores.max(axis=1, keepdims=True)
        return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


@torch.no_grad()
def features(probe: Probe, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Colour moments of a picture, and means and spreads of the probe's first two stages: (N, F)."""
    found = []
    for start in range(0, len(pictures), 32):
        image = to_tensor(pictures[start : start + 32])
        parts = [image.mean((2, 3)), image.std((2, 3)), (image.amax(1) - image.amin(1)).mean((1, 2))[:, None]]
        for stage in probe.stages[:2]:
            image = stage(image)
            parts += [image.mean((2, 3)), image.std((2, 3))]
        found.append(torch.cat(parts, dim=1).double().numpy())
    return np.concatenate(found)


def train_judge(probe: Probe, *, each: int = 120) -> Judge:
    """Fit on true pictures of many characters in all ten looks, softened as renders are; a third is held out.

    Softening is the base's own: whatever the autoencoder cannot draw shall not tell a look from another.
    """
    names = (*KNOWN, *LOOKS)
    rows, labels = [], []
    for number, look in enumerate(names):
        pictures = []
        for index in range(each):
            rng = np.random.default_rng(derive_seed("judge", look, index))
            one = replace(sample_character(rng, unseen=True), medium=look)
            pictures.append(_softened(draw_character(one, rng, size=128), rng))
        rows.append(features(probe, np.stack(pictures)))
        labels += [number] * each
    x, y = np.concatenate(rows), np.array(labels)
    held = np.arange(len(y)) % 3 == 0
    centre, weights, offsets = _discriminant(x[~held], y[~held], len(names))
    answers = ((x[held] - centre) @ weights + offsets).argmax(axis=1)
    return Judge(probe, names, centre, weights, offsets, float((answers == y[held]).mean()))


def _softened(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), float(rng.uniform(0.3, 1.0)))
    noisy = blurred * rng.uniform(0.92, 1.06) + rng.normal(0, 4, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _discriminant(
    x: NDArray[np.float64], y: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centre, weights (F, classes) and offsets of the linear discriminant."""
    means = np.stack([x[y == label].mean(axis=0) for label in range(count)])
    inside = x - means[y]
    spread = inside.T @ inside / len(x)
    spread += 0.05 * np.diag(np.diag(spread)) + 1e-6 * np.eye(len(spread))
    centre = means.mean(axis=0)
    weights = np.linalg.solve(spread, (means - centre).T)
    return centre, weights, -0.5 * np.einsum("cf,fc->c", means - centre, weights)


def recognised(judge: Judge, pictures: NDArray[np.uint8], look: str) -> NDArray[np.float64]:
    """1 for each picture that the judge takes for `look`, else 0: (N,)."""
    index: int = judge.names.index(look)
    return np.asarray(judge.shares(pictures).argmax(axis=1) == index, np.float64)


def sheet(rows: Sequence[NDArray[np.uint8]]) -> Image.Image:
    """One row of pictures after another."""
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0))
