"""A way of mixing is chosen by what judges see, and another than the plain sum only if surely better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from talent_factory.core.errors import UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.core.records import read_record
from talent_factory.core.seeds import derive_seed
from talent_factory.foundry.choose_mix import (
    CHOICE_FILE,
    SHEET_FILE,
    Asked,
    Drawn,
    Judges,
    choose_and_keep,
    choose_mix,
    draw_ways,
)
from talent_factory.foundry.discover import Ingredient, Kit
from talent_factory.foundry.ways import (
    PLAIN_SUM,
    MixChoice,
    Question,
    noun_of,
    questions,
    uses_of,
    ways,
    written,
)
from talent_factory.training.families.port import Base
from talent_factory.training.likeness.encoders import LayoutEncoder, NoJudge, Pictures, Vectors
from talent_factory.training.likeness.records import Shot
from talent_factory.training.sampler import Manner
from talent_factory.world import draw_character, sample_character
from talent_factory.world.character import replace

COUNT = 6
NEAR, FAR = 200, 20


class RedEncoder:
    """Sees one thing, which is too small to be a style: how red the first pixel is."""

    name, revision = "red", "1"

    def embed(self, pictures: Pictures) -> Vectors:
        angle = np.array([float(picture[0, 0, 0]) / 255 for picture in pictures]) * np.pi / 2
        return np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


class GreenJudge:
    """Takes the green of that pixel for obedience."""

    name, revision = "green", "1"

    def adherence(self, pictures: Pictures, shots: Sequence[Shot]) -> NDArray[np.float64]:
        assert len(pictures) == len(shots)
        return np.array([float(picture[0, 0, 1]) / 255 for picture in pictures])


JUDGES = Judges(RedEncoder(), GreenJudge())


@pytest.fixture
def pair(identity: Kit, style: Kit) -> tuple[Ingredient, Ingredient]:
    named = style.model_copy(update={"manifest": style.manifest.model_copy(update={"token": "wobble"})})
    return Ingredient(kit=identity, weight=0.8), Ingredient(kit=named, weight=0.7)


@pytest.fixture
def asked(pair: tuple[Ingredient, Ingredient]) -> Asked:
    found = questions(pair[0].kit, pair[1].kit, noun="woman", drawn=True, prompts=COUNT)
    return Asked(found, Manner(steps=1, guidance=1.0))


def pictures(*, red: Sequence[int], charcoal: Sequence[float], green: int = 200) -> NDArray[np.uint8]:
    """One pixel's red is the identity and its green is obedience; the rest is so far gone to charcoal."""
    found = []
    for index, (shade, share) in enumerate(zip(red, charcoal, strict=True)):
        media = []
        for medium in ("flat", "charcoal"):
            rng = np.random.default_rng(derive_seed("choose", index))
            one = replace(sample_character(rng), medium=medium)
            media.append(draw_character(one, rng, size=128).astype(np.float64))
        picture = (media[0] * (1 - share) + media[1] * share).round().astype(np.uint8)
        picture[0, 0] = (shade, green, 0)
        found.append(picture)
    return np.stack(found)


def drawn_as(pair: tuple[Ingredient, Ingredient], **own: NDArray[np.uint8]) -> Drawn:
    """Every way is half of both, but for those given."""
    half = pictures(red=[110] * COUNT, charcoal=[0.5] * COUNT)
    everything = dict.fromkeys(ways(*pair), half)
    alone = {
        "identity": pictures(red=[NEAR] * COUNT, charcoal=[0.0] * COUNT),
        "style": pictures(red=[FAR] * COUNT, charcoal=[1.0] * COUNT),
    }
    return {**alone, **everything, **{name.replace("_", " "): rows for name, rows in own.items()}}


def test_what_is_surely_better_is_chosen(
    base: Base, pair: tuple[Ingredient, Ingredient], asked: Asked
) -> None:
    drawn = drawn_as(pair, more_identity=pictures(red=[180] * COUNT, charcoal=[0.9] * COUNT))
    choice = choose_mix(base, pair, asked, drawn, judges=JUDGES)
    assert choice.chosen == "more identity"
    best = choice.best
    plain = next(one for one in choice.tried if one.name == PLAIN_SUM)
    assert best.marks.identity > 0.9
    assert best.marks.harmonic > plain.marks.harmonic
    assert best.better == 1.0
    assert best.kits[0].weight == pytest.approx(1.0)
    assert choice.judges == {"red": "1", "green": "1", "texture": "1"}
    assert MixChoice.model_validate_json(choice.model_dump_json()) == choice


def test_what_is_better_in_half_of_the_pictures_is_not(
    base: Base, pair: tuple[Ingredient, Ingredient], asked: Asked
) -> None:
    half_good = pictures(red=[180] * 3 + [70] * 3, charcoal=[0.9] * 3 + [0.3] * 3)
    drawn = drawn_as(pair, more_style=half_good)
    choice = choose_mix(base, pair, asked, drawn, judges=JUDGES)
    assert choice.chosen == PLAIN_SUM
    assert "surely" in choice.reason


def test_who_disobeys_is_not_chosen_however_alike(
    base: Base, pair: tuple[Ingredient, Ingredient], asked: Asked
) -> None:
    deaf = pictures(red=[190] * COUNT, charcoal=[0.9] * COUNT, green=10)
    choice = choose_mix(base, pair, asked, drawn_as(pair, projection=deaf), judges=JUDGES)
    assert choice.chosen == PLAIN_SUM
    tried = {one.name: one for one in choice.tried}
    assert tried["projection"].marks.prompt < 0.1
    assert tried["projection"].better == 0.0


