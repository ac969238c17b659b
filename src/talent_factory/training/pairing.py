"""Prove before the first step that each caption lies beside the latents of its own image, by their hashes.

The dataset names each image by the sha256 of its bytes, and so does the cache of latents. What stands on the
device is compared with what the cache holds under the name of the item's image; texts are compared with the
variants of the item's caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from talent_factory.core.errors import TrainingBroken
from talent_factory.dataset.manifest import Item
from talent_factory.training.bank import SizeBank, TextTable
from talent_factory.training.draws import Lottery, Size
from talent_factory.training.latents import cache_key
from talent_factory.training.options import CaptionKeys
from talent_factory.training.texts import variants

# Beyond this many the check samples evenly: reading files again must not delay the first step.
MOST_IMAGES = 256


def check_pairs(
    items: Sequence[Item],
    *,
    lottery: Lottery,
    banks: Mapping[Size, SizeBank],
    table: TextTable,
    keys: CaptionKeys,
    cache: Path,
    vae_revision: str,
) -> int:
    """Compare what the lottery draws for each item with the item; returns how many images were compared.

    `cache` is the folder of encoded latents. Raises TrainingBroken for the first item whose latents are
    another image's or whose texts are another caption's.
    """
    stride = max(1, -(-len(items) // MOST_IMAGES))
    compared = 0
    for number, item in enumerate(items):
        _check_texts(number, item, lottery, table, keys)
        if number % stride:
            continue
        bank = banks[lottery.sizes[number]]
        place = bank.places[number]
        for flip in (False, True) if lottery.flip else (False,):
            stored = _stored(cache / f"{cache_key(item.sha256, vae_revision, flip=flip)}.safetensors")
            own = bank.mean[place + (bank.images if flip else 0)]
            if stored is not None and not torch.equal(own.cpu(), stored):
                raise _mixed_up(item, "the latents of another image")
            compared += stored is not None
    return compared


def _check_texts(number: int, item: Item, lottery: Lottery, table: TextTable, keys: CaptionKeys) -> None:
    allowed = set(variants(item.caption, keys, seed=lottery.seed, item=number))
    drawn = {table.texts[row] for row in lottery.texts[number]}
    if not drawn <= allowed:
        raise _mixed_up(item, f"the text {sorted(drawn - allowed)[0][:60]!r}")


def _stored(path: Path) -> Tensor | None:
    """The cached mean of an image; None when the cache was emptied in the meantime."""
    try:
        with safe_open(path, framework="pt") as opened:
            mean: Tensor = opened.get_tensor("mean")
            return mean
    except (OSError, SafetensorError):
        return None


def _mixed_up(item: Item, what: str) -> TrainingBroken:
    return TrainingBroken(
        f"{item.file} would be trained with {what}",
        remedy="delete the run's cache folder and begin anew: talent train CONFIG --fresh",
    )
