"""What a caption may become in training: finitely many texts, so that each is encoded once and looked up."""

from __future__ import annotations

import random

from talent_factory.core.seeds import derive_seed
from talent_factory.training.options import CaptionKeys


def variants(caption: str, keys: CaptionKeys, *, seed: int, item: int) -> tuple[str, ...]:
    """The texts that the caption of image `item` may become, each as likely as the others; repeats are meant.

    One, the caption itself, unless tags are shuffled or dropped; else `keys.variants`, the k-th a pure
    function of (seed, item, k). Tags are what commas separate; the first `keys.keep_tokens` are neither moved
    nor dropped. A whole caption that is dropped (`keys.dropout`) is the empty text, chosen in the step.
    """
    if not keys.varies:
        return (caption,)
    tags = [clean for tag in caption.split(",") if (clean := " ".join(tag.split()))]
    kept, loose = tags[: keys.keep_tokens], tags[keys.keep_tokens :]
    return tuple(
        _variant(kept, loose, keys, derive_seed(seed, "caption", item, k)) for k in range(keys.variants)
    )


def _variant(kept: list[str], loose: list[str], keys: CaptionKeys, seed: int) -> str:
    # only random() is promised to give the same numbers in every version of Python
    draw = random.Random(seed).random
    staying = [tag for tag in loose if draw() >= keys.tag_dropout]
    if keys.shuffle:
        staying = [tag for _, tag in sorted((draw(), tag) for tag in staying)]
    return ", ".join([*kept, *staying])
