"""A person's photos become a folder, a config and a sheet; the same order again changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.photo_maker import write_photos

from talent_factory.core.errors import BaseError, ConfigError, DatasetError, UsageError
from talent_factory.core.workspace import Workspace
from talent_factory.newcomer import CONFIG, FOUND, Newcomer, consent_of, given_names, plan_newcomer, welcome
from talent_factory.training.config import load_train_config
from talent_factory.training.families.random_base import make_random_base


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    return Workspace(tmp_path / "work")


def _who(tmp_path: Path, **changes: object) -> Newcomer:
    photos = tmp_path / "photos"
    if not photos.is_dir():
        write_photos(photos, 4, size=(144, 128))
    told = {"name": "Zwx Kairo", "photos": photos, "base": "mini", "class_noun": "woman"}
    return Newcomer.model_validate(told | changes)


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_folder_holds_all_that_training_needs(tmp_path: Path, place: Workspace) -> None:
    made = welcome(_who(tmp_path, steps=7, consent="written"), place=place)
    assert made.folder == place.people / "zwx_kairo"
    names = sorted(_files(made.folder))
    assert names[:2] == ["config.yaml", "photos.json"]
    assert [name for name in names if name.endswith(".png")] == [
        f"photos/30_zwx_kairo/0{number}.png" for number in range(1, 5)
    ]
    config = load_train_config(made.config, place=place)
    assert (config.id, config.token) == ("avatar.identity.zwx_kairo", "zwx_kairo")
    assert (config.base_model, config.resolution, config.mode) == ("mini", 128, "letterbox")
    assert (config.max_train_steps, config.consent) == (7, "written")
    assert (place.root / config.train_data_dir) == made.folder / "photos"
    assert made.images == 4


def test_the_same_order_again_keeps_edited_captions(tmp_path: Path, place: Workspace) -> None:
    made = welcome(_who(tmp_path), place=place)
    (made.folder / "photos" / "30_zwx_kairo" / "01.txt").write_text("zwx_kairo woman, my words")
    before = _files(made.folder)
    again = welcome(_who(tmp_path), place=place)
    assert again.kept_before
    assert _files(made.folder) == before


def test_other_options_change_the_config_alone(tmp_path: Path, place: Workspace) -> None:
    made = welcome(_who(tmp_path), place=place)
    before = _files(made.folder)
    welcome(_who(tmp_path, steps=9), place=place)
    after = _files(made.folder)
    assert {name for name in after if after[name] != before[name]} == {"config.yaml", "photos.json"}
    assert load_train_config(made.config, place=place).max_train_steps == 9


def test_a_config_edited_by_hand_is_not_overwritten(tmp_path: Path, place: Workspace) -> None:
    made = welcome(_who(tmp_path), place=place)
    text = made.config.read_text() + "author: me\n"
    made.config.write_text(text)
    welcome(_who(tmp_path), place=place)
    assert made.config.read_text() == text
    with pytest.raises(UsageError, match="was edited by hand"):
        welcome(_who(tmp_path, steps=9), place=place)


def test_other_photos_replace_the_old_only_when_told(tmp_path: Path, place: Workspace) -> None:
    welcome(_who(tmp_path), place=place)
    write_photos(tmp_path / "photos", 5, size=(144, 128))
    with pytest.raises(UsageError, match="made from other photos") as caught:
        welcome(_who(tmp_path), place=place)
    assert "--again" in caught.value.remedy
    assert welcome(_who(tmp_path), place=place, again=True).images == 5


def test_a_foreign_folder_is_never_taken(tmp_path: Path, place: Workspace) -> None:
    (place.people / "zwx_kairo").mkdir(parents=True)
    with pytest.raises(UsageError, match="is not of this command"):
        welcome(_who(tmp_path), place=place)


def test_nothing_is_left_when_no_photo_will_do(tmp_path: Path, place: Workspace) -> None:
    photos = tmp_path / "bad"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"no")
    with pytest.raises(DatasetError, match="none of the 1 photos"):
        welcome(_who(tmp_path, photos=photos), place=place)
    assert not list(place.people.iterdir())


def test_a_missing_base_is_refused_unless_only_photos_are_checked(tmp_path: Path, place: Workspace) -> None:
    who = _who(tmp_path, base="nobody/no-such-model", keep_all=True)
    with pytest.raises(BaseError, match="not on this machine"):
        welcome(who, place=place)
    made = welcome(who, place=place, need_base=False)
    assert made.resolution == 512
    assert "base" in [finding.subject for finding in made.findings if finding.severity == "warn"]


def test_an_unknown_preset_is_refused_before_any_work(tmp_path: Path, place: Workspace) -> None:
    with pytest.raises(UsageError, match="no preset called 'turbo'"):
        welcome(_who(tmp_path, preset="turbo"), place=place)
    assert not place.root.exists()


def test_an_impossible_size_is_refused(tmp_path: Path, place: Workspace) -> None:
    with pytest.raises(DatasetError, match="not a multiple of 8"):
        welcome(_who(tmp_path, resolution=130), place=place)


def test_a_common_name_and_silent_consent_are_warned_of(tmp_path: Path, place: Workspace) -> None:
    warned = {
        f.subject for f in welcome(_who(tmp_path, name="Rose"), place=place).findings if f.severity == "warn"
    }
    assert {"token rose", "consent", "number"} <= warned
    drawn = welcome(_who(tmp_path, medium="drawing"), place=place)
    assert "consent" not in {finding.subject for finding in drawn.findings}


def test_a_plan_writes_nothing_and_names_the_real_folder(tmp_path: Path, place: Workspace) -> None:
    made, plan = plan_newcomer(_who(tmp_path, steps=5), place=place)
    assert not place.root.exists()
    assert made.config == place.people / "zwx_kairo" / CONFIG
    assert [step.name for step in plan.steps] == ["dataset", "train", "kit"]
    assert str(place.people / "zwx_kairo" / "photos") in plan.steps[0].detail


def test_an_option_that_no_training_takes_is_refused_as_such(tmp_path: Path, place: Workspace) -> None:
    """Before a photo is read, and naming no file: a dry run's config lies in a folder that goes away."""
    for begin in (plan_newcomer, welcome):
        with pytest.raises(ConfigError, match="the options: 'max_train_steps'") as caught:
            begin(_who(tmp_path, steps=2_000_000), place=place)
        assert caught.value.remedy == "talent new --help"
    assert not place.root.exists()


