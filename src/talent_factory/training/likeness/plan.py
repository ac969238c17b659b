"""What is drawn to measure a run: prompts that choose, prompts that report, prompts that must not change."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from talent_factory.core.errors import ConfigError
from talent_factory.core.seeds import derive_seed
from talent_factory.dataset.captions import has_word
from talent_factory.dataset.manifest import DatasetManifest
from talent_factory.training.config import TrainConfig
from talent_factory.training.likeness.records import Ask, MeasurePlan, Shot
from talent_factory.world import palette

if TYPE_CHECKING:
    from talent_factory.training.families.port import Base

# Of the drawn world: its own words, in the media that carry colour, so that marks can be read.
DRAWN_MEDIA = ("flat", "comic", "watercolor")
DRAWN_PLACES = ("blue", "yellow", "teal", "pink", "city", "forest", "beach", "night")

# For any other base: a medium, what the subject does and where, in words that every v1 model knows.
MEDIA = ("photo", "oil painting", "pencil drawing", "watercolor painting")
MOODS = ("smiling", "serious", "laughing", "looking surprised")
PLACES = (
    "on a city street",
    "in a forest",
    "on a beach",
    "in a kitchen",
    "in front of a white wall",
    "at night under a street lamp",
    "on a mountain",
    "in a library",
)
MEASURE_BATCH = 8  # pictures that are drawn together
_MEASURES = 8  # in a run where nobody says how many


def measure_plan(
    config: TrainConfig, manifest: DatasetManifest, base: Base, *, held_out: Sequence[str] = ()
) -> MeasurePlan:
    """The plan of a run: a pure function of its config, its dataset and the base.

    `held_out` names the files that are not trained on; they are what the subject should look like. With
    fewer than two of them all images are, and the plan says so. Raises ConfigError when there are fewer
    different prompts than asked for, or no encoder for this base.
    """
    keys = config.choose
    drawn = _is_mini(base)
    references = tuple(held_out) if len(held_out) >= 2 else tuple(item.file for item in manifest.items)
    training = tuple(item.file for item in manifest.items if item.file not in set(held_out))
    encoder, adherence, reporter = _judges(config, drawn)
    asked = _asks(config.seed, drawn=drawn)
    if 2 * keys.prompts > len(asked):
        raise ConfigError(
            f"choose.prompts is {keys.prompts}, this base has {len(asked) // 2} different ones",
            remedy=f"write choose: {{prompts: {len(asked) // 2}}} or fewer, and more seeds",
        )
    choosing, reporting = asked[: keys.prompts], asked[keys.prompts : 2 * keys.prompts]
    return MeasurePlan(
        subject=_shots(choosing, config, drawn=drawn, role="choose"),
        unrelated=_unrelated(base, config),
        report=_shots(reporting, config, drawn=drawn, role="report"),
        references=references,
        training=training or references,
        held_out=len(held_out) >= 2,
        size=(config.resolution, config.resolution),
        steps=keys.steps,
        guidance=base.guidance,
        batch=MEASURE_BATCH,
        encoder=encoder,
        adherence=adherence,
        reporter=reporter,
        seed=config.seed,
    )


def measure_interval(config: TrainConfig) -> int:
    """Steps between measured checkpoints: whole checkpoints, an eighth of the run unless the config says."""
    wanted = config.choose.every or math.ceil(config.max_train_steps / _MEASURES)
    return math.ceil(wanted / config.checkpoint_every) * config.checkpoint_every


def measure_calls(config: TrainConfig) -> int:
    """How often the UNet sees one picture because of measuring, guidance included: what to add to a forecast.

    Base and checkpoints, the strengths that are tried, and the report of base, chosen and last.
    """
    keys = config.choose
    if not keys.measure:
        return 0
    checkpoints = math.ceil(config.max_train_steps / measure_interval(config))
    subject, unrelated = keys.prompts * keys.seeds, max(2, keys.prompts // 2)
    sweep = len(set(keys.weights) - {1.0})
    pictures = (1 + checkpoints + sweep) * (subject + unrelated) + 3 * subject
    return 2 * keys.steps * pictures


def _is_mini(base: Base) -> bool:
    return base.family == "mini" or base.name == "mini"


def _judges(config: TrainConfig, drawn: bool) -> tuple[str, str, str]:
    """Who chooses by look, who by prompt, and who reports; raises ConfigError when a base has no judge."""
    keys = config.choose
    own = "probe" if config.subject == "identity" else "probe:style"
    encoder = (own if drawn else "") if keys.encoder == "auto" else keys.encoder
    if not encoder:
        raise ConfigError(
            f"choose.measure is on, and {config.base_model} needs an encoder to be measured by",
            remedy="write choose: {encoder: 'dinov2:FOLDER', adherence: 'clip:FOLDER'} with local weights, "
            "or measure: false",
        )
    tells = encoder.partition(":")[0] in ("probe", "clip")
    adherence = (encoder if tells else "none") if keys.adherence == "auto" else keys.adherence
    if keys.report != "auto":
        return encoder, adherence, keys.report
    if adherence not in ("none", encoder):
        return encoder, adherence, adherence  # two encoders: one chooses, the other reports
    return encoder, adherence, encoder.replace("probe", "answers", 1) if tells else encoder


def _asks(seed: int, *, drawn: bool) -> list[Ask]:
    """All requests in an order that depends on the seed alone; neighbours differ in every word."""
    media, moods, places = (DRAWN_MEDIA, palette.MOODS, DRAWN_PLACES) if drawn else (MEDIA, MOODS, PLACES)
    every = [
        Ask(medium=medium, mood=mood, background=place)
        for medium, mood, place in itertools.product(media, moods, places)
    ]
    order = np.random.default_rng(derive_seed("measure", "asks", seed)).permutation(len(every))
    return [every[index] for index in order]


def _shots(asked: Sequence[Ask], config: TrainConfig, *, drawn: bool, role: str) -> tuple[Shot, ...]:
    return tuple(
        Shot(
            prompt=_prompt(ask, config, drawn=drawn, named=True),
            plain=_prompt(ask, config, drawn=drawn, named=False),
            seed=derive_seed("measure", role, config.seed, number, copy),
            # a style is drawn in its own medium, whatever stood there
            ask=ask if config.subject == "identity" else ask.model_copy(update={"medium": "its own"}),
            group=number,
        )
        for number, ask in enumerate(asked)
        for copy in range(config.choose.seeds)
    )


def _prompt(ask: Ask, config: TrainConfig, *, drawn: bool, named: bool) -> str:
    """The request in words, with the trigger or, `named` False, without it.

    A style takes the place of the medium where it has a trigger; without one the prompt stays as it is.
    """
    token = config.token if named else None
    noun, medium = config.class_noun, ask.medium
    if config.subject == "style":
        noun, medium = "woman" if noun == "person" else noun, token or ask.medium
        token = None
    subject = f"a {token} {noun}" if token else f"a {noun}"
    if drawn:
        return f"{medium} portrait of {subject}, {ask.mood}, {ask.background} background"
    return f"{medium} of {subject}, {ask.mood}, {ask.background}"


def _unrelated(base: Base, config: TrainConfig) -> tuple[Shot, ...]:
    """Prompts without the trigger, from the base's list: half of the subject's class, where leaks begin."""
    count = max(2, config.choose.prompts // 2)
    plain = base.class_prompts or ("a photo of a person", "a photo of a house")
    kin = [text for text in plain if has_word(text, config.class_noun)]
    others = [text for text in plain if text not in kin]
    near = _spread(kin, count // 2 if others else count)
    chosen = [*near, *_spread(others, count - len(near))]
    return tuple(
        Shot(prompt=text, plain=text, seed=derive_seed("measure", "unrelated", config.seed, row), group=row)
        for row, text in enumerate(chosen)
    )


def _spread(texts: Sequence[str], count: int) -> list[str]:
    """At most `count` of `texts`, evenly far apart."""
    if count < 1 or not texts:
        return []
    return list(texts[:: max(1, len(texts) // count)][:count])
