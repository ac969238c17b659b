"""The model card of the embedded base: what was measured, as data and as a page."""

from __future__ import annotations

from pathlib import Path

from talent_factory.core.files import write_text
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
    """Write card.json (the figures) and README.md (the page) beside the weights."""
    write_record(folder / "card.json", card)
    write_text(folder / "README.md", as_markdown(card))


def _row(what: str, measured: str, target: str, held: bool) -> str:
    return f"| {what} | {measured} | {target} | {'yes' if held else 'no'} |"


def as_markdown(card: Card) -> str:
    """The card as a page: purpose, making, figures against their targets, limits."""
    recipe, obeys = card.recipe, card.obeys
    probe = card.probe_reads["all"]
    rows = [
        _row(
            "autoencoder, held-out drawings", f"{card.autoencoder_db:.2f} dB", f"{AUTOENCODER_TARGET_DB:.0f} dB",
            card.autoencoder_db >= AUTOENCODER_TARGET_DB,
        ),
        _row(
            f"attributes named in {obeys.prompts} held-out prompts, read back", f"{obeys.all:.1%}",
            f"{OBEDIENCE_TARGET:.0%}", obeys.all >= OBEDIENCE_TARGET,
        ),
        _row("attributes the probe reads from true drawings", f"{probe:.1%}", f"{PROBE_TARGET:.0%}",
             probe >= PROBE_TARGET),
        _row("size of all parts with the probe", f"{card.bytes / 1e6:.1f} MB", f"{SIZE_TARGET / 1e6:.0f} MB",
             card.bytes <= SIZE_TARGET),
    ]
    named = [f"| {name.replace('_', ' ')} | {rate:.1%} |" for name, rate in obeys.per_attribute.items()]
    return "\n".join([
        "# mini: the embedded base",
        "",
        f"A text-to-image model of {recipe.size} pixels with the parts of Stable Diffusion 1.5 (CLIP tokenizer and text",
        "model, cross-attending UNet, 8x autoencoder with four channels, v1 noise schedule), trained by",
        "`talent base build mini` on drawings that the project makes itself. It knows the words of that drawn world and",
        "nothing else; it exists so that casting, training, kits and rendering run anywhere, at once and offline.",
        "",
        "| figure | measured | target | held |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        f"Autoencoder on held-out drawings with signature marks and unseen media: {card.autoencoder_db_marked:.2f} dB.",
        f"Renders: {obeys.steps} DPM++ 2M steps, guidance {obeys.guidance:g}, {card.render_seconds:.2f} s an image.",
        "",
        "| attribute | read back from renders |",
        "| --- | --- |",
        *named,
        "",
        "## How it was made",
        "",
        f"Seed {recipe.seed}; {recipe.drawings} drawings and {recipe.autoencoder.steps} steps of"
        f" {recipe.autoencoder.batch} crops for the autoencoder; {recipe.denoiser.drawings} drawings and"
        f" {recipe.denoiser.steps} steps of {recipe.denoiser.batch} for text model and UNet; {recipe.probe.drawings}"
        f" drawings and {recipe.probe.steps} steps for the probe; torch {card.torch}. All numbers are in `card.json`.",
        "",
        "## Limits",
        "",
        "It draws one kind of picture: characters of a small vocabulary in five media. It knows no photographs and no",
        "real people, and it is no base for finished work; use Stable Diffusion 1.5 for that.",
        "",
        "Licence: Apache-2.0, weights and drawings alike.",
        "",
    ])
