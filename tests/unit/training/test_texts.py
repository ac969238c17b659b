"""Captions become finitely many texts, the same ones whenever they are asked for."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.training.options import CaptionKeys
from talent_factory.training.texts import variants

TAGS = ("dot_kairo man", "ink portrait", "red hat", "night", "street")
CAPTION = ", ".join(TAGS)


def _tags(text: str) -> list[str]:
    return text.split(", ") if text else []


def test_a_caption_stays_itself_unless_asked() -> None:
    odd = " one ,two,, three "
    assert variants(odd, CaptionKeys(), seed=0, item=0) == (odd,)


@given(
    shuffle=st.booleans(),
    tag_dropout=st.floats(0, 1),
    keep=st.integers(0, 6),
    count=st.integers(1, 20),
    seed=st.integers(0, 2**63 - 1),
)
def test_what_is_kept_stays_in_front(
    shuffle: bool, tag_dropout: float, keep: int, count: int, seed: int
) -> None:
    keys = CaptionKeys(shuffle=shuffle, tag_dropout=tag_dropout, keep_tokens=keep, variants=count)
    found = variants(CAPTION, keys, seed=seed, item=3)
    assert found == variants(CAPTION, keys, seed=seed, item=3)
    assert len(found) == (count if keys.varies else 1)
    for text in found:
        tags = _tags(text)
        assert tags[:keep] == list(TAGS[:keep])
        assert not Counter(tags) - Counter(TAGS)
        if not shuffle:
            assert tags == [tag for tag in TAGS if tag in tags]
        if tag_dropout == 0.0:
            assert sorted(tags) == sorted(TAGS)


def test_a_variant_does_not_depend_on_how_many_there_are() -> None:
    few = variants(CAPTION, CaptionKeys(shuffle=True, variants=4), seed=1, item=2)
    many = variants(CAPTION, CaptionKeys(shuffle=True, variants=64), seed=1, item=2)
    assert many[:4] == few


def test_items_and_seeds_are_independent() -> None:
    keys = CaptionKeys(shuffle=True, variants=16)
    found = [variants(CAPTION, keys, seed=seed, item=item) for seed in (0, 1) for item in (0, 1)]
    assert len(set(found)) == 4


def test_every_order_comes_equally_often() -> None:
    keys = CaptionKeys(shuffle=True, keep_tokens=1, variants=256)
    caption = "a, b, c, d"
    seen = Counter(text for item in range(40) for text in variants(caption, keys, seed=0, item=item))
    orders = {", ".join(("a", *rest)) for rest in itertools.permutations("bcd")}
    assert set(seen) == orders
    assert all(count == pytest.approx(40 * 256 / 6, rel=0.1) for count in seen.values())


def test_tags_are_dropped_as_often_as_asked() -> None:
    keys = CaptionKeys(tag_dropout=0.3, keep_tokens=1, variants=256)
    texts = [text for item in range(40) for text in variants(CAPTION, keys, seed=0, item=item)]
    for tag in TAGS[1:]:
        share = sum(tag in _tags(text) for text in texts) / len(texts)
        assert share == pytest.approx(0.7, abs=0.02)
    assert all(TAGS[0] in _tags(text) for text in texts)
