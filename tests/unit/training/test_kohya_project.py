"""A kohya project with class images and masks goes through a training, and both of them count."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tests.photo_maker import textured

from talent_factory.core.events import SilentReporter
from talent_factory.core.stop import StopSignal
from talent_factory.dataset.prepare import prepare_folder
from talent_factory.training.config import TrainConfig
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.loop import train
from talent_factory.training.runs import read_losses


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random base, and a dataset of two masked pictures of zwx and one of a man."""
    folder = tmp_path_factory.mktemp("material")
    make_random_base(folder / "base")
    own, regular = folder / "project" / "img" / "1_zwx man", folder / "project" / "reg" / "1_man"
    for place, seed in ((own, 1), (own, 2), (regular, 3)):
        place.mkdir(parents=True, exist_ok=True)
        textured(seed).save(place / f"{seed}.png")
        (place / f"{seed}.txt").write_text("man in a wood" if place is regular else f"zwx man at sea {seed}")
    for seed in (1, 2):
        mask = Image.new("L", (160, 120), 0)
        mask.paste(255, (50, 30, 110, 90))
        mask.save(own / f"{seed}.mask.png")
    prepare_folder(
        folder / "project",
        out=folder / "dataset",
        kind="identity",
        token="zwx",
        class_noun="man",
        resolution=64,
    )
    return folder


def _losses(material: Path, run: Path, **keys: object) -> list[float]:
    config = TrainConfig.model_validate(
        {
            "id": "avatar.identity.zwx", "kind": "lora", "sdx_version": "1.5",
            "base_model": str(material / "base"), "train_data_dir": "unused", "resolution": 64,
            "lora_rank": 2, "max_train_steps": 4, "learning_rate": 1e-3, "batch_size": 1, "token": "zwx",
            "sample_every": 0,
            "device": "cpu", **keys,
        }
    )  # fmt: skip
    train(config, dataset=material / "dataset", run=run, reporter=SilentReporter(), stop=StopSignal())
    return [line["loss"] for line in read_losses(run)]


def test_masks_and_the_weight_of_class_images_change_the_loss(material: Path, tmp_path: Path) -> None:
    plain = _losses(material, tmp_path / "plain")
    masked = _losses(material, tmp_path / "masked", loss={"mask": "file", "outside": 0.0})
    light = _losses(material, tmp_path / "light", regular_weight=0.0)
    assert len(plain) == len(masked) == len(light) == 4
    # half of the pictures shown are of the class: without weight their loss is nothing
    assert light.count(0.0) == 2
    first = next(index for index, loss in enumerate(light) if loss == 0.0)
    assert light[:first] == plain[:first]
    changed = [one != other for one, other in zip(plain, masked, strict=True)]
    assert any(changed)
