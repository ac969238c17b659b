"""What a pipeline needs in small: a random base, a portrait, a recipe of three slots, a style to mix with."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from talent_factory.core.workspace import Workspace
from talent_factory.pipeline import RunOptions, RunResult, run
from talent_factory.quality import Dials, derive_dials
from talent_factory.training.families.random_base import make_random_base
from talent_factory.world import draw_character, sample_character

TOKEN = "dot_test"
SLOTS = ("mono_vector", "flat_vector", "eye_contact")


@dataclass(frozen=True)
class Small:
    """A complete small world below `root`, with its base anywhere."""

    root: Path
    base: Path

    @property
    def portrait(self) -> Path:
        return self.root / "portrait.png"

    @property
    def style(self) -> Path:
        return self.root / "wobble.yaml"

    @property
    def place(self) -> Workspace:
        return Workspace(self.root / "work")

    def options(self, **changes: object) -> RunOptions:
        """Options of a run that takes seconds."""
        fields: dict[str, object] = {
            "dials": small_dials(),
            "base": str(self.base),
            "recipe": str(self.root / "three.toml"),
            "sex": "woman",
        }
        return RunOptions.model_validate({**fields, **changes})

    def run(self, **changes: object) -> RunResult:
        """Run the pipeline."""
        options = self.options(**changes)
        return run(self.portrait, token=TOKEN, workspace=self.place, options=options)


def small_dials(**changes: object) -> Dials:
    """Numbers for a run that takes seconds."""
    small = {
        "cast_long_side": 128,
        "train_steps": 6,
        "batch_size": 1,
        "lora_rank": 2,
        "lora_alpha": 2.0,
        "render_steps": 2,
        "seeds_per_scene": 1,
    }
    return Dials.model_validate({**derive_dials("draft").model_dump(), **small, **changes})


def make_small(root: Path) -> Small:
    """Write base, portrait, recipe and style."""
    base = make_random_base(root / "base", side=64)
    return furnish(root, base)


def furnish(root: Path, base: Path) -> Small:
    """Write portrait, recipe and style for a base that is there."""
    root.mkdir(exist_ok=True)
    write_portrait(root / "portrait.png")
    write_recipe(root / "three.toml")
    write_style(root, base)
    return Small(root, base)


def write_portrait(path: Path, *, seed: int = 1) -> None:
    """Draw a character of 160 px."""
    rng = np.random.default_rng(seed)
    Image.fromarray(draw_character(sample_character(rng), rng, size=160)).save(path)


def write_recipe(path: Path, slots: tuple[str, ...] = SLOTS) -> None:
    """Write the shipped recipe with some of its slots."""
    text = (files("talent_factory.datagen.recipes") / "actor_17.toml").read_text("utf-8")
    head, *blocks = text.split("[[slot]]")
    chosen = [block for block in blocks if any(f'name = "{name}"' in block for name in slots)]
    assert len(chosen) == len(slots)
    path.write_text("[[slot]]".join([head, *chosen]), "utf-8")


def write_style(root: Path, base: Path, *, steps: int = 4) -> Path:
    """Write four captioned images and the config that trains a style on them."""
    folder = root / "wobble"
    folder.mkdir(exist_ok=True)
    for number in range(4):
        write_portrait(folder / f"{number}.png", seed=10 + number)
        (folder / f"{number}.txt").write_text(f"wobble portrait of a woman, number {number}")
    config = root / "wobble.yaml"
    config.write_text(
        f"""id: avatar.style.wobble
kind: lora
sdx_version: "1.5"
base_model: {base}
train_data_dir: {folder}
resolution: 64
lora_rank: 2
max_train_steps: {steps}
learning_rate: 1e-3
batch_size: 1
sample_every: 0
"""
    )
    return config
