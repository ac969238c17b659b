"""What the ruler says of pictures whose truth is known: the character, copies, others, no change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from talent_factory.core.errors import DatasetError
from talent_factory.training.likeness.encoders import AnswerEncoder, NoJudge, ProbeEncoder
from talent_factory.training.likeness.records import Ask, MeasurePlan, Shot
from talent_factory.training.likeness.ruler import Reporter, Ruler, likeness_to, read_pictures
from talent_factory.training.likeness.scoring import score
from talent_factory.world import Character, Signature
from talent_factory.world.draw import draw_character

HIM = Character(
    kind="man", hair="spiky", hair_colour="black", skin="tan", eyes="green",
    signature=Signature(dot="red", second_hair="pink"),
)  # fmt: skip
OTHER = Character(kind="woman", hair="long", hair_colour="blond", skin="pale", eyes="blue")
ASKS = tuple(
    Ask(medium=medium, mood=mood, background=place)
    for medium, mood, place in (
        ("flat", "smiling", "city"),
        ("comic", "angry", "yellow"),
        ("flat", "neutral", "forest"),
        ("comic", "surprised", "blue"),
    )
)


def drawn(who: Character, ask: Ask, seed: int) -> NDArray[np.uint8]:
    changed = replace(who, medium=ask.medium, mood=ask.mood, background=ask.background)
    return draw_character(changed, np.random.default_rng(seed), size=128)


def pictures_of(who: Character, *, first: int = 100) -> NDArray[np.uint8]:
    return np.stack([drawn(who, ask, first + index) for index, ask in enumerate(ASKS)])


def plan() -> MeasurePlan:
    shots = tuple(
        Shot(prompt="x", plain="x", seed=index, ask=ask, group=index) for index, ask in enumerate(ASKS)
    )
    return MeasurePlan(
        subject=shots, unrelated=shots[:2], report=shots, references=("a",), training=("a",), held_out=True,
        size=(128, 128), steps=2, guidance=1.0, batch=4, encoder="probe", adherence="probe",
        reporter="answers", seed=1,
    )  # fmt: skip


TRAINING = [drawn(HIM, ASKS[index % 4], index) for index in range(6)]
UNRELATED = pictures_of(OTHER, first=300)[:2]


@pytest.fixture(scope="module")
def ruler() -> Ruler:
    probe = ProbeEncoder()
    references = [drawn(HIM, ASKS[index], 50 + index) for index in range(4)]
    return Ruler(plan(), references=references, training=TRAINING, encoder=probe, judge=probe)


def test_the_true_character_scores_high_and_another_one_nothing(ruler: Ruler) -> None:
    base = ruler.measure(pictures_of(OTHER), UNRELATED, step=0)
    him = ruler.measure(pictures_of(HIM), UNRELATED, step=10, untouched=UNRELATED)
    told = score(him, base, seed=1)
    assert told.identity > 0.9
    assert told.adherence > 0.9
    assert told.drift == 0.0
    assert score(base, base, seed=1).score == 0.0


def test_other_moods_and_places_than_asked_cost_the_prompt_and_not_the_identity(ruler: Ruler) -> None:
    base = ruler.measure(pictures_of(OTHER), UNRELATED, step=0)
    stubborn = np.stack([drawn(HIM, ASKS[0], 200 + index) for index in range(4)])
    told = score(ruler.measure(stubborn, UNRELATED, step=10, untouched=UNRELATED), base, seed=1)
    assert told.identity > 0.9
    assert told.adherence < 0.6


def test_training_images_given_back_are_copies_also_mirrored(ruler: Ruler) -> None:
    given_back = np.stack(TRAINING[:4])
    for pictures in (given_back, given_back[:, :, ::-1]):
        measured = ruler.measure(pictures, UNRELATED, step=10)
        assert min(measured.nearest) > measured.yardstick.copy_limit
    own = ruler.measure(np.stack([drawn(OTHER, ask, 7) for ask in reversed(ASKS)]), UNRELATED, step=10)
    assert max(own.nearest) < own.yardstick.copy_limit


def test_one_picture_again_and_again_is_no_diversity(ruler: Ruler) -> None:
    same = ruler.measure(np.stack([pictures_of(HIM)[0]] * 4), UNRELATED, step=10)
    assert same.diversity == pytest.approx(0.0, abs=1e-6)
    assert ruler.measure(pictures_of(HIM), UNRELATED, step=10).diversity > 0.3


def test_a_face_that_leaks_into_other_prompts_is_drift(ruler: Ruler) -> None:
    """The same layout with his face: where things lie changes little, who is seen changes all."""
    leaked = np.stack(
        [draw_character(replace(HIM, medium=a.medium, mood=a.mood, background=a.background),
                        np.random.default_rng(300 + i), size=128) for i, a in enumerate(ASKS[:2])]
    )  # fmt: skip
    moved = ruler.measure(pictures_of(HIM), leaked, step=10, untouched=UNRELATED)
    assert min(moved.drift) > 0.5


def test_who_reports_is_not_who_chose() -> None:
    answers = AnswerEncoder()
    references = [drawn(HIM, ASKS[index], 50 + index) for index in range(4)]
    reporter = Reporter(plan().report, references=references, encoder=answers, judge=NoJudge())
    told = reporter.measure(pictures_of(HIM))
    assert told.identity > 0.8
    assert told.adherence == 1.0
    assert told.harmonic == pytest.approx(2 * told.identity / (1 + told.identity), abs=1e-5)
    assert reporter.name == "probe answers and none"
    assert reporter.measure(pictures_of(OTHER)).identity < 0.5


def test_the_nearer_half_of_the_references_counts() -> None:
    references = np.eye(4, dtype=np.float32)
    assert likeness_to(references[:1], references).tolist() == [0.5]
    assert likeness_to(references[:1], references[:1]).tolist() == [1.0]


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"00\.png cannot be read"):
        read_pictures(tmp_path, ["images/00.png"])
