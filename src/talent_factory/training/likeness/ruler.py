"""Lay the encoders beside pictures: the references once, every checkpoint's drawings as they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from talent_factory.core.errors import DatasetError
from talent_factory.training.likeness.encoders import (
    IdentityEncoder,
    LayoutEncoder,
    Pictures,
    PromptJudge,
    Vectors,
    open_encoder,
    open_judge,
)
from talent_factory.training.likeness.records import Measure, MeasurePlan, Reported, Shot, Yardstick
from talent_factory.training.likeness.scoring import harmonic

# A drawn picture repeats a training image when it is nearer to it than nearly all real ones are to another.
_COPY_QUANTILE = 0.95
_LEAST_CHANCE = 1e-2  # distance between two pictures of the base, should it draw all alike
_LEAST_COPY = 0.9  # of the correlation of thumbnails: below this two pictures are not the same picture


class Ruler:
    """The encoders of a plan with the subject's real pictures already embedded."""

    def __init__(
        self,
        plan: MeasurePlan,
        *,
        references: Pictures,
        training: Pictures,
        encoder: IdentityEncoder,
        judge: PromptJudge,
    ) -> None:
        """`references` and `training` are the pictures that the plan names, in its order."""
        self._plan, self._encoder, self._judge = plan, encoder, judge
        self._layout = LayoutEncoder()
        self._references = encoder.embed(references)
        layouts = self._layout.embed(training)
        self._training = np.concatenate([layouts, self._layout.embed([_mirrored(one) for one in training])])
        self.yardstick = Yardstick(
            identity=round(_among(self._references), 9),
            copy_limit=round(_copy_limit(layouts), 9),
            diversity=round(_spread(layouts, list(range(len(layouts)))), 9),
            held_out=plan.held_out,
        )

    @classmethod
    def open(cls, plan: MeasurePlan, dataset: Path, *, device: str = "cpu") -> Ruler:
        """Load the encoders and the pictures that `plan` names. Raises ConfigError or DatasetError."""
        return cls(
            plan,
            references=read_pictures(dataset, plan.references),
            training=read_pictures(dataset, plan.training),
            encoder=open_encoder(plan.encoder, device=device),
            judge=open_judge(plan.adherence, device=device),
        )

    @property
    def judges(self) -> dict[str, str]:
        """Who looks, with the sha256 of their weights."""
        return {self._encoder.name: self._encoder.revision, self._judge.name: self._judge.revision}

    def measure(
        self,
        subject: NDArray[np.uint8],
        unrelated: NDArray[np.uint8],
        *,
        step: int,
        weight: float = 1.0,
        untouched: NDArray[np.uint8] | None = None,
    ) -> Measure:
        """Measure the pictures (N, H, W, 3) of one checkpoint.

        `untouched` are the unrelated pictures by the base itself; None at step 0.
        """
        layouts = self._layout.embed(subject)
        groups = [shot.group for shot in self._plan.subject]
        return Measure(
            step=step,
            weight=weight,
            groups=tuple(groups),
            identity=_plain(likeness_to(self._encoder.embed(subject), self._references)),
            adherence=_plain(self._judge.adherence(subject, self._plan.subject)),
            nearest=_plain((layouts @ self._training.T).max(axis=1)),
            drift=() if untouched is None else self._drift(unrelated, untouched),
            diversity=round(_spread(layouts, groups), 9),
            yardstick=self.yardstick,
        )

    def _drift(self, unrelated: NDArray[np.uint8], untouched: NDArray[np.uint8]) -> tuple[float, ...]:
        """By where things lie and by who is seen, whichever moved further: a face that leaks is drift too."""
        moved = []
        for encoder in (self._layout, self._encoder):
            own, now = encoder.embed(untouched), encoder.embed(unrelated)
            chance = max(_spread(own, list(range(len(own)))), _LEAST_CHANCE)
            # rows are zero where an encoder sees nothing: no face before and after is no change
            blind = ~own.any(axis=1) & ~now.any(axis=1)
            moved.append(np.where(blind, 0.0, (1.0 - (own * now).sum(axis=1)) / chance))
        return _plain(np.maximum(*moved))


