"""Plain words become each program's prompt: names replaced, kits named, nothing else touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.core.errors import UsageError
from talent_factory.kits.manifest import PromptSet, TalentManifest
from talent_factory.kits.prompting import TOOLS, PromptKit, read_weighted_id, write_prompt

PETER = "avatar.identity.qb_peter"


def kit(
    talent_id: str = PETER,
    *,
    token: str | None = "qb_peter",
    noun: str = "person",
    negatives: str = "blurry, text",
    base: str = "some/model",
    **options: Any,
) -> PromptKit:
    manifest = TalentManifest.model_validate(
        {
            "id": talent_id,
            "category": "Presence/Avatar",
            "kind": "lora",
            "sdx_version": "1.5",
            "base_model": base,
            "lora_rank": 8,
            "default_weight": 0.8,
            "size_mb": 1.0,
            "token": token,
            "negatives": negatives,
            "training_config": {"class_noun": noun} if noun else {},
        }
    )
    prompts = PromptSet(positive_prompts=("x",), negative_prompts=("lowres", "blurry"))
    return PromptKit.of(manifest, prompts, **options)


def style(**options: Any) -> PromptKit:
    return kit("avatar.style.ink_wash", token="inkw", noun="", negatives="", **options)


def positive(text: str, *kits: PromptKit, tool: str = "a1111") -> str:
    return write_prompt(text, kits or (kit(),), tool=tool).positive


def test_the_example_of_the_manual() -> None:
    made = write_prompt("Peter climbing a tree", [kit()], tool="a1111")
    assert made.positive == "<lora:qb_peter_lora:0.8>, qb_peter person climbing a tree"
    assert made.negative == "blurry, text, lowres"
    assert [(used.name, used.weight) for used in made.kits] == [("qb_peter_lora", 0.8)]
    assert made.remarks == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("peter's hat", "qb_peter person's hat"),
        ("QB_PETER laughing", "qb_peter person laughing"),
        ("qb peter and a dog", "qb_peter person and a dog"),
        ("a saltpeter mine with Peter", "a saltpeter mine with qb_peter person"),
        ("Peter looks at Peter", "qb_peter person looks at qb_peter person"),
        ("a peter person, smiling", "a qb_peter person, smiling"),
        ("qb_peter person reading", "qb_peter person reading"),
        ("  Peter \n sleeps ", "qb_peter person sleeps"),
        ("qb_peter_2 statue", "qb_peter person, qb_peter_2 statue"),
        ("climbing a tree", "qb_peter person, climbing a tree"),
    ],
)
def test_names_become_the_kits_words(text: str, said: str) -> None:
    assert positive(text, tool="diffusers") == said


def test_a_style_stands_at_the_end_unless_it_is_named() -> None:
    assert positive("Peter at sea", kit(), style(), tool="diffusers") == "qb_peter person at sea, inkw"
    assert positive("inkw of Peter", kit(), style(), tool="diffusers") == "inkw of qb_peter person"
    assert positive("a boat", style(), tool="diffusers") == "a boat, inkw"
    # no word wakes it: the LoRA alone is enough
    assert positive("a boat", kit("avatar.style.x", token=None, noun=""), tool="diffusers") == "a boat"


def test_several_kits_are_loaded_each_at_its_weight() -> None:
    made = write_prompt("Peter at sea", [kit(), style(weight=0.9, name="my_ink")], tool="forge")
    assert made.positive == "<lora:qb_peter_lora:0.8>, <lora:my_ink:0.9>, qb_peter person at sea, inkw"
    assert "sum to 1.7" in made.remarks[0]


def test_a_name_of_two_is_asked_about() -> None:
    other = kit("avatar.identity.peter_pan", token="ppan")
    with pytest.raises(UsageError, match=r"'Peter' may mean"):
        positive("Peter flies", kit(), other)
    # who is named surely is meant; the other one is not in the text
    assert positive("qb_peter and ppan", kit(), other, tool="diffusers") == "qb_peter person and ppan person"


def test_marks_of_each_program_stay_letters() -> None:
    said = "Peter (smiling:1.3) [x] <lora:evil:2> a\\b"
    for tool in ("a1111", "forge", "comfy", "invoke"):
        text = positive(said, tool=tool)
        assert r"\(smiling:1.3\)" in text
        assert "<lora:evil" not in text
    assert positive(said, tool="diffusers").startswith("qb_peter person (smiling:1.3)")
    assert "qb_peter person -- \\(" in positive("Peter-- (", tool="invoke")


def test_programs_without_tags_say_what_to_load() -> None:
    comfy = write_prompt("Peter", [kit()], tool="comfy")
    assert comfy.positive == "qb_peter person"
    assert "qb_peter_lora.safetensors, strength_model 0.8" in comfy.setup
    invoke = write_prompt("Peter", [kit()], tool="invoke")
    assert invoke.setup == "add the LoRA qb_peter_lora with weight 0.8"


def test_the_code_for_diffusers_is_python() -> None:
    made = write_prompt('Peter says "it\'s"', [kit(), style()], tool="diffusers", negative="rain")
    calls: list[Any] = []

    class Pipeline:
        images = ("picture",)

        def load_lora_weights(self, *args: Any, **named: Any) -> None:
            calls.append((args, named))

        def set_adapters(self, *args: Any) -> None:
            calls.append(args)

        def __call__(self, prompt: str, negative_prompt: str) -> Pipeline:
            calls.append((prompt, negative_prompt))
            return self

    exec(made.setup, {"pipeline": Pipeline()})  # noqa: S102
    assert calls[0][1]["adapter_name"] == "qb_peter_lora"
    assert calls[2] == (["qb_peter_lora", "inkw_lora"], [0.8, 0.8])
    assert calls[3] == ('qb_peter person says "it\'s", inkw', "rain, blurry, text, lowres")


def test_mistakes_are_told() -> None:
    wrong: tuple[tuple[str, tuple[PromptKit, ...], str, str], ...] = (
        ("  ", (kit(),), "a1111", "nothing to draw"),
        ("x" * 2001, (kit(),), "a1111", "2000"),
        ("x", (kit(),), "photoshop", "no tool"),
        ("x", (kit(), kit()), "a1111", "twice"),
        ("x", (kit(), kit("avatar.identity.other")), "a1111", "both called qb_peter_lora"),
        ("x", (kit(), style().model_copy(update={"base": "sdxl"})), "a1111", "no program mixes"),
    )
    for text, kits, tool, said in wrong:
        with pytest.raises(UsageError, match=said):
            write_prompt(text, kits, tool=tool)
    with pytest.raises(UsageError, match="-2 to 2"):
        kit(weight=2.5)
    with pytest.raises(UsageError, match="cannot be the name"):
        kit(name="weights")


def test_weights_on_a_command_line() -> None:
    assert read_weighted_id(PETER) == (PETER, None)
    assert read_weighted_id(f"{PETER}:-0.5") == (PETER, -0.5)
    for text in ("peter", f"{PETER}:x", f"{PETER}:"):
        with pytest.raises(UsageError):
            read_weighted_id(text)


@given(st.text(min_size=1, max_size=80))
def test_any_text_makes_a_prompt_or_a_clear_no(text: str) -> None:
    for tool in TOOLS:
        try:
            made = write_prompt(text, [kit(), style()], tool=tool)
        except UsageError:
            assert not text.split()
            continue
        assert "qb_peter" in made.positive
        assert "\n" not in made.positive
        if tool in ("a1111", "forge"):
            assert made.positive.count("<") == 2
