"""A trigger must mean nothing before; what means something is warned of, with a free word beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.photo_maker import write_photos

from talent_factory.dataset.prepare import prepare_folder
from talent_factory.dataset.tokens import COMMON, free_token, token_findings


@pytest.mark.parametrize("token", ["cat", "cats", "woman", "emma", "x", "sk", "red_hat", "girl_2", "teal"])
def test_words_that_mean_something_are_warned_of(token: str) -> None:
    (finding,) = token_findings(token)
    assert finding.severity == "warn"
    offered = finding.remedy.split()[-1]
    assert not token_findings(offered)


@pytest.mark.parametrize("token", ["ohwx", "dot_kairo", "zwx", "anime_mecha_x", "sks", "kairo", "blue_zwx"])
def test_words_that_mean_nothing_are_free(token: str) -> None:
    assert token_findings(token) == []


def test_the_class_noun_is_no_trigger() -> None:
    assert "class noun" in token_findings("mechanic", class_noun="car mechanic")[0].message


def test_free_words_are_free_and_short() -> None:
    assert not [word for word in COMMON if token_findings(free_token(word))]
    assert len(free_token("a" * 99)) <= 40


def test_a_dataset_with_such_a_trigger_says_so(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "in", 2)
    for number in range(2):
        (folder / f"{number:02d}.txt").write_text(f"rose by the window, light {number}")
    made = prepare_folder(
        folder, out=tmp_path / "out", kind="identity", token="rose", class_noun="woman", resolution=64
    )
    assert "token rose" in [finding.subject for finding in made.findings]
