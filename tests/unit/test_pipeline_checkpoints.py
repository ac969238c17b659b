"""From a checkpoint in one file to a kit: trained, packed and rendered like one of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipeline_maker import write_style
from talent_factory.core.files import sha256_file
from talent_factory.core.workspace import Workspace
from talent_factory.kits.validate import inspect_kit
from talent_factory.pipeline import train_kit
from talent_factory.training.families.random_base import make_random_base


def _velocity(path: Path) -> None:
    """Mark a checkpoint as trainers mark one that estimates the velocity."""
    with safe_open(path, framework="pt") as stored:
        words = stored.metadata()
    save_file({**load_file(path), "v_pred": torch.zeros(0)}, path, metadata=words)


@pytest.mark.slow
def test_a_checkpoint_file_becomes_a_kit(tmp_path: Path) -> None:
    base = make_random_base(tmp_path / "base.safetensors", "tiny-sdxl", form="checkpoint")
    _velocity(base)
    config = write_style(tmp_path, base, steps=2)
    config.write_text(config.read_text().replace('sdx_version: "1.5"', 'sdx_version: "xl"'))
    kit = train_kit(config, workspace=Workspace(tmp_path / "work"))
    inspection = inspect_kit(kit, base_folder=base)
    assert inspection.report.valid, inspection.report.errors
    with safe_open(kit / "weights.safetensors", framework="np") as stored:
        words = stored.metadata()
    assert words["modelspec.prediction_type"] == "v"
    assert words["ss_v_parameterization"] == "True"
    assert words["ss_new_sd_model_hash"] == sha256_file(base)
    assert len(words["ss_sd_model_hash"]) == 8
