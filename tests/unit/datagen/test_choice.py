"""Sets of other sizes keep the shares of their groups; of more images than wanted the best are kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from cast_maker import BlockEditor, write_face
from talent_factory.core.errors import ProviderError, UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.datagen.actor import CastOptions, cast_actor, plan_cast
from talent_factory.datagen.cast import CastManifest, load_cast
from talent_factory.datagen.choice import keep_best, spread, varied_name
from talent_factory.datagen.quality.verdict import Check
from talent_factory.datagen.recipes import load_recipe
from talent_factory.datagen.review.book import Decision, decide


def _cast(folder: Path, editor: BlockEditor | None = None, **options: object) -> CastManifest:
    return cast_actor(
        write_face(folder / "face.png"),
        out=folder / "cast",
        token="dot",
        options=CastOptions.model_validate({"long_side": 64, **options}),
        editor=editor or BlockEditor(),
        reporter=SilentReporter(),
    )


def test_fewer_images_keep_the_shares_and_more_are_variations() -> None:
    recipe = load_recipe()
    assert [slot.name for slot, _ in spread(recipe, None)] == [slot.name for slot in recipe.slots]
    few = Counter(slot.group for slot, _ in spread(recipe, 9))
    assert few == {"photo": 4, "monochrome": 3, "colour": 2}
    for count in range(1, 60):
        picked = spread(recipe, count)
        assert len(picked) == len({(slot.name, number) for slot, number in picked}) == count
        tally = Counter(slot.name for slot, _ in picked)
        assert max(tally.values()) - min(tally[slot.name] for slot in recipe.slots) <= 1
    assert varied_name("manga", 0) == "manga"
    assert varied_name("manga", 1) == "manga_v2"
    assert len(varied_name("x" * 60, 10)) == 60


def test_variations_have_their_own_seeds_names_and_files(tmp_path: Path) -> None:
    made = _cast(tmp_path, count=20)
    assert len(made.done) == made.target == 20
    assert len({slot.seed for slot in made.slots}) == len({slot.file for slot in made.slots}) == 20
    extra = made.slots[17:]
    assert [slot.name for slot in extra] == [f"{slot.variation_of}_v2" for slot in extra]
    plain = _cast(tmp_path / "plain")
    assert [slot.sha256 for slot in made.slots[:17]] == [slot.sha256 for slot in plain.slots]


def test_a_smaller_target_keeps_the_best_and_a_failed_slot_is_made_up_for(tmp_path: Path) -> None:
    editor = BlockEditor()
    editor.broken = {"manga": ProviderError("no")}
    made = _cast(tmp_path, editor, count=20, keep=17)
    assert len(made.made) == 19
    assert len(made.done) == made.target == 17
    made.require_complete()
    assert made.counts()["total_training_images"] == 17
    aside = [slot for slot in made.slots if not slot.kept]
    assert {slot.variation_of != "" for slot in aside} <= {True, False}
    assert all((tmp_path / "cast" / slot.file).is_file() for slot in aside)
    assert load_cast(tmp_path / "cast") == made


def test_checks_decide_between_variations_and_a_person_over_checks(tmp_path: Path) -> None:
    made = _cast(tmp_path, count=34, keep=17)
    bad = Check(name="blur", verdict="fail", note="blurred")
    slots = [slot.model_copy(update={"checks": (), "kept": True}) for slot in made.slots]
    slots[3] = slots[3].model_copy(update={"checks": (bad,)})
    judged = made.model_copy(update={"slots": tuple(slots)})
    chosen = keep_best(judged, tmp_path / "cast")
    names = {slot.name for slot in chosen.done}
    assert len(names) == 17
    assert slots[3].name not in names
    assert f"{slots[3].name}_v2" in names
    choose = {slots[3].sha256: Decision(choice="keep"), slots[5].sha256: Decision(choice="reject")}
    decide(tmp_path / "cast", choose)
    names = {slot.name for slot in keep_best(judged, tmp_path / "cast").done}
    assert slots[3].name in names
    assert slots[5].name not in names
    assert f"{slots[5].name}_v2" in names


def test_a_second_run_over_a_chosen_set_changes_nothing(tmp_path: Path) -> None:
    _cast(tmp_path, count=20, keep=12)
    paths = [path for path in (tmp_path / "cast").rglob("*") if path.is_file() and path.name != ".lock"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    again = BlockEditor()
    assert len(_cast(tmp_path, again, count=20, keep=12).done) == 12
    assert again.painted == []
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths} == before


def test_an_impossible_target_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="cannot keep 5 of 4"):
        CastOptions(count=4, keep=5)
    with pytest.raises(UsageError, match="18 of 17"):
        _cast(tmp_path, keep=18)
    assert not (tmp_path / "cast").exists()


def test_a_plan_counts_every_variation(tmp_path: Path) -> None:
    plan = plan_cast(
        write_face(tmp_path / "face.png"),
        out=tmp_path / "cast",
        token="dot",
        options=CastOptions(count=20),
        editor=BlockEditor(),
    )
    assert len(plan.todo) == 20
