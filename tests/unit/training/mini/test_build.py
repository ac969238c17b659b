"""A whole build in small: every stage runs, the parts load, and a second call finds all of it done."""

from __future__ import annotations

from pathlib import Path

import pytest

from talent_factory.core.errors import ResumeRefused
from talent_factory.core.events import SilentReporter
from talent_factory.core.files import check_sums
from talent_factory.training.families import sd15
from talent_factory.training.families.source import FolderSource
from talent_factory.training.mini.build import build_mini, keep_recipe
from talent_factory.training.mini.recipe import AutoencoderRecipe, DenoiserRecipe, MiniRecipe, ProbeRecipe

TINY = MiniRecipe(
    seed=5,
    drawings=60,
    held_out=60,
    prompts=10,
    threads=1,
    autoencoder=AutoencoderRecipe(steps=2, decoder_steps=2, warmup=1, batch=2),
    denoiser=DenoiserRecipe(steps=2, warmup=1, batch=2, drawings=8, channels=(32, 32, 64)),
    probe=ProbeRecipe(steps=2, warmup=1, batch=4, drawings=8, channels=(8, 8, 16, 16)),
)


@pytest.mark.slow
def test_a_build_runs_through_and_again_to_the_same_revision(tmp_path: Path) -> None:
    work, assets = tmp_path / "work", tmp_path / "assets"
    card = build_mini(TINY, work=work, assets=assets, reporter=SilentReporter())
    base = sd15.load(FolderSource(assets / "mini"), name="mini")
    assert (base.revision, base.resolution) == (card.revision, 128)
    assert 0 <= card.obeys.all <= 1
    assert card.autoencoder_db > 5
    assert check_sums(assets / "mini") == []
    again = build_mini(TINY, work=work, assets=assets, reporter=SilentReporter())
    assert again.revision == card.revision
    assert again.obeys == card.obeys


def test_a_work_folder_belongs_to_one_recipe(tmp_path: Path) -> None:
    keep_recipe(TINY, tmp_path, ResumeRefused)
    keep_recipe(TINY, tmp_path, ResumeRefused)
    with pytest.raises(ResumeRefused, match="seed"):
        keep_recipe(TINY.model_copy(update={"seed": 6}), tmp_path, ResumeRefused)
