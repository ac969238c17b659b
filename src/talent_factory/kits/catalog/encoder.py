"""The port of those who put texts and pictures into one space, and one that knows nothing but colours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pictures = Sequence[NDArray[np.uint8]]
"""Pictures (H, W, 3) uint8 RGB, each of any size."""
Vectors = NDArray[np.float32]

# Where a colour's name sits in RGB; a picture's points belong to the nearest.
_COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "black": (15, 15, 15),
        "grey": (128, 128, 128),
        "white": (245, 245, 245),
        "red": (200, 30, 35),
        "orange": (240, 140, 30),
        "yellow": (245, 220, 50),
        "green": (50, 150, 60),
        "turquoise": (50, 190, 190),
        "blue": (40, 80, 200),
        "violet": (120, 50, 160),
        "pink": (245, 150, 190),
        "brown": (120, 75, 40),
    }
)
_OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "gray": "grey", "silver": "grey", "crimson": "red", "scarlet": "red", "ruby": "red",
        "amber": "orange",
        "gold": "yellow", "golden": "yellow", "emerald": "green", "lime": "green", "olive": "green",
        "cyan": "turquoise", "teal": "turquoise", "azure": "blue", "navy": "blue", "indigo": "blue",
        "purple": "violet", "lilac": "violet", "magenta": "pink", "rose": "pink", "beige": "brown",
        "chestnut": "brown", "ebony": "black", "ivory": "white", "snowy": "white",
    }
)  # fmt: skip
_WORD = re.compile(r"[a-z]+")
_SIDE = 32


class TextImageEncoder(Protocol):
    """Puts texts and pictures into one space, in which what means the same lies near."""

    @property
    def name(self) -> str:
        """Short id for records: kind and the folder's last name, no path of this machine."""
        ...

    @property
    def revision(self) -> str:
        """sha256 over the weights, or a number; vectors of another revision are not compared."""
        ...

    def embed(self, pictures: Pictures) -> Vectors:
        """(N, D) float32 of pictures: rows of length 1, or 0 where nothing is seen that the encoder knows."""
        ...

    def texts(self, texts: Sequence[str]) -> Vectors:
        """(N, D) float32 of texts, likewise; what is too long is cut."""
        ...


class ColourEncoder:
    """Knows twelve colours: how much of each a picture holds, and which ones a text names."""

    name = "colours"
    revision = "1"

    def embed(self, pictures: Pictures) -> Vectors:
        """(N, 12): the square roots of the colours' shares, so that rows have length 1."""
        palette = np.array(list(_COLOURS.values()), np.float32)
        rows = np.zeros((len(pictures), len(_COLOURS)), np.float32)
        for row, picture in enumerate(pictures):
            step = [max(1, side // _SIDE) for side in picture.shape[:2]]
            points = np.asarray(picture)[:: step[0], :: step[1]].reshape(-1, 1, 3).astype(np.float32)
            nearest = np.square(points - palette).sum(axis=2).argmin(axis=1)
            rows[row] = np.sqrt(np.bincount(nearest, minlength=len(_COLOURS)) / len(nearest))
        return rows

    def texts(self, texts: Sequence[str]) -> Vectors:
        """(N, 12): equal parts of the colours that a text names, 0 for one that names none."""
        names = list(_COLOURS)
        rows = np.zeros((len(texts), len(names)), np.float32)
        for row, text in enumerate(texts):
            words = [_OTHER_NAMES.get(word, word) for word in _WORD.findall(text.casefold())]
            named = [names.index(word) for word in set(words) if word in _COLOURS]
            rows[row, named] = 1.0 / np.sqrt(max(len(named), 1))
        return rows
