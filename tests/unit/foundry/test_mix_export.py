"""A mix that ships as one kit does what the mix did, and says what it was made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from foundry_maker import IDENTITY, STYLE, add_kit
from talent_factory.core.errors import KitError
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient, Kit, load_kit
from talent_factory.foundry.merging import mixed
from talent_factory.foundry.mix_export import export_mix, mixed_subject
from talent_factory.kits.manifest import Subject
from talent_factory.training.families.port import Base
from talent_factory.training.lora import target_layers

NEW = "avatar.identity.both"


def weights(base: Base) -> dict[str, torch.Tensor]:
    return {
        name: layer.weight.detach().clone()
        for prefix, module in base.modules()
        for name, layer in target_layers(module, prefix=prefix, name=base.lora_name)
    }


@pytest.fixture
def mix(identity: Kit, style: Kit) -> Mix:
    uses = (
        Ingredient(kit=identity, weight=0.9),
        Ingredient(kit=style, weight=0.6, blocks=(("down", 0.0),)),
    )
    return Mix(ingredients=uses, projection=0.5)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 2e-5), ("fp32", 1e-7)])
def test_the_kit_does_what_the_mix_did(
    base: Base, base_folder: Path, mix: Mix, tmp_path: Path, precision: str, tolerance: float
) -> None:
    export_mix(mix, talent_id=NEW, root=tmp_path, base_folder=base_folder, precision=precision)  # type: ignore[arg-type]
    kit = load_kit(tmp_path, NEW, base_folder=base_folder)
    with mixed(base, mix):
        wanted = weights(base)
    with mixed(base, Mix(ingredients=(Ingredient(kit=kit, weight=1.0),))):
        found = weights(base)
    assert len(found) > 10
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=tolerance)


def test_the_kit_says_what_it_is_made_of(base_folder: Path, mix: Mix, base: Base, tmp_path: Path) -> None:
    folder = export_mix(mix, talent_id=NEW, root=tmp_path / "a", base_folder=base_folder)
    kit = load_kit(tmp_path / "a", NEW, base_folder=base_folder)
    assert (kit.manifest.lora_rank, kit.manifest.default_weight, kit.manifest.token) == (5, 1.0, "dot_test")
    assert kit.base_revision == base.revision
    told = kit.manifest.metadata
    assert told is not None
    assert told.provenance is not None
    assert [use["id"] for use in told.provenance["mix"]["kits"]] == [IDENTITY, STYLE]
    assert told.provenance["mix"]["projection"] == 0.5
    # one rank for all modules, also where one kit alone acts: readers expect it
    ranks = {len(t) for name, t in load_file(kit.weights).items() if name.endswith("lora_down.weight")}
    assert ranks == {5}
    again = export_mix(mix, talent_id=NEW, root=tmp_path / "b", base_folder=base_folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path.name


def test_what_is_no_single_lora_is_refused(
    base: Base, base_folder: Path, identity: Kit, style: Kit, tmp_path: Path
) -> None:
    own, other = Ingredient(kit=identity, weight=1.0), Ingredient(kit=style, weight=1.0)
    add_kit(tmp_path, base_folder, STYLE, revision=base.revision, rank=127)
    large = Ingredient(kit=load_kit(tmp_path, STYLE, base_folder=base_folder), weight=1.0)
    wrong = {
        "step to step": Mix(ingredients=(own, other.model_copy(update={"begin": 0.3}))),
        "changes nothing": Mix(
            ingredients=tuple(use.model_copy(update={"weight": 0.0}) for use in (own, other))
        ),
        "add up to 129": Mix(ingredients=(own, large)),
    }
    for message, mix in wrong.items():
        with pytest.raises(KitError, match=message) as caught:
            export_mix(mix, talent_id=NEW, root=tmp_path, base_folder=base_folder)
        assert caught.value.remedy
    assert not (tmp_path / NEW).exists()


def test_licences_and_consent_are_those_of_all(
    base_folder: Path, identity: Kit, style: Kit, tmp_path: Path
) -> None:
    def with_facts(kit: Kit, **facts: object) -> Kit:
        assert kit.manifest.metadata is not None
        metadata = kit.manifest.metadata.model_validate({**kit.manifest.metadata.model_dump(), **facts})
        return kit.model_copy(update={"manifest": kit.manifest.model_copy(update={"metadata": metadata})})

    people = (
        with_facts(identity, license="MIT", subject={"real_person": True, "consent": "self"}),
        with_facts(style, license="CC0-1.0", subject={"real_person": True, "consent": "none"}),
    )
    mix = Mix(ingredients=tuple(Ingredient(kit=kit, weight=0.5) for kit in people))
    export_mix(mix, talent_id=NEW, root=tmp_path, base_folder=base_folder)
    told = load_kit(tmp_path, NEW, base_folder=base_folder).manifest.metadata
    assert told is not None
    assert told.license == "all of: MIT; CC0-1.0"
    assert told.subject is not None
    assert (told.subject.real_person, told.subject.consent) == (True, "none")


def test_a_mix_says_of_whom_it_shows_no_more_than_its_kits() -> None:
    nobody, agreed = Subject(), Subject(real_person=True, consent="self")
    assert mixed_subject([None, nobody]) is None
    assert mixed_subject([None, agreed]) is None
    assert mixed_subject([nobody, agreed]) == agreed
    # what forbids a mix is said though others are silent
    unasked = Subject(real_person=True)
    assert mixed_subject([None, unasked]) == unasked
    assert mixed_subject([None, Subject(minor=True)]) == Subject(minor=True)
