"""Only valid kits are found, and every refusal names the way out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from foundry_maker import IDENTITY, STYLE, add_kit
from talent_factory.core.errors import KitError, UsageError
from talent_factory.foundry.discover import (
    Ingredient,
    Kit,
    check_same_base,
    find_kits,
    load_kit,
    read_ingredient,
    strength_warning,
)


def test_valid_kits_are_found_by_id(talents: Path, base_folder: Path) -> None:
    assert [kit.id for kit in find_kits(talents, base_folder=base_folder)] == [IDENTITY, STYLE]


def test_a_broken_kit_is_left_out_and_refused_by_name(
    talents: Path, base_folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "talents"
    shutil.copytree(talents, root)
    weights = root / STYLE / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    assert [kit.id for kit in find_kits(root, base_folder=base_folder)] == [IDENTITY]
    with pytest.raises(KitError, match=r"weights\.safetensors"):
        load_kit(root, STYLE, base_folder=base_folder)


def test_a_misspelt_id_is_answered_with_the_nearest(talents: Path, base_folder: Path) -> None:
    with pytest.raises(KitError) as caught:
        load_kit(talents, "avatar.identity.dot_tset", base_folder=base_folder)
    assert IDENTITY in caught.value.remedy


@pytest.mark.parametrize(
    "text", ["../etc", "avatar.identity..", "avatar.identity.a/b", "avatar.identity.x\n", ""]
)
def test_hostile_ids_never_reach_a_path(talents: Path, text: str) -> None:
    with pytest.raises(UsageError):
        load_kit(talents, text)


def test_a_weight_may_be_written_or_left_to_the_kit(talents: Path, base_folder: Path) -> None:
    assert read_ingredient(IDENTITY, talents, base_folder=base_folder).weight == 0.8
    assert read_ingredient(f"{IDENTITY}:0", talents, base_folder=base_folder).weight == 0.0
    assert read_ingredient(f"{IDENTITY}:-1.5", talents, base_folder=base_folder).weight == -1.5


@pytest.mark.parametrize("weight", ["", "much", "nan", "inf", "3", "1,5"])
def test_an_impossible_weight_is_refused(talents: Path, base_folder: Path, weight: str) -> None:
    with pytest.raises(UsageError, match="weight"):
        read_ingredient(f"{IDENTITY}:{weight}", talents, base_folder=base_folder)


def test_kits_of_different_bases_do_not_mix(
    identity: Kit, style: Kit, base_folder: Path, tmp_path: Path
) -> None:
    other = style.model_copy(update={"base": "sd15"})
    with pytest.raises(KitError, match="cannot be mixed"):
        check_same_base([Ingredient(kit=identity, weight=1), Ingredient(kit=other, weight=1)])
    add_kit(tmp_path, base_folder, STYLE, revision="0" * 64)
    older = load_kit(tmp_path, STYLE, base_folder=base_folder)
    with pytest.raises(KitError, match="different versions"):
        check_same_base([Ingredient(kit=identity, weight=1), Ingredient(kit=older, weight=1)])


def test_only_a_strong_mix_is_remarked_on(identity: Kit, style: Kit) -> None:
    def warning(*weights: float) -> str:
        kits = (identity, style)
        return strength_warning([Ingredient(kit=k, weight=w) for k, w in zip(kits, weights, strict=False)])

    assert not warning(1.9)
    assert not warning(1.0, 0.5)
    assert "1.8" in warning(1.0, 0.8)
    assert "1.8" in warning(1.0, -0.8)
    early, late = Ingredient(kit=identity, weight=1.0, end=0.4), Ingredient(kit=style, weight=0.8, begin=0.4)
    assert not strength_warning([early, late])
    assert "1.8" in strength_warning([early, late.model_copy(update={"begin": 0.3})])
    assert not strength_warning([])
