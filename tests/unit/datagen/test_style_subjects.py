"""The subjects of style sets: complete, our painter can draw each, captions free of media, fair dealing."""

from __future__ import annotations

import re

import pytest

from talent_factory.datagen.subjects import deal, load_subjects
from talent_factory.providers.embedded.motifs import MOTIFS

MEDIA = re.compile(
    r"\b(paint\w*|drawing|drawn|sketch\w*|ink|photo\w*|watercolou?r|illustration|woodcut|render\w*|style)\b"
)


def test_seven_categories_of_nine_and_a_drawing_for_each() -> None:
    categories = load_subjects().category
    names = [subject.name for category in categories for subject in category.subject]
    assert [len(category.subject) for category in categories] == [9] * 7
    assert len(set(names)) == 63
    assert set(names) == set(MOTIFS)


def test_captions_speak_of_content_only() -> None:
    subjects = [subject for category in load_subjects().category for subject in category.subject]
    for subject in subjects:
        assert not MEDIA.search(f"{subject.caption} {subject.text}"), subject.name
    assert len({subject.caption for subject in subjects}) == 63


@pytest.mark.parametrize("seed", [0, 1, 77])
def test_every_grid_holds_all_categories_and_seven_grids_use_all_once(seed: int) -> None:
    grids = deal(14, seed=seed)
    category = load_subjects().category_of
    for grid in grids:
        assert len(grid) == 9
        assert len({category(subject.name) for subject in grid}) == 7
    for lap in (grids[:7], grids[7:]):
        assert len({subject.name for grid in lap for subject in grid}) == 63
    assert grids[:7] != grids[7:]


def test_dealing_more_does_not_change_what_was_dealt() -> None:
    assert deal(3, seed=5) == deal(9, seed=5)[:3]
    assert deal(3, seed=5) != deal(3, seed=6)
