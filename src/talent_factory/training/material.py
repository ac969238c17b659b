"""What a run learns from, brought to the device once: latents, masks and texts, and who meets whom when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from talent_factory.core.events import Reporter
from talent_factory.dataset.manifest import Item
from talent_factory.training.bank import SizeBank, TextRows, TextTable, build_banks
from talent_factory.training.config import TrainConfig
from talent_factory.training.draws import Lottery, Size
from talent_factory.training.families.port import Base
from talent_factory.training.latents import LatentSet, Source, encode_images
from talent_factory.training.masks import MaskSource, loss_masks
from talent_factory.training.pairing import check_pairs
from talent_factory.training.parallel import World
from talent_factory.training.texts import variants
from talent_factory.training.validation import HeldOut, gather_held_out, hold_out


@dataclass(frozen=True, eq=False)
class Material:
    """The images and texts of a run, and the lottery that picks among them."""

    banks: Mapping[Size, SizeBank]
    table: TextTable
    frozen_texts: TextRows
    """What the untouched text encoder says."""
    lottery: Lottery
    captions: tuple[str, ...]
    held_out: HeldOut | None
    """Images that are not trained on, for the validation loss."""
    held_out_files: tuple[str, ...]


def gather(
    base: Base,
    config: TrainConfig,
    items: Sequence[Item],
    *,
    dataset: Path,
    cache: Path,
    world: World,
    reporter: Reporter,
) -> Material:
    """Encode `items` of the dataset in `dataset` and all their texts; the base must be without adapters.

    Of several processes the first fills the cache, and the others read it. Raises DatasetError for masks
    that cannot be had and when nothing would be left to train on, TrainingBroken for mixed-up pairs.
    """
    aside = hold_out(items, config.validation, seed=config.seed)
    trained = [item for number, item in enumerate(items) if number not in aside]
    if not world.first:
        world.wait()
    sources = [Source(dataset / item.file, item.sha256) for item in trained]
    latents = encode_images(base, sources, mirrored=config.flip, cache=cache / "latents", reporter=reporter)
    masks = _masks(config, trained, latents, dataset=dataset, cache=cache, reporter=reporter)
    choices, preserved = _texts(config, trained), _preserved(base, config)
    spoken = [text for texts in choices for text in texts]
    table = TextTable([*spoken, *preserved, *(items[number].caption for number in aside)])
    lottery = _lottery(config, trained, latents, table, choices=choices, preserved=preserved)
    banks = build_banks(latents, masks, weights=_weights(config, trained), device=base.device)
    check_pairs(
        trained,
        lottery=lottery,
        banks=banks,
        table=table,
        keys=config.captions,
        cache=cache / "latents",
        vae_revision=base.vae_revision,
    )
    held_out = None
    if aside:
        place = cache / "latents"
        held_out = gather_held_out(
            base, items, aside, table=table, dataset=dataset, cache=place, reporter=reporter
        )
    if world.first:
        world.wait()
    return Material(
        banks=banks,
        table=table,
        frozen_texts=table.encoded(base),
        lottery=lottery,
        captions=tuple(item.caption for item in trained),
        held_out=held_out,
        held_out_files=tuple(items[number].file for number in aside),
    )


def _texts(config: TrainConfig, items: Sequence[Item]) -> list[tuple[str, ...]]:
    """What each caption may become."""
    return [
        variants(item.caption, config.captions, seed=config.seed, item=number)
        for number, item in enumerate(items)
    ]


def _preserved(base: Base, config: TrainConfig) -> tuple[str, ...]:
    """The prompts without token that hold the base in place."""
    return (config.prior_prompts or base.class_prompts) if config.preservation_batch else ()


def _lottery(
    config: TrainConfig,
    items: Sequence[Item],
    latents: LatentSet,
    table: TextTable,
    *,
    choices: Sequence[Sequence[str]],
    preserved: Sequence[str],
) -> Lottery:
    return Lottery(
        seed=config.seed,
        sizes=latents.sizes,
        repeats=tuple(item.repeats for item in items),
        batch=config.batch_size,
        texts=tuple(tuple(table.row(text) for text in texts) for texts in choices),
        flip=config.flip,
        caption_dropout=config.captions.dropout,
        classes=tuple(table.row(prompt) for prompt in preserved),
        class_batch=config.preservation_batch,
    )


def _masks(
    config: TrainConfig,
    items: Sequence[Item],
    latents: LatentSet,
    *,
    dataset: Path,
    cache: Path,
    reporter: Reporter,
) -> list[tuple[Tensor, Tensor]] | None:
    sources = [
        MaskSource(
            image=dataset / item.file,
            sha256=item.sha256,
            mask=None if item.mask is None else dataset / item.mask,
            size=size,
        )
        for item, size in zip(items, latents.sizes, strict=True)
    ]
    return loss_masks(sources, config.loss, cache=cache / "masks", reporter=reporter)


def _weights(config: TrainConfig, items: Sequence[Item]) -> list[float]:
    """How much each image counts: pictures of the class in general may count less."""
    return [config.regular_weight if item.regular else 1.0 for item in items]
