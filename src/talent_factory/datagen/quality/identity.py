"""Does the image show the same actor? Measured only where an encoder is given, and judged within the set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from talent_factory.datagen.quality.verdict import Check, unmeasured

NAME = "identity"
_FEWEST = 4  # images; with fewer there is no telling what is usual


class Encoder(Protocol):
    """Turns a picture into a vector in which the same actor lies near to itself."""

    @property
    def name(self) -> str:
        """Short id for manifests."""
        ...

    def encode(self, image: Image.Image) -> NDArray[np.float32] | None:
        """A vector (D,) of any length, or None where the encoder sees nothing that it knows."""
        ...


def identity_checks(
    portrait: Image.Image, images: Iterable[Image.Image | None], encoder: Encoder
) -> list[Check]:
    """One check for each of `images`; None stands for an image in which no face can be compared.

    The value is the cosine between image and portrait. It is set against what the portrait scores against
    crops of itself, and against the other images: an outlier of the set is a warning, never a failure, as no
    encoder knows all media. The images are taken one at a time.
    """
    home = _unit(encoder.encode(portrait))
    if home is None:
        return [unmeasured(NAME, f"{encoder.name} sees nothing in the portrait") for _ in images]
    own = [_cosine(home, _unit(encoder.encode(crop))) for crop in _self_crops(portrait)]
    ceiling = min((value for value in own if value is not None), default=1.0)
    values = [None if image is None else _cosine(home, _unit(encoder.encode(image))) for image in images]
    return _judged(values, ceiling, encoder.name)


def _judged(values: Sequence[float | None], ceiling: float, name: str) -> list[Check]:
    known = [value for value in values if value is not None]
    if len(known) < _FEWEST:
        return [unmeasured(NAME, "too few images can be compared") for _ in values]
    middle = float(np.median(known))
    spread = max(0.02, 1.4826 * float(np.median(np.abs(np.array(known) - middle))))
    # what is as near as the portrait is to its own crops is the actor, however tight the rest of the set
    limit = min(ceiling, middle - 3.0 * spread)
    return [_one(value, limit, name) for value in values]


def _one(value: float | None, limit: float, name: str) -> Check:
    if value is None:
        return unmeasured(NAME, f"nothing that {name} could compare")
    bad = value < limit
    return Check(
        name=NAME,
        verdict="warn" if bad else "pass",
        value=round(value, 4),
        limit=round(limit, 4),
        note="less like the portrait than the rest of the set" if bad else "",
    )


def _self_crops(portrait: Image.Image) -> list[Image.Image]:
    """The portrait as it may look through another frame: tighter, mirrored, small."""
    width, height = portrait.size
    tight = portrait.crop((width // 10, height // 10, width - width // 10, height - height // 10))
    small = portrait.resize((max(16, width // 3), max(16, height // 3)), Image.Resampling.BOX)
    return [tight, ImageOps.mirror(portrait), small]


def _unit(vector: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    if vector is None:
        return None
    flat = np.asarray(vector, np.float32).ravel()
    length = float(np.linalg.norm(flat))
    return flat / np.float32(length) if np.isfinite(length) and length > 0 else None


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32] | None) -> float | None:
    return None if other is None or other.shape != one.shape else float(one @ other)
