"""A persona is read strictly, moves its kits by its sliders, and draws the same bytes again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foundry_maker import IDENTITY, STYLE, add_kit
from talent_factory.core.errors import BaseError, ConfigError, FileError, KitError, TalentError, UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.core.records import write_record
from talent_factory.foundry.discover import Kit
from talent_factory.foundry.persona import Persona, Slider, parse_persona, read_persona, revised
from talent_factory.foundry.persona_book import (
    Dial,
    accept,
    add_persona,
    change_persona,
    compose,
    list_personas,
    load_persona,
    well_known_dial,
)
from talent_factory.foundry.persona_choose import apply_choice, choose_for, read_choice
from talent_factory.foundry.persona_draw import OpenPersona, examine, open_persona, template_of
from talent_factory.foundry.recipe import KitUse, read_recipe
from talent_factory.foundry.session import shoot
from talent_factory.foundry.ways import Marks, MixChoice, Tried
from talent_factory.training.families.port import Base

QUIET = SilentReporter()
CREATURE = "avatar.style.anime.creature"


@pytest.fixture
def root(base_folder: Path, base: Base, tmp_path: Path) -> Path:
    """An identity and two styles that a test may spoil."""
    folder = tmp_path / "talents"
    folder.mkdir()
    add_kit(folder, base_folder, IDENTITY, revision=base.revision, seed=1, token="dot_test")
    add_kit(folder, base_folder, STYLE, revision=base.revision, seed=2, token="wobble")
    add_kit(folder, base_folder, CREATURE, revision=base.revision, seed=3, token="creature")
    return folder


@pytest.fixture
def persona(root: Path, base_folder: Path) -> Persona:
    """An identity with one slider between two styles."""
    return compose(
        "kairo",
        [IDENTITY],
        root=root,
        base=str(base_folder),
        dials={"mecha": Dial(low=f"{STYLE}:0.6", high=CREATURE, value=0.25)},
        words={"palette": {"primary": "#00A8FF"}, "draw": {"steps": 2, "guidance": 1.5}},
    )


def plain(persona: Persona) -> dict[str, Any]:
    return {key: value for key, value in persona.model_dump(mode="json").items() if value is not None}


def drawn(persona: Persona, root: Path, out: Path) -> list[bytes]:
    images, _ = shoot(open_persona(persona, root=root).session(), out=out, reporter=QUIET)
    return [path.read_bytes() for path in images]


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [(0.0, 1.0, 0.0), (0.25, 0.5, 0.0), (0.5, 0.0, 0.0), (0.75, 0.0, 0.5), (1, 0, 1)],
)
def test_a_slider_fades_one_kit_out_and_then_the_other_in(value: float, low: float, high: float) -> None:
    assert Slider(low=STYLE, high=CREATURE, value=value).factors() == (low, high)


def test_sliders_move_the_weights_of_the_mix(persona: Persona, root: Path) -> None:
    opened = open_persona(persona, root=root)

    def weights(value: float) -> dict[str, float]:
        return {use.kit.id: use.weight for use in opened.at({"mecha": value}).mix.ingredients}

    assert weights(0.0) == {IDENTITY: 0.8, STYLE: 0.6}
    assert weights(0.25) == {IDENTITY: 0.8, STYLE: 0.3}
    assert weights(0.5) == {IDENTITY: 0.8}
    assert weights(1.0) == {IDENTITY: 0.8, CREATURE: 0.8}


def test_prompts_take_the_persona_words(persona: Persona, root: Path) -> None:
    opened = open_persona(persona, root=root)
    assert persona.prompts == ("{style} portrait",)
    assert persona.finish == "ink"
    template = "{style} portrait of {subject}, {primary} background, {as it is}"
    assert opened.prompt(template) == "wobble portrait of dot_test, blue background, {as it is}"
    assert opened.at({"mecha": 1.0}).prompt("{style} portrait") == "creature portrait"
    neutral = opened.at({"mecha": 0.5})
    assert neutral.prompt("{style} portrait") == "ink portrait"
    bare = OpenPersona(neutral.persona.model_copy(update={"finish": ""}), neutral.base, neutral.kits)
    assert bare.prompt("a cat, {style} , on a mat, {style}") == "a cat, on a mat"


def test_introductions_come_in_the_persona_words(persona: Persona, root: Path) -> None:
    opened = open_persona(persona, root=root)
    session = opened.session(kind="expressions", seeds=(4,))
    assert len(session.order.shots) == len(session.titles) >= 4
    assert all("dot_test" in shot.prompt and "wobble" in shot.prompt for shot in session.order.shots)
    assert {shot.seed for shot in session.order.shots} == {4}
    assert session.order.steps == 2
    with pytest.raises(UsageError, match="prompts of its own"):
        opened.session(kind="hero", prompts=("a",))
    with pytest.raises(UsageError, match="no kind"):
        opened.session(kind="heroic")


@pytest.mark.parametrize(
    ("prompt", "template"),
    [
        ("ink portrait of a dot_test", "{style} portrait of a {subject}"),
        ("a dot_test, climbing", "a {subject}, climbing, {style}"),
        ("a dot_tester", "a dot_tester, {style}"),
    ],
)
def test_prompts_of_a_kit_become_templates(identity: Kit, prompt: str, template: str) -> None:
    assert template_of(prompt, identity) == template


def a_choice(persona: Persona, **changes: Any) -> MixChoice:
    """As if projection had been chosen for the identity and the first style."""
    own = {kit.id: kit for kit in persona.kits}
    uses = (
        KitUse(id=IDENTITY, sha256=own[IDENTITY].sha256, weight=1.0),
        KitUse(id=STYLE, sha256=own[STYLE].sha256, weight=0.9, begin=0.2),
    )
    marks = Marks(identity=0.8, style=0.7, prompt=0.9, harmonic=0.79)
    tried = Tried(name="projection", kits=uses, projection=0.5, marks=marks, low=0.7, high=0.8, better=0.95)
    fields: dict[str, Any] = {
        "identity": IDENTITY,
        "style": STYLE,
        "base_revision": persona.base.revision,
        "chosen": "projection",
        "reason": "it scores more",
        "confidence": 0.9,
        "judges": {},
        "prompts": ("a",),
        "seeds": (1,),
        "steps": 12,
        "guidance": 2.0,
        "tried": (tried,),
    }
    return MixChoice(**{**fields, **changes})


def test_a_choice_is_taken_over_with_its_reason(persona: Persona, root: Path, tmp_path: Path) -> None:
    write_record(tmp_path / "choice.json", a_choice(persona))
    taken = revised(persona, apply_choice(persona, read_choice(tmp_path / "choice.json")))
    assert (taken.projection, taken.kit(IDENTITY).weight, taken.kit(STYLE).begin) == (0.5, 1.0, 0.2)
    assert taken.kit(CREATURE) == persona.kit(CREATURE)
    assert taken.choice is not None
    assert taken.choice["reason"] == "it scores more"
    mix = open_persona(taken, root=root).mix
    assert (mix.projection, mix.ingredients[1].weight, mix.ingredients[1].begin) == (0.5, 0.45, 0.2)
    with pytest.raises(BaseError, match="another base"):
        apply_choice(persona, a_choice(persona, base_revision="0" * 64))
    other = persona.model_copy(
        update={"kits": tuple(kit.model_copy(update={"sha256": "1" * 64}) for kit in persona.kits)}
    )
    with pytest.raises(KitError, match="other weights"):
        apply_choice(other, a_choice(persona))
    with pytest.raises(UsageError, match="has 1 and 2"):
        choose_for(persona, root=root, out=tmp_path, reporter=QUIET)


@pytest.mark.slow
def test_two_processes_draw_the_same_bytes(persona: Persona, root: Path, tmp_path: Path) -> None:
    add_persona(tmp_path / "personas", persona)
    script = (
        "import sys; from pathlib import Path\n"
        "from talent_factory.core.events import SilentReporter\n"
        "from talent_factory.foundry.persona_book import load_persona\n"
        "from talent_factory.foundry.persona_draw import open_persona\n"
        "from talent_factory.foundry.session import shoot\n"
        "opened = open_persona(load_persona(Path(sys.argv[1]), 'kairo'), root=Path(sys.argv[2]))\n"
        "shoot(opened.session(), out=Path(sys.argv[3]), reporter=SilentReporter())\n"
    )
    # the persona has its own number of threads, whatever its surroundings say
    for name, threads in (("one", "1"), ("two", "2")):
        arguments = [str(tmp_path / "personas"), str(root), str(tmp_path / name)]
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-c", script, *arguments], check=True, env=environment)
    assert persona.draw.threads
    assert read_recipe(tmp_path / "one" / "001.png").threads == persona.draw.threads
    images = sorted(path.name for path in (tmp_path / "one").glob("*.png"))
    assert images == ["001.png", "sheet.png"]
    for image in images:
        assert (tmp_path / "one" / image).read_bytes() == (tmp_path / "two" / image).read_bytes()
    elsewhere = persona.dialled({"mecha": 0.0})
    assert drawn(elsewhere, root, tmp_path / "three")[0] != (tmp_path / "one" / "001.png").read_bytes()


def test_a_changed_kit_is_named_with_both_digests(
    persona: Persona, root: Path, base_folder: Path, base: Base
) -> None:
    old = persona.kit(STYLE).sha256
    add_kit(root, base_folder, STYLE, revision=base.revision, seed=9, token="wobble")
    with pytest.raises(KitError) as caught:
        open_persona(persona, root=root)
    now = accept(persona, root=root, kits=True)["kits"][1]["sha256"]
    assert STYLE in caught.value.message
    assert old[:12] in caught.value.message
    assert now[:12] in caught.value.message
    assert "--accept-kits" in caught.value.remedy
    taken = revised(persona, accept(persona, root=root, kits=True))
    assert (taken.version, taken.kit(STYLE).weight) == ("1.1.0", 0.6)
    assert open_persona(taken, root=root).kits[STYLE].sha256 == now != old


def test_another_base_is_refused(persona: Persona, root: Path) -> None:
    other = persona.model_copy(update={"base": persona.base.model_copy(update={"revision": "0" * 64})})
    with pytest.raises(BaseError, match="000000000000"):
        open_persona(other, root=root)
    assert [finding.subject for finding in examine(other, root=root)] == ["base"]


def test_kits_of_two_bases_make_no_persona(root: Path, base_folder: Path, persona: Persona) -> None:
    add_kit(root, base_folder, "avatar.style.stray", revision="1" * 64, seed=4)
    with pytest.raises(KitError, match=r"avatar\.style\.stray was trained on another base"):
        compose("stray", [IDENTITY, "avatar.style.stray"], root=root, base=str(base_folder))


def test_examining_finds_everything(persona: Persona, root: Path, base_folder: Path, base: Base) -> None:
    assert examine(persona, root=root) == ()
    strong = revised(persona, {"kits": [{**kit.model_dump(), "weight": 2.0} for kit in persona.kits]})
    (finding,) = examine(strong, root=root)
    assert not finding.fatal
    assert "add up" in finding.message
    add_kit(root, base_folder, STYLE, revision=base.revision, seed=9)
    (root / IDENTITY / "weights.safetensors").unlink()
    assert [finding.subject for finding in examine(persona, root=root)] == [IDENTITY, STYLE]
    assert [finding.subject for finding in examine(revised(persona, {"prompts": []}), root=root)] == [
        IDENTITY,
        STYLE,
    ]


def test_the_file_reads_back_and_equal_personas_are_equal_bytes(persona: Persona, tmp_path: Path) -> None:
    path = add_persona(tmp_path / "p", persona)
    assert load_persona(tmp_path / "p", "kairo") == persona == read_persona(path)
    with pytest.raises(UsageError, match="already"):
        add_persona(tmp_path / "p", persona)
    before = path.read_bytes()
    add_persona(tmp_path / "p", persona, anew=True)
    assert path.read_bytes() == before


def test_changes_count_as_versions(persona: Persona, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    add_persona(folder, persona)
    manner = {"tone": {"warmth": 0.7, "pace": "slow"}}
    assert change_persona(folder, "kairo", lambda _: manner).version == "1.0.1"
    assert change_persona(folder, "kairo", lambda _: {"finish": "comic"}).version == "1.1.0"
    assert change_persona(folder, "kairo", lambda _: {"finish": "comic"}).version == "1.1.0"
    assert load_persona(folder, "kairo").tone == {"warmth": 0.7, "pace": "slow"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"projektion": 1}, "nearest valid key: 'projection'"),
        ({"draw": {"step": 3}}, "nearest valid key: 'steps'"),
        ({"base": {"name": "mini"}}, "missing key 'base.revision'"),
        ({"version": "1.0"}, "version"),
        ({"id": "../x"}, "no persona id"),
        ({"id": "kairo\n"}, "no persona id"),
        ({"format": "talent-persona/2"}, "talent-persona/2"),
        ({"kits": []}, "kits"),
        ({"palette": {"primary": "blue"}}, "palette"),
        ({"finish": "a\nb"}, "finish"),
        ({"sliders": {"mecha": {"low": STYLE, "high": STYLE}}}, "two ends"),
        ({"sliders": {"mecha": {"low": STYLE, "high": "avatar.style.none"}}}, "not among the kits"),
        ({"sliders": {"mecha": {"low": STYLE, "high": CREATURE, "value": 1.5}}}, "value"),
        ({"sliders": {"style": {"low": STYLE, "high": CREATURE}}}, "called style"),
        ({"switch": True, "projection": 0.5}, "take turns"),
        ({"tone": {"warmth": float("nan")}}, "tone"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(persona: Persona, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_persona({**plain(persona), **change}, source="kairo.json")
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("weight", [2.5, -3, "heavy", None])
def test_weights_out_of_range_are_refused(persona: Persona, weight: object) -> None:
    data = plain(persona)
    data["kits"][0]["weight"] = weight
    with pytest.raises(ConfigError, match=r"kits\.0\.weight"):
        parse_persona(data, source="kairo.json")


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b'{"id": 1, "id": 2}', b'{"a": NaN}', b"\xff", b"[" * 200_000, b" " * (2 << 20)]
)
def test_files_that_are_none_are_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "kairo.json").write_bytes(raw)
    with pytest.raises(FileError, match=r"kairo\.json"):
        load_persona(tmp_path, "kairo")


def test_a_list_shows_the_broken_ones_too(persona: Persona, tmp_path: Path) -> None:
    add_persona(tmp_path, persona)
    (tmp_path / "broken.json").write_text("{}")
    (tmp_path / "other.json").write_text(json.dumps(plain(persona)))
    found = dict(list_personas(tmp_path))
    assert found["kairo"] == persona
    assert isinstance(found["broken"], ConfigError)
    assert isinstance(found["other"], UsageError)
    with pytest.raises(UsageError, match="no persona kairos") as caught:
        load_persona(tmp_path, "kairos")
    assert "kairo" in caught.value.remedy
    with pytest.raises(UsageError, match="no persona id"):
        load_persona(tmp_path, "../kairo")


def test_a_slider_of_the_field_finds_its_kits(root: Path, base_folder: Path, identity: Kit) -> None:
    with pytest.raises(KitError, match=r"avatar\.style\.anime\.mecha"):
        well_known_dial("mecha", 0.2, root=root)
    with pytest.raises(UsageError, match="not known"):
        well_known_dial("colour", 0.2, root=root)
    add_kit(root, base_folder, "avatar.style.anime_mecha", seed=5)
    dial = well_known_dial("mecha", 0.2, root=root)
    assert dial == Dial(low="avatar.style.anime_mecha", high=CREATURE, value=0.2)


@pytest.mark.parametrize(("sliders", "words"), [({"mehca": 0.1}, "mecha"), ({"mecha": 1.2}, "from 0 to 1")])
def test_a_wrong_dial_is_refused(persona: Persona, sliders: dict[str, float], words: str) -> None:
    with pytest.raises(TalentError, match=words):
        persona.dialled(sliders)
