"""Recipes are data that must be whole, and the words built from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from talent_factory.core.errors import ConfigError, UsageError
from talent_factory.datagen import recipes
from talent_factory.datagen.recipes import class_noun, descriptor, load_recipe, recipe_names, slot_prompt

SHIPPED = Path(recipes.__file__).parent / "actor_17.toml"


def test_actor_17_holds_the_promised_set_in_order() -> None:
    recipe = load_recipe()
    assert [slot.group for slot in recipe.slots] == ["photo"] * 7 + ["monochrome"] * 6 + ["colour"] * 4
    assert [slot.medium for slot in recipe.slots] == [
        "photo_rain_night",
        "photo_close_up",
        "photo_window_light",
        "photo_subway",
        "photo_garage",
        "photo_silhouette",
        "photo_alley",
        "pen_and_ink",
        "graphite",
        "charcoal",
        "woodcut",
        "mono_vector",
        "manga",
        "comic",
        "flat_vector",
        "watercolor",
        "gouache",
    ]
    assert [slot.name for slot in recipe.slots if slot.gaze == "camera"] == ["eye_contact"]
    assert recipe_names() == ["actor-12", "actor-17"]


def test_actor_12_holds_the_promised_set_and_other_scenes() -> None:
    small, large = load_recipe("actor-12"), load_recipe("actor-17")
    assert [slot.group for slot in small.slots] == ["photo"] * 2 + ["monochrome"] * 6 + ["colour"] * 4
    assert {slot.medium for slot in small.slots} < {slot.medium for slot in large.slots}
    assert not {slot.action for slot in small.slots} & {slot.action for slot in large.slots}
    assert (small.preserve, small.gaze, small.aspect) == (large.preserve, large.gaze, large.aspect)


@pytest.mark.parametrize("name", ["actor-12", "actor-17"])
@pytest.mark.parametrize("subject", ["woman", "robotic character"])
def test_prompts_are_whole_distinct_and_name_the_subject(subject: str, name: str) -> None:
    recipe = load_recipe(name)
    prompts = [slot_prompt(recipe, slot, subject) for slot in recipe.slots]
    assert len(set(prompts)) == int(name[-2:])
    for slot, prompt in zip(recipe.slots, prompts, strict=True):
        assert prompt.count(subject) >= 2
        assert slot.light.lower()[1:] in prompt.lower()
        assert "{" not in prompt
        assert ".." not in prompt
        assert 40 < len(prompt.split()) < 140


@pytest.mark.parametrize("name", ["actor-12", "actor-17"])
def test_captions_hold_no_permanent_trait(name: str) -> None:
    from talent_factory.dataset.lint import lint_captions

    words = [
        (slot.name, f"dot {' '.join(part for part in slot.caption.model_dump().values() if part)}")
        for slot in load_recipe(name).slots
    ]
    assert lint_captions(words, kind="identity", token="dot") == ()


@pytest.mark.parametrize(
    ("actor_type", "sex", "words", "noun"),
    [
        ("human", "man", "man", "man"),
        ("human", "woman", "woman", "woman"),
        ("human", None, "person", "person"),
        ("creature", None, "creature", "creature"),
        ("robotic", "woman", "robotic character", "robot"),
        ("anthropomorphic", None, "anthropomorphic character", "creature"),
        ("mythical", None, "mythical character", "creature"),
        ("other", None, "character", "character"),
    ],
)
def test_descriptor_and_class_noun(actor_type: str, sex: str | None, words: str, noun: str) -> None:
    assert descriptor(actor_type, sex) == words
    assert class_noun(actor_type, sex) == noun


def test_unknown_types_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        descriptor("alien")
    assert "robotic" in caught.value.remedy
    with pytest.raises(UsageError, match="sex"):
        class_noun("human", "lady")


def test_a_recipe_of_ones_own_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SHIPPED.read_text("utf-8").replace('name = "actor-17"', 'name = "mine"'), "utf-8")
    assert load_recipe(path).name == "mine"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('gaze = "camera"', 'gaze = "sideways"', "gaze 'sideways'"),
        ('name = "manga"', 'name = "comic"', "twice: comic"),
        ('name = "manga"', 'name = "../manga"', "name"),
        ('angle = "tilted frame"', 'angel = "tilted frame"', "nearest valid key: 'angle'"),
        ('aspect = "16:9"', 'aspect = "wide"', "aspect"),
        ("version = 1", "version = 0", "version"),
        ("version = 1", "version = = 1", "not valid TOML"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path: Path, before: str, after: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SHIPPED.read_text("utf-8").replace(before, after, 1), "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert words in caught.value.message
    assert str(path) in caught.value.message


def test_unknown_missing_and_oversized_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe") as caught:
        load_recipe("actor-99")
    assert "actor-17" in caught.value.remedy
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "none.toml")
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="1 MiB"):
        load_recipe(large)