class Reporter:
    """The metric that chooses nothing: another encoder or another reading, on prompts of its own."""

    def __init__(
        self, shots: Sequence[Shot], *, references: Pictures, encoder: IdentityEncoder, judge: PromptJudge
    ) -> None:
        self._shots, self._encoder, self._judge = shots, encoder, judge
        self._references = encoder.embed(references)

    @classmethod
    def open(cls, plan: MeasurePlan, dataset: Path, *, device: str = "cpu") -> Reporter:
        """The reporter that `plan` names. Raises ConfigError or DatasetError."""
        encoder = open_encoder(plan.reporter, device=device)
        judge = encoder if isinstance(encoder, PromptJudge) else open_judge(plan.adherence, device=device)
        return cls(
            plan.report,
            references=read_pictures(dataset, plan.references),
            encoder=encoder,
            judge=judge,
        )

    @property
    def name(self) -> str:
        """Who measures the look, and who the prompt when that is another."""
        judge = "" if self._judge.name == self._encoder.name else f" and {self._judge.name}"
        return f"{self._encoder.name}{judge}"

    def measure(self, pictures: NDArray[np.uint8]) -> Reported:
        """The mean likeness to the references and the mean obedience, as the encoders give them."""
        identity = float(likeness_to(self._encoder.embed(pictures), self._references).mean())
        adherence = float(self._judge.adherence(pictures, self._shots).mean())
        return Reported(
            identity=round(identity, 6),
            adherence=round(adherence, 6),
            harmonic=round(harmonic(identity, adherence), 6),
        )


def likeness_to(vectors: Vectors, references: Vectors) -> NDArray[np.float64]:
    """The mean cosine of each row to the nearer half of `references`: (N,).

    A subject is drawn in many media; a good picture need not be like all of them.
    """
    cosines = np.sort(vectors.astype(np.float64) @ references.astype(np.float64).T, axis=1)
    half: NDArray[np.float64] = cosines[:, -max(1, (len(references) + 1) // 2) :].mean(axis=1)
    return half


def read_pictures(dataset: Path, files: Sequence[str]) -> list[NDArray[np.uint8]]:
    """The images of a dataset, each (H, W, 3) uint8. Raises DatasetError when one cannot be read."""
    pictures = []
    for name in files:
        try:
            with Image.open(dataset / name) as image:
                pictures.append(np.asarray(image.convert("RGB"), np.uint8))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise DatasetError(
                f"{dataset / name} cannot be read: {error}", remedy="prepare the dataset again"
            ) from error
    return pictures


def _among(references: Vectors) -> float:
    """How alike real pictures are: the median over each against the others."""
    if len(references) < 2:
        return 1.0
    others = [np.delete(references, row, axis=0) for row in range(len(references))]
    values = [likeness_to(references[row : row + 1], rest)[0] for row, rest in enumerate(others)]
    return float(np.median(values))


def _copy_limit(layouts: Vectors) -> float:
    """How near a real picture comes to another, at the 95th percentile, and never below a clear copy."""
    if len(layouts) < 3:
        return _LEAST_COPY
    cosines = layouts.astype(np.float64) @ layouts.astype(np.float64).T
    np.fill_diagonal(cosines, -1.0)
    return max(_LEAST_COPY, float(np.quantile(cosines.max(axis=1), _COPY_QUANTILE)))


def _spread(vectors: Vectors, groups: Sequence[int]) -> float:
    """The mean distance 1 - cosine between rows of different groups; 0 when there is one group only."""
    different = np.not_equal.outer(np.asarray(groups), np.asarray(groups))
    if not different.any():
        return 0.0
    distances = 1.0 - vectors.astype(np.float64) @ vectors.astype(np.float64).T
    return float(distances[different].mean())


def _mirrored(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture[:, ::-1])


def _plain(values: NDArray[np.float64] | Vectors) -> tuple[float, ...]:
    # nine digits: more than any judge can tell apart, and short lines in the log
    return tuple(round(float(value), 9) for value in values)