def test_a_look_is_not_traded_for_the_identity(
    base: Base, pair: tuple[Ingredient, Ingredient], asked: Asked
) -> None:
    bare = pictures(red=[NEAR] * COUNT, charcoal=[0.4] * COUNT)
    faint = pictures(red=[50] * COUNT, charcoal=[0.5] * COUNT)
    choice = choose_mix(base, pair, asked, drawn_as(pair, sum=faint, more_identity=bare), judges=JUDGES)
    tried = {one.name: one for one in choice.tried}
    assert tried["more identity"].marks.harmonic > 1.05 * tried[PLAIN_SUM].marks.harmonic
    assert tried["more identity"].better == 1.0
    assert choice.chosen != "more identity"


def test_the_plain_sum_comes_first_and_every_way_differs(pair: tuple[Ingredient, Ingredient]) -> None:
    found = ways(*pair)
    assert next(iter(found)) == PLAIN_SUM
    assert found[PLAIN_SUM].ingredients == pair
    assert len({mix.model_dump_json() for mix in found.values()}) == len(found) >= 6
    assert any(mix.projection for mix in found.values())
    assert any(not mix.steady for mix in found.values())
    assert "blocks" not in found


def test_of_sdxl_the_blocks_are_tried_too(pair: tuple[Ingredient, Ingredient]) -> None:
    own, other = (use.model_copy(update={"kit": use.kit.model_copy(update={"base": "sdxl"})}) for use in pair)
    blocks = [use.blocks for use in ways(own, other)["blocks"].ingredients]
    assert ("up.0.attentions.0", 1.0) in blocks[0]
    assert ("up.0.attentions.1", 1.0) in blocks[1]


def test_what_was_chosen_can_be_typed(pair: tuple[Ingredient, Ingredient]) -> None:
    late = pair[1].model_copy(update={"begin": 0.2, "blocks": (("up.1", 0.5), ("te", 0.0))})
    mix = ways(pair[0], late)[PLAIN_SUM]
    texts = [written(use) for use in uses_of(mix)]
    assert texts == [f"{pair[0].kit.id}:0.8", f"{late.kit.id}:0.7@0.2-1/up.1=0.5,te=0"]


def test_every_way_is_drawn_and_the_base_is_left_as_it_was(
    base: Base, pair: tuple[Ingredient, Ingredient], asked: Asked
) -> None:
    before = [p.detach().clone() for _, module in base.modules() for p in module.parameters()]
    known = {"style": np.zeros((COUNT, 32, 32, 3), np.uint8)}
    asked = Asked(asked.questions, Manner(steps=4, guidance=1.0))
    drawn = draw_ways(base, pair, asked, reporter=SilentReporter(), known=known)
    assert set(drawn) == {"identity", "style", *ways(*pair)}
    assert drawn["style"] is known["style"]
    assert all(rows.shape == (COUNT, 32, 32, 3) for rows in drawn.values())
    assert not np.array_equal(drawn[PLAIN_SUM], drawn["style from 20 %"])
    now = [p for _, module in base.modules() for p in module.parameters()]
    assert all(bool((old == new).all()) for old, new in zip(before, now, strict=True))


def test_prompts_change_mood_and_place_together(pair: tuple[Ingredient, Ingredient]) -> None:
    def of(**options: int) -> tuple[Question, ...]:
        return questions(pair[0].kit, pair[1].kit, noun="woman", drawn=True, **options)

    choosing, reporting = of(prompts=8), of(prompts=8, seeds=2, seed=8)
    assert len({one.both.prompt for one in choosing}) == 8
    assert not {one.both.prompt for one in choosing} & {one.both.prompt for one in reporting}
    assert len(reporting) == 16
    assert len({one.both.seed for one in (*choosing, *reporting)}) == 24
    one = choosing[0]
    assert one.both.prompt.startswith("wobble portrait of a dot_test woman, ")
    assert "dot_test" not in one.style.prompt
    assert "wobble" not in one.identity.prompt
    assert one.both.seed == one.identity.seed == one.style.seed


def test_the_noun_stands_behind_the_trigger(identity: Kit) -> None:
    assert noun_of(identity) == "person"
    prompts = identity.prompts.model_copy(
        update={"positive_prompts": ("ink portrait of a dot_test robot, x",)}
    )
    assert noun_of(identity.model_copy(update={"prompts": prompts})) == "robot"


def test_the_choice_is_kept_with_its_pictures(
    base: Base,
    base_folder: Path,
    pair: tuple[Ingredient, Ingredient],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[tuple[str | None, str | None]] = []

    def judges(base: Base, *, encoder: str | None, adherence: str | None) -> Judges:
        opened.append((encoder, adherence))
        return Judges(LayoutEncoder(), NoJudge())

    monkeypatch.setattr(Judges, "open", judges)
    monkeypatch.setattr("talent_factory.foundry.choose_mix.STEPS", 1)
    choice = choose_and_keep(
        str(base_folder), pair, out=tmp_path, judges=("layout", None), reporter=SilentReporter()
    )
    assert opened == [("layout", None)]
    assert read_record(tmp_path / CHOICE_FILE, MixChoice) == choice
    with Image.open(tmp_path / SHEET_FILE) as sheet:
        assert sheet.height > 128 * (2 + len(choice.tried))


def test_a_pair_is_an_identity_and_a_style(
    base_folder: Path, pair: tuple[Ingredient, Ingredient], tmp_path: Path
) -> None:
    for wrong in (pair[::-1], pair[:1], (pair[0], pair[0])):
        with pytest.raises(UsageError, match="identity and a style"):
            choose_and_keep(str(base_folder), wrong, out=tmp_path, reporter=SilentReporter())


def test_another_base_needs_a_judge(base: Base) -> None:
    if base.family == "mini":
        pytest.skip("the embedded base brings its own")
    with pytest.raises(UsageError, match="identity"):
        Judges.open(base)
