"""Captions beside other images' latents are found before the first step."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from talent_factory.core.errors import TrainingBroken
from talent_factory.core.events import SilentReporter
from talent_factory.dataset.manifest import Item, load_dataset
from talent_factory.training import pairing
from talent_factory.training.config import TrainConfig
from talent_factory.training.families import Base
from talent_factory.training.material import Material, gather
from talent_factory.training.pairing import check_pairs
from talent_factory.training.parallel import world

Gathered = tuple[Material, tuple[Item, ...], Callable[..., int]]


@pytest.fixture(params=["plain", "mirrored and shuffled"])
def gathered(
    request: pytest.FixtureRequest,
    base: Base,
    dataset: Path,
    tmp_path: Path,
    make_config: Callable[..., TrainConfig],
) -> Gathered:
    rich = {"flip": True, "captions": {"shuffle": True, "keep_tokens": 0, "dropout": 0.3}}
    config = make_config(**rich) if request.param != "plain" else make_config()
    items = load_dataset(dataset).items
    with world() as alone:
        material = gather(
            base,
            config,
            items,
            dataset=dataset,
            cache=tmp_path / "cache",
            world=alone,
            reporter=SilentReporter(),
        )

    def check(changed: Material, own: Sequence[Item] = items) -> int:
        return check_pairs(
            own,
            lottery=changed.lottery,
            banks=changed.banks,
            table=changed.table,
            keys=config.captions,
            cache=tmp_path / "cache" / "latents",
            vae_revision=base.vae_revision,
        )

    return material, items, check


def test_a_sound_run_passes_and_every_image_was_compared(gathered: Gathered) -> None:
    material, items, check = gathered
    sides = 2 if material.lottery.flip else 1
    assert check(material) == sides * len(items) == sides * 5


def test_exchanged_latents_are_found(gathered: Gathered) -> None:
    material, _, check = gathered
    (bank,) = material.banks.values()
    order = [1, 0, *range(2, len(bank.mean))]
    wrong = dataclasses.replace(bank, mean=bank.mean[order])
    banks = dict.fromkeys(material.banks, wrong)
    with pytest.raises(TrainingBroken, match="would be trained with the latents of another image"):
        check(dataclasses.replace(material, banks=banks))


@pytest.mark.parametrize("gathered", ["mirrored and shuffled"], indirect=True)
def test_exchanged_mirror_images_are_found(gathered: Gathered) -> None:
    material, items, check = gathered
    (bank,) = material.banks.values()
    order = [*range(len(items)), *reversed(range(len(items), 2 * len(items)))]
    banks = dict.fromkeys(material.banks, dataclasses.replace(bank, mean=bank.mean[order]))
    with pytest.raises(TrainingBroken, match="another image"):
        check(dataclasses.replace(material, banks=banks))


def test_exchanged_captions_are_found(gathered: Gathered) -> None:
    material, items, check = gathered
    texts = list(material.lottery.texts)
    texts[0], texts[1] = texts[1], texts[0]
    lottery = dataclasses.replace(material.lottery, texts=tuple(texts))
    with pytest.raises(TrainingBroken, match="would be trained with the text"):
        check(dataclasses.replace(material, lottery=lottery))
    swapped = (items[1], items[0], *items[2:])
    with pytest.raises(TrainingBroken, match="would be trained with the text"):
        check(material, swapped)


def test_an_emptied_cache_is_no_fault_and_many_images_are_sampled(
    gathered: Gathered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material, _, check = gathered
    monkeypatch.setattr(pairing, "MOST_IMAGES", 3)
    sides = 2 if material.lottery.flip else 1
    assert check(material) == 3 * sides  # 0, 2 and 4
    shutil.rmtree(tmp_path / "cache")
    assert check(material) == 0
