"""Build the embedded base from nothing: draw, train autoencoder, denoiser and probe, export, measure.

Every part keeps its checkpoints in the work folder, so the build goes on where it was stopped or killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from talent_factory.core.events import Reporter
from talent_factory.core.records import read_record, write_record
from talent_factory.core.workspace import exclusive
from talent_factory.training.mini.autoencoder import decibels, train_autoencoder
from talent_factory.training.mini.card import Card, write_card
from talent_factory.training.mini.corpus import characters, drawings
from talent_factory.training.mini.denoiser import Denoiser, Encoded, encode, train_denoiser
from talent_factory.training.mini.export import export_base
from talent_factory.training.mini.measure import held_out_renders, obedience
from talent_factory.training.mini.reader import load_probe, reading_rate, save_probe, train_probe
from talent_factory.training.mini.recipe import MiniRecipe
from talent_factory.training.mini.vocabulary import make_tokenizer


def build_mini(recipe: MiniRecipe, *, work: Path, assets: Path, reporter: Reporter) -> Card:
    """Build all parts into `assets`/mini and `assets`/probe and return the measured card.

    `work` holds corpora and checkpoints (about 2 GB). Raises WorkspaceBusy when another build uses it.
    """
    torch.set_num_threads(recipe.threads)
    torch.set_flush_denormal(True)
    work.mkdir(parents=True, exist_ok=True)
    with exclusive(work):
        autoencoder = _autoencoder(recipe, work, reporter)
        denoiser = _denoiser(recipe, autoencoder, work, reporter)
        export_base(autoencoder, denoiser, make_tokenizer(length=recipe.denoiser.tokens), assets / "mini")
        _probe(recipe, work, assets, reporter)
        card = measure_card(recipe, work=work, assets=assets, reporter=reporter)
        write_card(card, assets / "mini")
    return card


def _drawings(
    recipe: MiniRecipe, work: Path, reporter: Reporter, *, name: str, count: int, unseen: bool = False
) -> NDArray[np.uint8]:
    def progress(done: int, total: int) -> None:
        reporter.progress(f"drawings for {name}", done, total, unit="drawing")

    return drawings(
        work / "corpus",
        seed=recipe.seed,
        name=name,
        count=count,
        size=recipe.size,
        unseen=unseen,
        progress=progress,
    )


def _autoencoder(recipe: MiniRecipe, work: Path, reporter: Reporter) -> AutoencoderKL:
    pictures = _drawings(recipe, work, reporter, name="autoencoder", count=recipe.drawings, unseen=True)
    return train_autoencoder(
        np.ascontiguousarray(pictures),
        recipe.autoencoder,
        seed=recipe.seed,
        root=work / "autoencoder",
        reporter=reporter,
    )


def _denoiser(recipe: MiniRecipe, autoencoder: AutoencoderKL, work: Path, reporter: Reporter) -> Denoiser:
    def encoded() -> Encoded:
        count = recipe.denoiser.drawings
        pictures = _drawings(recipe, work, reporter, name="denoiser", count=count)
        reporter.message("encoding the drawings of the denoiser")
        return encode(autoencoder, pictures, characters(recipe.seed, "denoiser", count))

    return train_denoiser(
        encoded,
        make_tokenizer(length=recipe.denoiser.tokens),
        recipe.denoiser,
        size=recipe.size,
        seed=recipe.seed,
        root=work / "denoiser",
        reporter=reporter,
    )


def _probe(recipe: MiniRecipe, work: Path, assets: Path, reporter: Reporter) -> None:
    count = recipe.probe.drawings
    pictures = _drawings(recipe, work, reporter, name="probe", count=count, unseen=True)
    who = characters(recipe.seed, "probe", count, unseen=True)
    probe = train_probe(
        np.ascontiguousarray(pictures),
        who,
        recipe.probe,
        seed=recipe.seed,
        root=work / "probe",
        reporter=reporter,
    )
    save_probe(probe, assets / "probe" / "probe.safetensors")


def measure_card(recipe: MiniRecipe, *, work: Path, assets: Path, reporter: Reporter) -> Card:
    """Measure the exported parts on drawings and prompts that no training saw."""
    from talent_factory.training.families import sd15
    from talent_factory.training.families.mini import CLASS_PROMPTS
    from talent_factory.training.families.source import FolderSource

    count = recipe.held_out
    pictures = _drawings(recipe, work, reporter, name="held-out", count=count)
    marked = _drawings(recipe, work, reporter, name="held-out-marked", count=count, unseen=True)
    base = sd15.load(FolderSource(assets / "mini"), name="mini", class_prompts=CLASS_PROMPTS)
    probe = load_probe(assets / "probe" / "probe.safetensors")
    started = time.monotonic()
    reporter.message("rendering the held-out prompts")
    who, renders = held_out_renders(base, seed=recipe.seed, count=recipe.prompts)
    return Card(
        recipe=recipe,
        revision=base.revision,
        torch=torch.__version__,
        bytes=sum(
            path.stat().st_size for folder in ("mini", "probe") for path in (assets / folder).rglob("*.*")
        ),
        autoencoder_db=_mean(decibels(base.vae, pictures)),
        autoencoder_db_marked=_mean(decibels(base.vae, marked)),
        probe_reads=reading_rate(
            probe, marked, characters(recipe.seed, "held-out-marked", count, unseen=True)
        ),
        obeys=obedience(probe, who, renders),
        render_seconds=round((time.monotonic() - started) / len(who), 3),
    )


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 2)


def load_recipe(path: Path | None) -> MiniRecipe:
    """The recipe in `path` (JSON), or the one the shipped base is made with."""
    return MiniRecipe() if path is None else read_record(path, MiniRecipe)


def keep_recipe(recipe: MiniRecipe, work: Path, refuse: Callable[[str], Exception]) -> None:
    """Remember the recipe of a work folder; a folder that was begun with another one is refused."""
    path = work / "recipe.json"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        write_record(path, recipe)
        return
    begun = read_record(path, MiniRecipe)
    if begun != recipe:
        changed = [name for name in MiniRecipe.model_fields if getattr(begun, name) != getattr(recipe, name)]
        raise refuse(f"{work} was begun with another recipe: {', '.join(changed)} differ")
