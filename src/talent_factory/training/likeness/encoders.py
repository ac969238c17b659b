"""The port of those who look at pictures, those that need no other weights, and how a config names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from talent_factory.core.errors import ConfigError
from talent_factory.core.files import sha256_file
from talent_factory.training.likeness.records import Ask, Shot
from talent_factory.training.mini.autoencoder import to_tensor
from talent_factory.training.mini.reader import PROBE_FILE, load_probe
from talent_factory.training.probe import ANSWERS, Probe

Pictures = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
"""Pictures (H, W, 3) uint8 RGB, each of any size; an array (N, H, W, 3) is one."""
Vectors = NDArray[np.float32]

PROBE_SIDE = 128
LOOKS = ("kind", "hair", "hair_colour", "skin", "eyes", "dots", "dot_colour", "second_hair")
STYLE = ("medium",)
_ASKED = ("mood", "background", "medium")


class IdentityEncoder(Protocol):
    """Turns pictures into vectors in which the same subject lies near to itself."""

    @property
    def name(self) -> str:
        """Short id for records: kind and the folder's last name, no path of this machine."""
        ...

    @property
    def revision(self) -> str:
        """sha256 over the weights."""
        ...

    def embed(self, pictures: Pictures) -> Vectors:
        """(N, D) float32, rows of length 1, or 0 where the encoder sees nothing that it knows.

        A picture's row does not depend on the pictures beside it, up to the rounding of sums.
        """
        ...


@runtime_checkable
class PromptJudge(Protocol):
    """Says how well pictures show what their prompts ask for."""

    @property
    def name(self) -> str:
        """Short id for records."""
        ...

    @property
    def revision(self) -> str:
        """sha256 over the weights."""
        ...

    def adherence(self, pictures: Pictures, shots: Sequence[Shot]) -> NDArray[np.float64]:
        """(N,) values, higher is better; a picture of another prompt scores about 0 or at most chance."""
        ...


class LayoutEncoder:
    """Where light and colour lie in a picture: a thumbnail of 16 x 16; finds copies, knows no faces."""

    name = "layout"
    revision = "1"
    _SIDE = 16

    def embed(self, pictures: Pictures) -> Vectors:
        """(N, 768): the cosine of two rows is the correlation of the thumbnails."""
        rows = []
        for picture in pictures:
            image = Image.fromarray(np.ascontiguousarray(picture)).convert("YCbCr")
            small = np.asarray(image.resize((self._SIDE, self._SIDE), Image.Resampling.BOX), np.float32)
            rows.append((small - small.mean(axis=(0, 1))).reshape(-1))
        return unit(np.stack(rows)) if rows else np.zeros((0, self._SIDE**2 * 3), np.float32)


class ProbeEncoder:
    """The embedded probe: how it would answer about what never changes in a drawn character.

    Each attribute is the square root of its answers' probabilities, so the cosine of two pictures is the mean
    overlap (Bhattacharyya) of what the probe thinks of them. Also a judge of prompts of the drawn world.
    """

    def __init__(self, probe: Probe | None = None, *, looks: Sequence[str] = LOOKS) -> None:
        """`looks` are the attributes to compare: who is drawn, or `STYLE`, how it is drawn."""
        self._probe, self._looks = probe or load_probe(), tuple(looks)
        self.name = "probe" if self._looks == LOOKS else f"probe of {', '.join(looks)}"
        self.revision = sha256_file(PROBE_FILE) if probe is None else "given"

    def embed(self, pictures: Pictures) -> Vectors:
        """(N, D), D the number of all answers about what is compared."""
        chances = self.chances(pictures)
        return unit(np.concatenate([np.sqrt(chances[name]) for name in self._looks], axis=1))

    def adherence(self, pictures: Pictures, shots: Sequence[Shot]) -> NDArray[np.float64]:
        """The mean probability of the mood, background and medium that were asked for: (N,) in 0..1."""
        chances = self.chances(pictures)
        return np.array([self._told(chances, row, shot.ask) for row, shot in enumerate(shots)], np.float64)

    @torch.no_grad()
    def chances(self, pictures: Pictures) -> dict[str, Vectors]:
        """What the probe thinks, {attribute: (N, answers)} probabilities."""
        if not len(pictures):
            return {name: np.zeros((0, len(answers)), np.float32) for name, answers in ANSWERS.items()}
        seen = self._probe(to_tensor(resized(pictures, PROBE_SIDE)))
        return {name: logits.float().softmax(dim=1).numpy() for name, logits in seen.items()}

    def _told(self, chances: dict[str, Vectors], row: int, ask: Ask | None) -> float:
        wanted = [
            (name, getattr(ask, name)) for name in _ASKED if ask and getattr(ask, name) in ANSWERS[name]
        ]
        known = [float(chances[name][row, ANSWERS[name].index(value)]) for name, value in wanted]
        return sum(known) / len(known) if known else 1.0


