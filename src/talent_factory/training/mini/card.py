"""The model card of the embedded base: what was measured, as data and as a page."""

from __future__ import annotations

from pathlib import Path

from talent_factory.core.files import write_sums, write_text
from talent_factory.core.records import Record, write_record
from talent_factory.training.mini.measure import Obedience
from talent_factory.training.mini.recipe import MiniRecipe

AUTOENCODER_TARGET_DB, OBEDIENCE_TARGET, PROBE_TARGET, SIZE_TARGET = 26.0, 0.85, 0.98, 24_000_000


class Card(Record):
    """Figures of one build; `probe_reads` and `obeys` are shares between 0 and 1."""

    recipe: MiniRecipe
    revision: str
    torch: str
    bytes: int
    autoencoder_db: float
    autoencoder_db_marked: float
    probe_reads: dict[str, float]
    obeys: Obedience
    render_seconds: float


def write_card(card: Card, folder: Path) -> None:
    """Write card.json (the figures) and README.md (the page) beside the weights, then the digests of all."""
    write_record(folder / "card.json", card)
    write_text(folder / "README.md", as_markdown(card))
    write_sums(folder)  # what `talent doctor` compares the parts with


def _row(what: str, measured: str, target: str, held: bool) -> str:
    return f"| {what} | {measured} | {target} | {'yes' if held else 'no'} |"


def _figures(card: Card) -> list[str]:
    """The rows of the table of figures and targets."""
    obeys, probe = card.obeys, card.probe_reads["all"]
    return [
        _row(
            "autoencoder, held-out drawings",
            f"{card.autoencoder_db:.2f} dB",
            f"{AUTOENCODER_TARGET_DB:.0f} dB",
            card.autoencoder_db >= AUTOENCODER_TARGET_DB,
        ),
        _row(
            f"attributes named in {obeys.prompts} held-out prompts, read back",
            f"{obeys.all:.1%}",
            f"{OBEDIENCE_TARGET:.0%}",
            obeys.all >= OBEDIENCE_TARGET,
        ),
        _row(
            "attributes the probe reads from true drawings",
            f"{probe:.1%}",
            f"{PROBE_TARGET:.0%}",
            probe >= PROBE_TARGET,
        ),
        _row(
            "size of all parts with the probe",
            f"{card.bytes / 1e6:.1f} MB",
            f"{SIZE_TARGET / 1e6:.0f} MB",
            card.bytes <= SIZE_TARGET,
        ),
    ]


def _making(card: Card) -> str:
    """How the parts were trained, in one line."""
    recipe = card.recipe
    vae, unet, probe = recipe.autoencoder, recipe.denoiser, recipe.probe
    parts = (
        f"Seed {recipe.seed}",
        f"{recipe.drawings} drawings and {vae.steps} steps of {vae.batch} crops for the autoencoder",
        f"{unet.drawings} drawings and {unet.steps} steps of {unet.batch} for text model and UNet",
        f"{probe.drawings} drawings and {probe.steps} steps for the probe",
        f"torch {card.torch}. All numbers are in `card.json`.",
    )
    return "; ".join(parts)


def as_markdown(card: Card) -> str:
    """The card as a page: purpose, making, figures against their targets, limits."""
    obeys, size = card.obeys, card.recipe.size
    figures = "\n".join(_figures(card))
    named = "\n".join(
        f"| {name.replace('_', ' ')} | {rate:.1%} |" for name, rate in obeys.per_attribute.items()
    )
    return f"""\
# mini: the embedded base

A text-to-image model of {size} pixels with the parts of Stable Diffusion 1.5 (CLIP tokenizer and text
model, cross-attending UNet, 8x autoencoder with four channels, v1 noise schedule), trained by
`talent base build mini` on drawings that the project makes itself. It knows the words of that drawn world and
nothing else; it exists so that casting, training, kits and rendering run anywhere, at once and offline.

| figure | measured | target | held |
| --- | --- | --- | --- |
{figures}

Autoencoder on held-out drawings with signature marks and unseen media: {card.autoencoder_db_marked:.2f} dB.
Renders: {obeys.steps} DPM++ 2M steps, guidance {obeys.guidance:g}, {card.render_seconds:.2f} s an image.

| attribute | read back from renders |
| --- | --- |
{named}

## How it was made

{_making(card)}

## Limits

It draws one kind of picture: characters of a small vocabulary in five media. It knows no photographs and no
real people, and it is no base for finished work; use Stable Diffusion 1.5 for that.

Licence: Apache-2.0, weights and drawings alike.
"""
