"""The lint finds what spoils a training, and is silent about good captions."""

from __future__ import annotations

import pytest

from talent_factory.dataset.lint import FULL_WORDS, MAX_WORDS, lint_captions

GOOD = [
    ("1.png", "ink portrait of a dot woman, white background"),
    ("2.png", "comic portrait of a dot woman, city street, smiling"),
    ("3.png", "watercolor portrait of a dot woman, forest"),
]


def _messages(captions: list[tuple[str, str]], kind: str = "identity") -> list[str]:
    found = lint_captions(
        captions, kind="style" if kind == "style" else "identity", token="dot", class_noun="woman"
    )
    assert all(finding.remedy for finding in found)
    return [f"{finding.severity} {finding.subject}: {finding.message}" for finding in found]


def test_good_captions_pass() -> None:
    assert _messages(GOOD) == []


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("ink portrait of a woman, white background", "lacks the trigger"),
        ("ink portrait of a dotty woman, white background", "lacks the trigger"),
        ("dot woman", "only 2 words"),
        ("dot woman " + "walking " * MAX_WORDS, "cuts it"),
        ("photo of a dot woman with red hair and a scar", "hair, scar"),
    ],
)
def test_identity_mistakes_are_named(caption: str, words: str) -> None:
    found = _messages([*GOOD, ("bad.png", caption)])
    assert any("bad.png" in line and words in line for line in found)


def test_a_missing_trigger_is_an_error_for_identities_and_a_warning_for_styles() -> None:
    bare = [("1.png", "a boat on a lake at noon")]
    assert _messages(bare)[0].startswith("error")
    assert _messages(bare, "style")[0].startswith("warn")


def test_a_style_must_not_be_named() -> None:
    assert any("watercolor" in line for line in _messages([("1.png", "dot, a boat in watercolor")], "style"))
    assert _messages([("1.png", "dot, a boat with red hair bands")], "style") == []


def test_shared_captions_and_phrases_are_found() -> None:
    assert any("share one caption" in line for line in _messages([*GOOD, ("4.png", GOOD[0][1].upper())]))
    many = [(f"{n}.png", f"dot woman, place {n}, soft light") for n in range(6)]
    assert any("'soft light'" in line and "6 of 6" in line for line in _messages(many))
    assert not any("'dot woman'" in line for line in _messages(many))
    assert _messages(many[:4]) == []


def test_errors_come_first() -> None:
    found = _messages([("1.png", "dot woman"), ("2.png", "a boat on a lake at noon")])
    assert [line.split()[0] for line in found] == ["error", "warn"]


def test_a_token_that_holds_a_trait_word_is_no_trait() -> None:
    found = lint_captions(
        [("1.png", "comic portrait of a red_hair woman, beach")], kind="identity", token="red_hair"
    )
    assert found == ()


def test_phrases_inside_a_sentence_are_found_once_and_whole() -> None:
    scenes = ("a beach", "a kitchen", "the sea", "a tram", "a roof", "a field")
    many = [
        (f"{n}.png", f"dot woman standing in soft evening light near {scene}")
        for n, scene in enumerate(scenes)
    ]
    assert [line for line in _messages(many) if "stands in" in line] == [
        "warn 'standing in soft evening light': stands in 6 of 6 captions"
    ]
    spread = [*many[:4], ("4.png", "dot woman asleep on a sofa"), ("5.png", "dot woman at work by noon")]
    assert _messages(spread) == []


def test_a_subject_that_is_in_all_images_grows_into_the_style() -> None:
    scenes = ("a cat on a roof", "a cat at sea", "one cat asleep", "a cat and a drum", "a red cat outdoors")
    many = [(f"{n}.png", f"{scene}, in the style of dot") for n, scene in enumerate(scenes)]
    assert _messages(many, "style") == ["warn 'cat': stands in 5 of 5 captions"]
    identity = [(f"{n}.png", f"dot woman, {scene}") for n, scene in enumerate(scenes)]
    assert _messages(identity) == []


@pytest.mark.parametrize(
    "caption",
    [
        "dot woman with her eyes closed, beach at noon",
        "dot woman in a fur coat, snowy street",
        "ink portrait of a dot woman, hair band on the table",
    ],
)
def test_expressions_and_garments_are_no_traits(caption: str) -> None:
    assert _messages([("1.png", caption)]) == []


@pytest.mark.parametrize("word", ["brushstrokes", "halftone", "palette", "line art", "painterly"])
def test_technique_must_not_be_named_in_a_style(word: str) -> None:
    found = _messages([("1.png", f"a boat on a lake, {word}, in the style of dot")], "style")
    assert len(found) == 1
    assert word in found[0]


def test_the_triggers_own_phrase_is_no_medium() -> None:
    assert _messages([("1.png", "a boat on a lake at noon, in the style of dot")], "style") == []


def test_large_bases_want_more_words() -> None:
    short = [("1.png", "dot woman, ink portrait, white background")]
    assert lint_captions(short, kind="identity", token="dot") == ()
    found = lint_captions(short, kind="identity", token="dot", least_words=FULL_WORDS)
    assert "only 6 words" in found[0].message
