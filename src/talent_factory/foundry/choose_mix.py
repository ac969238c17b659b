"""Choose how to mix two kits: draw every way on the same prompts and seeds, and measure which is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import UsageError
from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_path
from talent_factory.core.records import write_record
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient
from talent_factory.foundry.merging import mixed
from talent_factory.foundry.sheets import picture_rows
from talent_factory.foundry.texture import style_shares
from talent_factory.foundry.ways import (
    PLAIN_SUM,
    Marks,
    MixChoice,
    Question,
    Tried,
    noun_of,
    questions,
    uses_of,
    ways,
)
from talent_factory.training.likeness.encoders import (
    IdentityEncoder,
    PromptJudge,
    Vectors,
    open_encoder,
    open_judge,
)
from talent_factory.training.likeness.records import Shot
from talent_factory.training.likeness.ruler import likeness_to
from talent_factory.training.likeness.scoring import resampled_groups
from talent_factory.training.quick import quick
from talent_factory.training.sampler import Hooks, Manner, Texts, draw

if TYPE_CHECKING:
    from talent_factory.training.families.port import Base

Pictures = NDArray[np.uint8]
Floats = NDArray[np.float64]
Drawn = dict[str, Pictures]
"""Pictures (N, H, W, 3) by the name of the way; those of each kit alone as `identity` and `style`."""

CONFIDENCE = 0.9
# Of the plain sum's score: with several ways to try, one is a little better by chance.
LEAST_GAIN = 0.02
# Of each of the sum's marks: their scales differ, and a look that hides marks must not be traded for them.
LEAST_KEPT = 0.93
STEPS = 12
CHOICE_FILE = "choice.json"
SHEET_FILE = "sheet.png"
_BATCH = 8
_LEAST_SPAN = 1e-3


@dataclass(frozen=True)
class Judges:
    """Who sees the identity, and who reads whether a prompt was obeyed; looks are compared by texture."""

    identity: IdentityEncoder
    prompt: PromptJudge

    @classmethod
    def open(cls, base: Base, *, encoder: str | None = None, adherence: str | None = None) -> Judges:
        """Those named as in `choose:` of a training; of `mini`, its own probe.

        Raises UsageError when another base comes without an encoder, ConfigError for one that is none.
        """
        own = "probe" if base.family == "mini" else None
        if encoder is None and own is None:
            raise UsageError(
                "nobody is named who could tell the identity",
                remedy="add --encoder dinov2:FOLDER or clip:FOLDER with local weights",
            )
        chosen = encoder or own or ""
        judge = adherence or own or (chosen if chosen.startswith("clip:") else "none")
        return cls(open_encoder(chosen), open_judge(judge))

    @property
    def names(self) -> dict[str, str]:
        """Each with the sha256 of its weights."""
        return {
            self.identity.name: self.identity.revision,
            self.prompt.name: self.prompt.revision,
            "texture": "1",
        }


@dataclass(frozen=True)
class Asked:
    """What is drawn: the questions, and how."""

    questions: tuple[Question, ...]
    manner: Manner


def ask(
    identity: Ingredient, style: Ingredient, base: Base, *, noun: str | None = None, seed: int = 0
) -> Asked:
    """The usual questions about a pair: eight prompts, one seed each, few steps."""
    found = questions(
        identity.kit, style.kit, noun=noun or noun_of(identity.kit), drawn=base.family == "mini", seed=seed
    )
    return Asked(found, Manner(steps=STEPS, guidance=base.guidance))


def draw_ways(
    base: Base,
    pair: tuple[Ingredient, Ingredient],
    asked: Asked,
    *,
    reporter: Reporter,
    known: Mapping[str, Pictures] | None = None,
) -> Drawn:
    """The pictures of each kit alone and of every way, drawn from the same seeds.

    `known` are pictures that need not be drawn again, by the same names.
    """
    identity, style = pair
    plans: dict[str, tuple[Mix, list[Shot]]] = {
        "identity": (Mix(ingredients=(identity,)), [one.identity for one in asked.questions]),
        "style": (Mix(ingredients=(style,)), [one.style for one in asked.questions]),
    }
    plans |= {
        name: (mix, [one.both for one in asked.questions]) for name, mix in ways(identity, style).items()
    }
    drawn: Drawn = {}
    for number, (name, (mix, shots)) in enumerate(plans.items()):
        known_pictures = (known or {}).get(name)
        drawn[name] = (
            known_pictures if known_pictures is not None else draw_mix(base, mix, shots, asked.manner)
        )
        reporter.progress("drawing ways to mix", number + 1, len(plans), unit="way")
    return drawn


def draw_mix(base: Base, mix: Mix, shots: Sequence[Shot], manner: Manner) -> Pictures:
    """The pictures of one mix: (N, H, W, 3) uint8."""
    with mixed(base, mix) as mixture, quick(base):
        texts, hooks = Texts(base), Hooks(before_step=mixture.before_step)
        batches = [shots[start : start + _BATCH] for start in range(0, len(shots), _BATCH)]
        return np.concatenate(
            [
                draw(
                    texts,
                    [shot.prompt for shot in batch],
                    seeds=[shot.seed for shot in batch],
                    manner=manner,
                    hooks=hooks,
                )
                for batch in batches
            ]
        )


def choose_mix(
    base: Base, pair: tuple[Ingredient, Ingredient], asked: Asked, drawn: Drawn, *, judges: Judges
) -> MixChoice:
    """Measure what `draw_ways` drew and choose.

    Another way than the plain sum is chosen only when it is `LEAST_GAIN` better, better in `CONFIDENCE` of
    the resamples of the prompts, and keeps `LEAST_KEPT` of each mark: eight pictures say little, and the sum
    needs nothing from those who use the kits elsewhere.
    """
    shots = [one.both for one in asked.questions]
    raw = _Raw.of(drawn, asked, judges)
    resamples = resampled_groups([shot.group for shot in shots], seed=0).astype(np.float64)
    whole = np.ones((1, len(shots)))
    scores = {name: raw.marks(name, resamples)[3] for name in raw.names}
    tried = []
    for name, mix in ways(*pair).items():
        low, high = np.quantile(scores[name], [0.05, 0.95])
        parts = [round(float(value[0]), 4) for value in raw.marks(name, whole)]
        tried.append(
            Tried(
                name=name,
                kits=uses_of(mix),
                projection=mix.projection,
                switch=mix.switch,
                marks=Marks(identity=parts[0], style=parts[1], prompt=parts[2], harmonic=parts[3]),
                low=round(float(low), 4),
                high=round(float(high), 4),
                better=round(float((scores[name] > scores[PLAIN_SUM]).mean()), 4),
            )
        )
    best, reason = _decide(tried)
    return MixChoice(
        identity=pair[0].kit.id,
        style=pair[1].kit.id,
        base_revision=base.revision,
        chosen=best,
        reason=reason,
        confidence=CONFIDENCE,
        judges=judges.names,
        prompts=tuple(shot.prompt for shot in shots),
        seeds=tuple(shot.seed for shot in shots),
        steps=asked.manner.steps,
        guidance=asked.manner.guidance,
        tried=tuple(tried),
    )


def choose_and_keep(
    base_name: str,
    pair: Sequence[Ingredient],
    *,
    out: Path,
    reporter: Reporter,
    judges: tuple[str | None, str | None] = (None, None),
    noun: str | None = None,
    seed: int = 0,
) -> MixChoice:
    """Draw, choose, and write `out/choice.json` and `out/sheet.png`, a row for each way; returns the choice.

    `judges` name who tells the identity and who reads prompts, as `Judges.open` takes them. Raises UsageError
    unless the pair is an identity with a trigger and a style, and what the judges and the kits raise.
    """
    from talent_factory.foundry.render import open_base

    identity, style = _pair(pair)
    base = open_base(base_name)
    who = Judges.open(base, encoder=judges[0], adherence=judges[1])
    asked = ask(identity, style, base, noun=noun, seed=seed)
    drawn = draw_ways(base, (identity, style), asked, reporter=reporter)
    choice = choose_mix(base, (identity, style), asked, drawn, judges=who)
    rows = [(_label(name, choice), list(pictures)) for name, pictures in drawn.items()]
    with atomic_path(out / SHEET_FILE) as temporary:
        picture_rows(rows).save(temporary, "PNG")
    write_record(out / CHOICE_FILE, choice)
    return choice


def _pair(pair: Sequence[Ingredient]) -> tuple[Ingredient, Ingredient]:
    kinds = [use.kit.id.split(".")[1] for use in pair]
    if kinds != ["identity", "style"]:
        raise UsageError(
            f"an identity and a style are compared, not {' and '.join(kinds)}",
            remedy="talent mix choose avatar.identity.A avatar.style.B",
        )
    if not pair[0].kit.manifest.token:
        raise UsageError(f"{pair[0].kit.id} has no trigger", remedy="choose a kit with a token")
    return pair[0], pair[1]


def _label(name: str, choice: MixChoice) -> str:
    """The name of a row, with what was measured of it."""
    for one in choice.tried:
        if one.name == name:
            marks = one.marks
            mark = "  (chosen)" if name == choice.chosen else ""
            return (
                f"{name}: {marks.harmonic:.2f}   identity {marks.identity:.2f}, style {marks.style:.2f}, "
                f"prompt {marks.prompt:.2f}{mark}"
            )
    return f"{name} alone"


def _decide(tried: Sequence[Tried]) -> tuple[str, str]:
    plain = next(one for one in tried if one.name == PLAIN_SUM)
    least = (1.0 + LEAST_GAIN) * plain.marks.harmonic
    sure = [
        one
        for one in tried
        if one.better >= CONFIDENCE and one.marks.harmonic > least and _keeps(one.marks, plain.marks)
    ]
    if not sure:
        nearest = max((one for one in tried if one is not plain), key=lambda one: one.marks.harmonic)
        return PLAIN_SUM, (
            f"no way beats the plain sum ({plain.marks.harmonic:.3f}) surely and by enough; the nearest, "
            f"{nearest.name} ({nearest.marks.harmonic:.3f}), does in {nearest.better:.0%} of the resamples"
        )
    best = max(sure, key=lambda one: one.marks.harmonic)
    return best.name, (
        f"{best.name} scores {best.marks.harmonic:.3f}, the plain sum {plain.marks.harmonic:.3f}, "
        f"and is better in {best.better:.0%} of the resamples"
    )


def _keeps(marks: Marks, plain: Marks) -> bool:
    """Whether nothing that the plain sum has is given up for the rest."""
    pairs = ((marks.identity, plain.identity), (marks.style, plain.style), (marks.prompt, plain.prompt))
    return all(one >= LEAST_KEPT * other for one, other in pairs)


@dataclass(frozen=True)
class _Raw:
    """What the judges say of each picture, and the ends of their scales."""

    identity: dict[str, Floats]
    style: dict[str, Floats]
    prompt: dict[str, Floats]
    floor: Floats
    ceiling: Floats
    obedience: Floats

    @property
    def names(self) -> list[str]:
        return [name for name in self.style if name not in ("identity", "style")]

    @classmethod
    def of(cls, drawn: Drawn, asked: Asked, judges: Judges) -> _Raw:
        vectors = {name: judges.identity.embed(pictures) for name, pictures in drawn.items()}
        own = vectors["identity"]
        told = {
            name: np.asarray(
                judges.prompt.adherence(pictures, [_asked_of(one, name) for one in asked.questions])
            )
            for name, pictures in drawn.items()
        }
        looks = {
            name: style_shares(pictures, plain=drawn["identity"], styled=drawn["style"])
            for name, pictures in drawn.items()
        }
        return cls(
            identity={name: likeness_to(rows, own) for name, rows in vectors.items()},
            style=looks,
            prompt=told,
            floor=likeness_to(vectors["style"], own),
            ceiling=_among(own),
            # the kit that obeys less sets what can be asked of both
            obedience=np.minimum(told["identity"], told["style"]),
        )

    def marks(self, name: str, weights: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Identity, style, prompt and their harmonic mean for each row of `weights` (R, pictures)."""
        shares = weights / weights.sum(axis=1, keepdims=True)
        floor = shares @ self.floor
        span = np.maximum(shares @ self.ceiling - floor, _LEAST_SPAN)
        identity = np.clip((shares @ self.identity[name] - floor) / span, 0.0, 1.0)
        style = np.clip(shares @ self.style[name], 0.0, 1.0)
        told = np.maximum(shares @ self.obedience, _LEAST_SPAN)
        prompt = np.clip(shares @ self.prompt[name] / told, 0.0, 1.0)
        return identity, style, prompt, _harmonic(identity, style, prompt)


def _asked_of(question: Question, name: str) -> Shot:
    return {"identity": question.identity, "style": question.style}.get(name, question.both)


def _among(vectors: Vectors) -> Floats:
    """How like each picture of the identity alone is to the others of it: (N,)."""
    rows = range(len(vectors))
    return np.array([likeness_to(vectors[row : row + 1], np.delete(vectors, row, axis=0))[0] for row in rows])


def _harmonic(*parts: Floats) -> Floats:
    """The harmonic mean of shares, 0 where one is 0: (R,)."""
    stacked = np.stack(parts)
    least = stacked.min(axis=0)
    inverse = np.divide(1.0, stacked, out=np.full_like(stacked, np.inf), where=stacked > 0).sum(axis=0)
    found: Floats = np.where(least > 0, len(parts) / inverse, 0.0)
    return found