def test_the_name_is_kept_as_it_was_written(tmp_path: Path, place: Workspace) -> None:
    assert given_names(place) == {}
    made = welcome(_who(tmp_path), place=place)
    assert given_names(place) == {"avatar.identity.zwx_kairo": "Zwx Kairo"}
    before = made.config.read_bytes()
    made.config.write_bytes(before + b"author: me\n")
    welcome(_who(tmp_path, name="Zwx KAIRO"), place=place)
    assert given_names(place) == {"avatar.identity.zwx_kairo": "Zwx KAIRO"}
    assert made.config.read_bytes() == before + b"author: me\n"
    (made.folder / FOUND).write_text("{")
    assert given_names(place) == {}


def test_names_become_tokens(tmp_path: Path) -> None:
    assert _who(tmp_path, name="Dot  Kairo!").trigger == "dot_kairo"
    assert _who(tmp_path, token="ohwx").trigger == "ohwx"
    with pytest.raises(UsageError, match="no token"):
        _ = _who(tmp_path, name="北京").trigger
    with pytest.raises(UsageError, match="consent 'yes'"):
        consent_of("yes")


def test_a_note_among_the_photos_is_no_caption(tmp_path: Path, place: Workspace) -> None:
    who = _who(tmp_path)
    (who.photos / "where-they-were-taken.txt").write_text("at the lake")
    made = welcome(who, place=place)
    assert (made.images, made.left_out) == (4, ())


def test_a_folder_without_photos_is_told_of_before_a_missing_base(tmp_path: Path, place: Workspace) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        welcome(_who(tmp_path, photos=tmp_path / "nowhere", base="nobody/no-such-model"), place=place)


def test_a_base_for_trials_is_asked_for_the_smallest_size(tmp_path: Path, place: Workspace) -> None:
    base = make_random_base(tmp_path / "base", kind="tiny")
    made = welcome(_who(tmp_path, base=str(base), preset="fast", steps=3), place=place)
    assert load_train_config(made.config, place=place).resolution == made.resolution == 64
