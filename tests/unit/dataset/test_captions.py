"""Captions name what may change and never what makes the actor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.datagen.cast import CastManifest, CastSlot, PortraitFacts
from talent_factory.datagen.recipes import CaptionWords, load_recipe
from talent_factory.dataset.captions import (
    CaptionStyle,
    cast_caption,
    compose,
    has_word,
    portrait_caption,
    with_trigger,
)


def _cast(*, medium: str = "flat", words: tuple[str, ...] = ("smiling", "teal shirt")) -> CastManifest:
    slots = tuple(
        CastSlot(
            number=number,
            name=slot.name,
            title=slot.title,
            group=slot.group,
            medium=slot.medium,
            key="k",
            seed=number,
            prompt="p",
            action=slot.action,
            setting=slot.setting,
            light=slot.light,
            caption=slot.caption,
            method="m",
            augmentation=slot.group == "photo",
        )
        for number, slot in enumerate(load_recipe().slots, start=1)
    )
    portrait = PortraitFacts(source="p.png", sha256="0", width=9, height=9, medium=medium, words=words)
    return CastManifest(
        recipe="actor-17",
        recipe_version=1,
        token="dot",
        actor_type="human",
        sex="woman",
        descriptor="woman",
        class_noun="woman",
        provider="embedded",
        aspect="16:9",
        long_side=640,
        seed=0,
        portrait=portrait,
        slots=slots,
    )


def _of(cast: CastManifest, name: str, *, place: str = "", resolution: int = 128, **style: str) -> str:
    slot = next(slot for slot in cast.slots if slot.name == name)
    chosen = CaptionStyle.model_validate(style)
    return cast_caption(cast, slot, place=place, style=chosen, resolution=resolution)


def test_small_bases_get_a_sentence_large_ones_the_trigger_first() -> None:
    cast = _cast()
    assert _of(cast, "comic", place="red background") == (
        "comic portrait of a dot woman, red background, smiling, teal shirt"
    )
    assert _of(cast, "comic", place="red background", resolution=1024) == (
        "dot woman, comic portrait, red background, smiling, teal shirt"
    )
    assert _of(cast, "comic", form="trigger_first").startswith("dot woman, ")


def test_an_image_without_colours_is_not_said_to_have_them() -> None:
    cast = _cast(words=("smiling", "teal shirt", "black hat"))
    assert _of(cast, "pen_ink") == "ink portrait of a dot woman, smiling, shirt, black hat"


def test_an_augmentation_keeps_the_medium_of_the_portrait() -> None:
    assert _of(_cast(), "subway").startswith("flat portrait of a dot woman, subway background")
    assert _of(_cast(medium=""), "subway").startswith("portrait of a dot woman")
    assert "photo" not in _of(_cast(), "subway")


def test_a_newly_painted_photograph_is_a_photograph() -> None:
    cast = _cast()
    slot = next(slot for slot in cast.slots if slot.name == "subway").model_copy(
        update={"augmentation": False}
    )
    text = cast_caption(cast, slot, place="", style=CaptionStyle(detail="scene"), resolution=1024)
    assert text.startswith("dot woman, photo portrait, waiting for the train")
    assert slot.setting.lower() in text


def test_scenes_are_told_where_they_were_painted_and_a_large_base_reads_them() -> None:
    painter = _cast()
    elsewhere = painter.model_copy(update={"provider": "replicate"})
    scene = "spinning round in surprise, on a rooftop with speed lines behind"
    assert scene in _of(elsewhere, "manga", resolution=1024)
    assert scene not in _of(elsewhere, "manga", resolution=128)
    assert scene not in _of(painter, "manga", resolution=1024)
    assert scene in _of(painter, "manga", detail="scene")
    assert scene not in _of(elsewhere, "manga", resolution=1024, detail="short")
    # an augmentation was never in the scene that its slot names
    assert "waiting for the train" not in _of(elsewhere, "subway", resolution=1024)
    lengths = [len(_of(elsewhere, slot.name, resolution=1024).split()) for slot in elsewhere.slots]
    assert max(lengths) <= 50


def test_the_place_of_the_recipe_goes_before_the_measured_one() -> None:
    assert "subway background" in _of(_cast(), "subway", place="green background")
    assert "green background" not in _of(_cast(), "subway", place="green background")


def test_the_portrait_itself_is_captioned() -> None:
    text = portrait_caption(_cast(), place="teal background", style=CaptionStyle(), resolution=128)
    assert text == "flat portrait of a dot woman, teal background, smiling, teal shirt"


def test_no_two_captions_of_a_cast_are_alike() -> None:
    cast = _cast()
    assert len({_of(cast, slot.name) for slot in cast.slots}) == 17


_PHRASES = st.lists(st.text(alphabet="abC ,.", max_size=12), max_size=6)


@given(
    scene=_PHRASES,
    medium=st.sampled_from(["", "ink", " Ink "]),
    form=st.sampled_from(["sentence", "trigger_first"]),
)
def test_composed_captions_are_tidy(scene: list[str], medium: str, form: str) -> None:
    text = compose(
        token="dot",
        class_noun="woman",
        medium=medium,
        shot="portrait",
        scene=scene,
        form="sentence" if form == "sentence" else "trigger_first",
    )
    assert has_word(text, "dot")
    assert text == text.lower().strip()
    assert "  " not in text
    assert has_word(text.split(",")[0], "dot")


@pytest.mark.parametrize(
    ("caption", "made", "lacked"),
    [
        ("dot woman on a hill", "dot woman on a hill", False),
        ("a hill, with Dot", "a hill, with Dot", False),
        ("dotted line", "dot woman, dotted line", True),
        ("", "dot woman", True),
    ],
)
def test_a_missing_trigger_is_put_in_front(caption: str, made: str, lacked: bool) -> None:
    assert with_trigger(caption, token="dot", class_noun="woman") == (made, lacked)


@given(text=st.text(max_size=40), token=st.from_regex(r"[a-z0-9_]{1,8}", fullmatch=True))
def test_after_that_the_trigger_is_always_there(text: str, token: str) -> None:
    made, _ = with_trigger(text, token=token, class_noun="man")
    assert has_word(made, token)
    assert with_trigger(made, token=token, class_noun="man") == (made, False)


def test_words_are_whole_words() -> None:
    assert CaptionWords().shot == "portrait"
    assert has_word("a dot_kairo man", "dot_kairo")
    assert not has_word("a dot_kairo man", "dot")
