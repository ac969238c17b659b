"""One dial gives all numbers."""

from __future__ import annotations

import pytest

from talent_factory.core.errors import UsageError
from talent_factory.quality import derive_dials


def test_better_means_more() -> None:
    draft, standard, best = (derive_dials(word) for word in ("draft", "standard", "best"))
    assert draft.train_steps < standard.train_steps < best.train_steps
    assert draft.lora_rank <= standard.lora_rank <= best.lora_rank
    assert draft.seeds_per_scene <= standard.seeds_per_scene <= best.seeds_per_scene


def test_every_quality_says_why() -> None:
    dials = derive_dials("standard")
    assert dials == derive_dials("standard")
    assert any(str(dials.train_steps) in reason for reason in dials.reasons)
    assert any(f"rank {dials.lora_rank}" in reason for reason in dials.reasons)


def test_only_the_best_is_measured_and_only_where_that_is_possible() -> None:
    assert [derive_dials(word).measure for word in ("draft", "standard", "best")] == [False, False, True]
    assert any("measured" in reason for reason in derive_dials("best").reasons)
    other = derive_dials("best", readable=False)
    assert not other.measure
    assert any("the last step ships" in reason for reason in other.reasons)


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(UsageError, match="'ultra'"):
        derive_dials("ultra")
