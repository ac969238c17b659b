"""What the stages know of a base before any work: torch stays asleep until there is some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from talent_factory.core.records import Record

if TYPE_CHECKING:
    from talent_factory.training.config import TrainConfig


class BaseFacts(Record):
    """What the stages must know of a base without loading it: torch stays asleep until there is work."""

    name: str
    path: Path
    revision: str
    resolution: int
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    sdx_version: Literal["1.5", "xl"]
    foreign_folder: Path | None
    """The base whose own layers a kit is checked against; None where the family's name says enough."""
    embedded: bool = False
    """Whether it is the base that comes with the package."""
    short_hash: str | None = None
    """Where it is one file: the eight digits by which older tools know it."""
    note: str = ""


def base_facts(name: str, *, fetch: bool = False) -> BaseFacts:
    """The base that a config calls `name`; with `fetch` a model of the hub is downloaded if need be.

    Raises BaseError when it is missing or broken.
    """
    from talent_factory.training.resolve import resolve_base
    from talent_factory.training.revision import short_hash

    found = resolve_base(name, fetch=fetch)
    return BaseFacts(
        name=name,
        path=found.path,
        revision=found.revision(),
        resolution=found.resolution(),
        prediction=found.prediction(),
        sdx_version="xl" if found.family == "sdxl" else "1.5",
        foreign_folder=found.kit_folder,
        embedded=found.form == "mini",
        short_hash=short_hash(found.path) if found.form == "checkpoint" else None,
        note=found.note,
    )


def check_version(base: BaseFacts, config: TrainConfig) -> None:
    """Raise ConfigError when a config names another generation than its base is of."""
    from talent_factory.training.resolve import check_version as check

    check("sdxl" if base.sdx_version == "xl" else "sd15", config.sdx_version, name=config.base_model)
