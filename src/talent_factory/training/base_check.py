"""Look at a base before hours depend on it: what it is, whether it is whole, how large, which bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from talent_factory.core.errors import BaseError
from talent_factory.core.records import Record
from talent_factory.training.resolve import KNOWN, FoundBase, resolve_base


class BaseCard(Record):
    """What `talent base check` says of a base."""

    name: str
    path: Path
    form: Literal["mini", "folder", "checkpoint"]
    family: Literal["mini", "sd15", "sdxl"]
    sdx_version: Literal["1.5", "xl"]
    resolution: int
    prediction: Literal["epsilon", "v_prediction"]
    bytes: int = Field(ge=0)
    revision: str = ""
    """sha256 over its contents; empty when it was not asked for."""
    note: str = ""


def check_base(name: str, *, fetch: bool = False) -> BaseCard:
    """Resolve a base, build each of its parts once, and hash it; needs memory for the largest part in bf16.

    Raises BaseError that names what is missing or broken.
    """
    import torch

    from talent_factory.training.families import open_source
    from talent_factory.training.families.parts import assemble

    found = resolve_base(name, fetch=fetch)
    source = open_source(found)
    parts = ("unet", "vae", "text_encoder") + (("text_encoder_2",) if found.family == "sdxl" else ())
    for part in parts:
        config, tensors = source.part(part)
        assemble(part, config, tensors, dtype=torch.bfloat16, where=found.path)
    source.tokenizer()
    source.noise()
    return base_card(found, revision=found.revision())


def base_card(found: FoundBase, *, revision: str = "") -> BaseCard:
    """The card of a base that was found."""
    return BaseCard(
        name=found.name,
        path=found.path,
        form=found.form,
        family="mini" if found.form == "mini" else found.family,
        sdx_version="xl" if found.family == "sdxl" else "1.5",
        resolution=found.resolution(),
        prediction=found.prediction(),
        bytes=found.size_bytes(),
        revision=revision,
        note=found.note,
    )


def list_bases(folder: Path | None = None) -> tuple[BaseCard, ...]:
    """The bases that are on this machine: mini, those of the hub's cache, and those right inside `folder`."""
    names = ["mini", *KNOWN]
    if folder is not None and folder.is_dir():
        names += sorted(str(path) for path in folder.iterdir() if _promising(path))
    cards: list[BaseCard] = []
    for name in names:
        try:
            cards.append(base_card(resolve_base(name)))
        except BaseError:
            continue  # not here, or no base: `check` says why
    return tuple(cards)


def _promising(path: Path) -> bool:
    return path.suffix == ".safetensors" if path.is_file() else (path / "unet").is_dir()
