"""A tiny base and two kits for it: an identity and a style."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundry_maker import IDENTITY, STYLE, add_kit
from talent_factory.foundry.discover import Kit, load_kit
from talent_factory.foundry.render import open_base
from talent_factory.training.families.port import Base
from talent_factory.training.families.random_base import make_random_base


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random base of 32 px."""
    return make_random_base(tmp_path_factory.mktemp("base"), seed=1)


@pytest.fixture(scope="session")
def base(base_folder: Path) -> Base:
    """The same base, loaded."""
    return open_base(str(base_folder))


@pytest.fixture(scope="session")
def talents(base_folder: Path, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one identity and one style kit of that base."""
    root = tmp_path_factory.mktemp("talents")
    add_kit(root, base_folder, IDENTITY, revision=base.revision, seed=1, token="dot_test")
    add_kit(root, base_folder, STYLE, revision=base.revision, seed=2, rank=3)
    return root


@pytest.fixture(scope="session")
def identity(talents: Path, base_folder: Path) -> Kit:
    """The identity kit."""
    return load_kit(talents, IDENTITY, base_folder=base_folder)


@pytest.fixture(scope="session")
def style(talents: Path, base_folder: Path) -> Kit:
    """The style kit."""
    return load_kit(talents, STYLE, base_folder=base_folder)
