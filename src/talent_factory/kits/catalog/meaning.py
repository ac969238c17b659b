"""Search by meaning: vectors of what kits say and show, kept in the catalog, compared all with all.

Comparing is one product of a float32 matrix with the question: exact, and at ten thousand kits faster than
keeping an approximate index true. Words, texts and pictures each give an order; the orders are joined by
reciprocal ranks (Cormack, Clarke & Büttcher 2009), because their similarities have no common scale.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.events import Reporter
from talent_factory.kits.catalog.catalog import Catalog
from talent_factory.kits.catalog.choice import Wish
from talent_factory.kits.catalog.encoder import TextImageEncoder, Vectors
from talent_factory.kits.catalog.matrix import Matrix, load_matrix
from talent_factory.kits.catalog.vectors import PICTURES, TEXTS, encode_new, key_of

_RANK_DAMPER = 60
# How far down an order a kit still counts.
_DEPTH = 1000


class Found(NamedTuple):
    """A kit and how well it fits (higher is better); `by` names what found it: words, texts or pictures."""

    id: str
    score: float
    by: tuple[str, ...]
    instead: tuple[tuple[str, str], ...] = ()


class Meaning:
    """What the kits of one catalog mean to one encoder."""

    def __init__(self, catalog: Catalog, encoder: TextImageEncoder) -> None:
        self._catalog, self._encoder = catalog, encoder
        self._key = key_of(encoder)
        self._matrices: dict[str, Matrix] = {}

    def update(self, *, reporter: Reporter | None = None) -> int:
        """Encode what is new in valid kits and return of how many; the catalog must be up to date."""
        self._matrices.clear()
        catalog = self._catalog
        count = encode_new(catalog.connection(), catalog.base_dir, self._encoder, reporter=reporter)
        for kind in (TEXTS, PICTURES):
            self._matrix(kind)  # what changed is laid out now: the search itself is to be quick
        return count

    def search(
        self,
        text: str,
        *,
        picture: NDArray[np.uint8] | None = None,
        wish: Wish | None = None,
        limit: int = 20,
    ) -> list[Found]:
        """Return the kits that fit a text, a picture (H, W, 3), or both best.

        A text is looked for in words, in what kits say and in what their pictures show; a picture in the
        last two. An encoder that knows nothing of the question leaves the words to decide.
        """
        wish = wish or Wish(valid=True)
        allowed = self._allowed(wish)
        orders: list[tuple[str, list[str]]] = []
        hits = self._catalog.search(text, wish=wish, limit=_DEPTH) if text.strip() else []
        if hits:
            orders.append(("words", [hit.id for hit in hits]))
        questions = [self._encoder.texts([text])[0]] if text.strip() else []
        questions += [self._encoder.embed([picture])[0]] if picture is not None else []
        for question in questions:
            if question.any():
                orders += [(kind, self._order(kind, question, allowed)) for kind in (TEXTS, PICTURES)]
        instead = hits[0].instead if hits else ()
        return _joined(orders, instead)[:limit]

    def _allowed(self, wish: Wish) -> NDArray[np.int64]:
        clause, values = wish.where()
        rows = self._catalog.connection().execute(f"SELECT number FROM kits WHERE {clause}", values)
        return np.fromiter((number for (number,) in rows), np.int64)

    def _order(self, kind: str, question: Vectors, allowed: NDArray[np.int64]) -> list[str]:
        """Kits that are nearer to the question than kits are on the whole, the nearest first."""
        matrix = self._matrix(kind)
        cosines = matrix.best(question)
        if not len(cosines):
            return []
        # exactly 0 is where the encoder saw nothing that it knows
        good = (cosines >= np.mean(cosines) - 1e-6) & (cosines != 0) & np.isin(matrix.numbers, allowed)
        rows = np.flatnonzero(good)
        ranked = matrix.numbers[rows[np.argsort(-cosines[rows], kind="stable")][:_DEPTH]].tolist()
        marks = ", ".join("?" * len(ranked))
        names = dict(
            self._catalog.connection().execute(
                f"SELECT number, folder FROM kits WHERE number IN ({marks})", ranked
            )
        )
        return [os.fsdecode(names[number]) for number in ranked if number in names]

    def _matrix(self, kind: str) -> Matrix:
        if kind not in self._matrices:
            catalog = self._catalog
            self._matrices[kind] = load_matrix(
                catalog.connection(), catalog.place, encoder=self._key, kind=kind
            )
        return self._matrices[kind]


def _joined(orders: Iterable[tuple[str, list[str]]], instead: tuple[tuple[str, str], ...]) -> list[Found]:
    scores: dict[str, float] = {}
    by: dict[str, list[str]] = {}
    for kind, names in orders:
        for rank, name in enumerate(names):
            scores[name] = scores.get(name, 0.0) + 1.0 / (_RANK_DAMPER + rank)
            by.setdefault(name, []).append(kind)
    ranked = sorted(scores, key=lambda name: (-scores[name], name))
    return [Found(name, scores[name], tuple(dict.fromkeys(by[name])), instead) for name in ranked]
