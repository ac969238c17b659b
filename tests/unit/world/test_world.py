"""The drawn world: the same seed draws the same picture, and captions say only what is to be seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.world import Character, Signature, caption, draw_character, palette, sample_character
from talent_factory.world.character import phrases
from talent_factory.world.draw import draw_large
from talent_factory.world.samples import DOT_KAIRO, identity_samples, kairo_portrait, style_samples


def drawn(who: Character, seed: int = 0, size: int = 128) -> np.ndarray:
    return draw_character(who, np.random.default_rng(seed), size=size)


@given(st.integers(0, 2**32))
def test_a_seed_is_a_character_and_a_picture(seed: int) -> None:
    first, second = (sample_character(np.random.default_rng(seed), unseen=True) for _ in range(2))
    assert first == second
    assert np.array_equal(drawn(first, seed), drawn(first, seed))


@given(st.integers(0, 2**32))
def test_without_unseen_nothing_unseen_is_drawn(seed: int) -> None:
    who = sample_character(np.random.default_rng(seed))
    assert who.signature == Signature()
    assert who.medium in palette.MEDIA


@pytest.mark.parametrize("medium", palette.MEDIA + palette.UNSEEN_MEDIA)
@pytest.mark.parametrize("framing", palette.FRAMINGS)
def test_every_medium_and_framing_draws_something_of_its_own(medium: str, framing: str) -> None:
    picture = drawn(Character(medium=medium, framing=framing, background="teal"))
    assert picture.shape == (128, 128, 3)
    assert picture.dtype == np.uint8
    chroma = np.ptp(picture.astype(int), axis=2).mean()
    assert (chroma < 1) == (medium in palette.MONOCHROME)
    assert picture.std() > 15


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("kind", palette.KINDS), ("hair", palette.HAIRCUTS), ("hair_colour", tuple(palette.HAIR)),
        ("accessory", palette.ACCESSORIES), ("mood", palette.MOODS), ("background", palette.BACKGROUNDS),
        ("shirt", tuple(palette.CLOTH)), ("eyes", tuple(palette.EYES)), ("skin", tuple(palette.SKIN)),
    ],
)  # fmt: skip
def test_every_value_of_an_attribute_changes_the_picture(field: str, values: tuple[str, ...]) -> None:
    pictures = [drawn(replace(Character(hair="long"), **{field: value})) for value in values]
    for index, one in enumerate(pictures):
        for other in pictures[index + 1 :]:
            assert np.abs(one.astype(int) - other).max() > 30


def test_a_signature_is_seen_but_never_said() -> None:
    plain = replace(DOT_KAIRO, signature=Signature())
    assert np.abs(drawn(DOT_KAIRO).astype(int) - drawn(plain)).max() > 60
    assert caption(DOT_KAIRO) == caption(plain)


@given(st.integers(0, 2**32))
def test_captions_name_no_colour_that_the_medium_does_not_show(seed: int) -> None:
    who = sample_character(np.random.default_rng(seed))
    if who.medium in palette.MONOCHROME:
        said = " ".join(part for part in phrases(who))
        assert not any(word in said for word in ("skin", "eyes", "shirt"))
    if who.framing == "full body":
        assert who.mood not in phrases(who)


def test_the_large_drawing_is_the_small_one_in_fine() -> None:
    import cv2

    small = draw_large(DOT_KAIRO, np.random.default_rng(5), zoom=1)
    large = draw_large(DOT_KAIRO, np.random.default_rng(5), zoom=3)
    shrunk = cv2.resize(large, (256, 256), interpolation=cv2.INTER_AREA)
    # strokes are whole pixels wide, so edges differ a little; another pose differs three times as much
    pose = draw_large(DOT_KAIRO, np.random.default_rng(7), zoom=1)
    difference = np.abs(small.astype(int) - shrunk).mean()
    assert difference < 7
    assert difference < np.abs(small.astype(int) - pose).mean() / 2


def test_the_sample_data_names_the_actor_and_hides_what_never_changes() -> None:
    samples = identity_samples(10)
    assert len({text for _, text in samples}) == 10
    for picture, text in samples:
        assert "dot_kairo man" in text
        assert picture.shape == (256, 256, 3)
        assert not any(word in text for word in ("hair", "skin", "dots", "spiky", "eyes"))
    assert kairo_portrait().shape == (768, 768, 3)


def test_style_captions_tell_the_content_and_not_the_look() -> None:
    for _, text in style_samples(8):
        assert text.startswith("anime_mecha ")
        assert not any(word in text.split() for word in ("cyan", "glow", "flat", "ink"))
