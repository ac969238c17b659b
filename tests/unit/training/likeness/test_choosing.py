"""The choice of a checkpoint and a strength, from measures made up to have a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.core.errors import FileError
from talent_factory.training.likeness.choose import Plateau, choose, choose_weight, plateau
from talent_factory.training.likeness.records import Measure, Yardstick
from talent_factory.training.likeness.scoring import harmonic, resampled_groups, score

YARDSTICK = Yardstick(identity=0.9, copy_limit=0.95, diversity=0.8, held_out=True)
GROUPS = tuple(number for number in range(8) for _ in range(2))
NOISE = np.random.default_rng(5).normal(0.0, 0.01, 16)


def measured(step: int, identity: float, adherence: float = 1.0, **changes: object) -> Measure:
    """A checkpoint whose 16 pictures scatter a little around these means, alike at each step."""
    values: dict[str, object] = {
        "step": step,
        "groups": GROUPS,
        "identity": tuple(float(value) for value in identity + NOISE),
        "adherence": tuple(float(value) for value in adherence + NOISE[::-1]),
        "nearest": (0.5,) * 16,
        "drift": (0.2,) * 4 if step else (),
        "diversity": 0.8,
        "yardstick": YARDSTICK,
    }
    return Measure.model_validate({**values, **changes})


BASE = measured(0, 0.3)


def test_scores_are_shares_of_what_real_pictures_and_the_base_reach() -> None:
    half = score(measured(10, 0.6, 0.5), BASE, seed=1)
    assert half.identity == pytest.approx(0.5, abs=0.02)  # half way from the base's 0.3 to the real 0.9
    assert half.adherence == pytest.approx(0.5, abs=0.02)
    assert half.score == pytest.approx(0.5 * (1 - 0.1 * 0.2), abs=0.02)
    assert half.low <= half.score <= half.high
    assert half.high - half.low < 0.1


def test_the_base_itself_scores_nothing() -> None:
    assert score(BASE, BASE, seed=1).score == 0.0


def test_copies_and_collapse_cost_the_score() -> None:
    good = score(measured(10, 0.8), BASE, seed=1)
    copies = score(measured(10, 0.8, nearest=(0.99,) * 8 + (0.5,) * 8), BASE, seed=1)
    assert copies.copied == 0.5
    assert copies.score == pytest.approx(good.score / 2, rel=0.01)
    collapsed = score(measured(10, 0.8, diversity=0.1), BASE, seed=1)
    assert collapsed.score == pytest.approx(good.score / 4, rel=0.01)


def test_other_prompts_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="other prompts"):
        score(measured(10, 0.8, groups=tuple(range(16))), BASE, seed=1)


def test_pictures_of_one_prompt_are_drawn_together() -> None:
    weights = resampled_groups(GROUPS, seed=3)
    assert weights.shape == (1000, 16)
    assert (weights[:, ::2] == weights[:, 1::2]).all()
    assert (weights.sum(axis=1) == 16).all()
    assert (weights == resampled_groups(GROUPS, seed=3)).all()
    assert (weights != resampled_groups(GROUPS, seed=4)).any()


def test_the_earliest_of_equals_is_chosen() -> None:
    steps = [measured(100, 0.5), measured(200, 0.801), measured(300, 0.802), measured(400, 0.801)]
    noisy = [
        item.model_copy(update={"identity": tuple(np.roll(item.identity, index).tolist())})
        for index, item in enumerate(steps)
    ]
    choice = choose([BASE, *noisy], seed=1, confidence=0.8)
    assert choice.step == 200
    assert choice.best_step in (200, 300, 400)
    assert choice.last_step == 400
    assert [item.step for item in choice.scores] == [0, 100, 200, 300, 400]
    assert str(choice.step) in choice.reason


def test_of_checkpoints_that_measure_the_same_the_first_is_chosen() -> None:
    steps = [measured(100, 0.5), measured(200, 0.8), measured(300, 0.8), measured(400, 0.8)]
    assert choose([BASE, *steps], seed=1).step == 200


def test_a_clear_best_is_chosen_and_overfitting_is_not() -> None:
    steps = [measured(100, 0.5), measured(200, 0.85), measured(300, 0.9, 0.5), measured(400, 0.9, 0.2)]
    assert choose([BASE, *steps], seed=1).step == 200


def test_the_order_of_the_lines_does_not_matter() -> None:
    steps = [BASE, measured(100, 0.5), measured(200, 0.85), measured(300, 0.86, 0.9)]
    assert choose(steps, seed=1) == choose(steps[::-1], seed=1)


def test_a_model_that_learnt_nothing_ships_its_last_step_and_says_so() -> None:
    choice = choose([BASE, measured(100, 0.2), measured(200, 0.2)], seed=1)
    assert choice.step == 200
    assert "measurably" in choice.reason


def test_measures_without_a_checkpoint_are_refused() -> None:
    with pytest.raises(FileError, match="no measures"):
        choose([BASE], seed=1)
    with pytest.raises(FileError, match="no measures"):
        choose([measured(100, 0.5), measured(200, 0.6)], seed=1)


def test_the_strength_nearest_to_one_stands_unless_another_is_clearly_better() -> None:
    alike = [measured(300, 0.8, weight=weight) for weight in (0.8, 1.0, 1.2)]
    assert choose_weight(alike, BASE, seed=1)[0] == 1.0
    weak = [measured(300, 0.5, weight=1.0), measured(300, 0.85, weight=1.2)]
    chosen, scores = choose_weight(weak, BASE, seed=1)
    assert chosen == 1.2
    assert [item.weight for item in scores] == [1.0, 1.2]


@given(st.lists(st.floats(0.3, 0.9), min_size=1, max_size=12), st.integers(0, 11), st.integers(1, 4))
def test_a_plateau_is_the_same_after_a_resume(values: list[float], cut: int, patience: int) -> None:
    steps = [measured(10 * (index + 1), value) for index, value in enumerate(values)]
    whole = plateau([BASE, *steps], patience=patience, seed=1)
    kept = plateau([BASE, *steps[:cut]], patience=patience, seed=1)
    resumed = Plateau.model_validate_json(kept.model_dump_json())
    for item in steps[cut:]:
        seen = score(item, BASE, seed=1)
        if resumed.best_step or seen.score > 0.005:
            resumed = resumed.after(seen)
    assert resumed == whole


def test_a_plateau_is_reached_after_patience_and_not_before_anything_is_learnt() -> None:
    slow = [BASE, *(measured(step, 0.3) for step in (10, 20, 30, 40))]
    assert not plateau(slow, patience=2, seed=1).reached
    flat = [BASE, measured(10, 0.7), measured(20, 0.7), measured(30, 0.7)]
    assert plateau(flat, patience=2, seed=1).reached
    assert plateau(flat, patience=2, seed=1).best_step == 10
    rising = [BASE, measured(10, 0.5), measured(20, 0.6), measured(30, 0.7)]
    assert not plateau(rising, patience=2, seed=1).reached


def test_harmonic() -> None:
    assert harmonic(0.5, 0.5) == 0.5
    assert harmonic(1.0, 0.0) == 0.0
    assert harmonic(-0.1, 0.5) == 0.0
