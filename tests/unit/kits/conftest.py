"""A small base and a good kit for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit_maker import make_base, make_kit


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a base with 40 modules."""
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def kit(tmp_path: Path, base: Path) -> Path:
    """A good kit, to be spoiled by the test."""
    return make_kit(tmp_path / "talents" / "avatar", base, work=tmp_path / "work")