class AnswerEncoder(ProbeEncoder):
    """The probe's plain answers instead of its doubts: who reports where the probe chose.

    A row holds one 1 for each attribute; the cosine of two pictures is the share of equal answers.
    """

    def __init__(self, probe: Probe | None = None, *, looks: Sequence[str] = LOOKS) -> None:
        super().__init__(probe, looks=looks)
        self.name = self.name.replace("probe", "probe answers", 1)

    def chances(self, pictures: Pictures) -> dict[str, Vectors]:
        """1 for the likeliest answer and 0 for the others."""
        return {
            name: np.eye(chance.shape[1], dtype=np.float32)[chance.argmax(axis=1)]
            for name, chance in super().chances(pictures).items()
        }


class NoJudge:
    """Where nobody can read prompts: every picture obeys, and the look alone decides."""

    name = "none"
    revision = ""

    def adherence(self, pictures: Pictures, shots: Sequence[Shot]) -> NDArray[np.float64]:
        """Ones: (N,)."""
        return np.ones(len(pictures))


def open_encoder(text: str, *, device: str = "cpu") -> IdentityEncoder:
    """The encoder that a config names: probe, answers (both also with `:style`), layout, or KIND:FOLDER.

    Raises ConfigError for a kind that is not known, and for a folder that holds no such weights.
    """
    kind, _, folder = text.partition(":")
    if not folder and kind == "layout":
        return LayoutEncoder()
    if folder in ("", "style") and kind in ("probe", "answers"):
        looks = STYLE if folder else LOOKS
        return ProbeEncoder(looks=looks) if kind == "probe" else AnswerEncoder(looks=looks)
    if kind not in ("dinov2", "clip", "arcface", "ccip") or not folder:
        raise ConfigError(
            f"{text!r} names no encoder",
            remedy="write probe, or dinov2:, clip:, arcface: or ccip: and a folder with local weights",
        )
    place = Path(folder).expanduser()
    if kind in ("dinov2", "clip"):
        from talent_factory.training.likeness.pretrained import ClipEncoder, DinoEncoder

        return DinoEncoder(place, device=device) if kind == "dinov2" else ClipEncoder(place, device=device)
    from talent_factory.training.likeness.faces import open_face_encoder

    return open_face_encoder(kind, place, device=device)


def open_judge(text: str, *, device: str = "cpu") -> PromptJudge:
    """The judge of prompts that a config names: probe, answers, none or clip:FOLDER. Raises ConfigError."""
    if text == "none":
        return NoJudge()
    encoder = open_encoder(text, device=device)
    if not isinstance(encoder, PromptJudge):
        raise ConfigError(
            f"{text!r} sees pictures and reads no prompts",
            remedy="write choose: {adherence: 'clip:FOLDER'}, or none",
        )
    return encoder


def unit(vectors: Vectors) -> Vectors:
    """Rows of length 1; a row that is zero or not finite becomes zero."""
    rows = np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0.0).astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Vectors = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return scaled


def resized(pictures: Pictures, side: int) -> NDArray[np.uint8]:
    """All pictures as squares of `side` pixels, (N, side, side, 3): the middle is cut out, then scaled."""
    squares = []
    for picture in pictures:
        height, width = picture.shape[:2]
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        image = Image.fromarray(np.ascontiguousarray(picture[top : top + edge, left : left + edge]))
        if edge != side:
            kind = Image.Resampling.BICUBIC if edge < side else Image.Resampling.BOX
            image = image.resize((side, side), kind)
        squares.append(np.asarray(image))
    return np.stack(squares)
