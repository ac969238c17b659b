"""The whole path on a base of the SDXL family, and what is said about bases before any work is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline_maker import Small, furnish
from talent_factory.base_facts import base_facts
from talent_factory.core.errors import BaseError, ConfigError
from talent_factory.core.events import SilentReporter
from talent_factory.foundry.session import prepare, shoot
from talent_factory.kits.validate import inspect_kit
from talent_factory.pipeline import plan, train_kit
from talent_factory.training.families.random_base import make_random_base


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Portrait, recipe and style for a tiny SDXL; read only but for its workspace."""
    root = tmp_path_factory.mktemp("sdxl")
    return furnish(root / "world", make_random_base(root / "base", "tiny-sdxl"))


@pytest.mark.slow
def test_a_portrait_becomes_an_sdxl_kit_that_renders(world: Small, tmp_path: Path) -> None:
    result = world.run()
    inspection = inspect_kit(result.kit, base_folder=world.base)
    assert inspection.report.valid, inspection.report.errors
    assert inspection.manifest is not None
    assert inspection.manifest.sdx_version == "xl"
    session = prepare(
        [result.kit.name],
        root=result.kit.parent,
        base=str(world.base),
        prompts=["dot_test, ink"],
        seeds=[1],
        options={"steps": 2},
    )
    images, _ = shoot(session, out=tmp_path / "renders", reporter=SilentReporter())
    assert [image.stat().st_size > 0 for image in images] == [True]
    assert world.run().changed is False


def test_the_facts_of_a_base_need_no_load(world: Small) -> None:
    facts = base_facts(str(world.base))
    assert (facts.sdx_version, facts.resolution, facts.foreign_folder) == ("xl", 64, world.base)
    assert base_facts("mini").foreign_folder is None


def test_a_config_of_the_other_generation_is_refused(world: Small, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "id": "avatar.style.wrong",
                "kind": "lora",
                "sdx_version": "1.5",
                "base_model": str(world.base),
                "train_data_dir": "nowhere",
                "resolution": 64,
                "lora_rank": 2,
                "max_train_steps": 1,
                "learning_rate": 0.001,
                "batch_size": 1,
            }
        )
    )
    with pytest.raises(ConfigError, match="is an SDXL model"):
        train_kit(config, workspace=world.place)


def test_a_plan_never_downloads(world: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    from talent_factory.training import resolve

    def refuse(repository: str) -> Path:
        raise AssertionError(f"{repository} was asked for")

    monkeypatch.setattr(resolve, "_download", refuse)
    options = world.options(base="someone/model")
    with pytest.raises(BaseError, match="not on this machine"):
        plan(world.portrait, token="dot_test", workspace=world.place, options=options)
