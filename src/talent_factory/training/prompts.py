"""Give text states to a step: from a table when the text encoder is frozen, live when it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from talent_factory.training.families.port import Base, TextStates, join_texts

PromptEncoder = Callable[[Sequence[str]], TextStates]

_CHUNK = 32


@torch.no_grad()
def encode_once(base: Base, texts: Sequence[str]) -> PromptEncoder:
    """Encode the different `texts` now and look them up later; asking for any other text is a KeyError.

    A caption that is dropped is the empty text, so the variants of a dataset are few and known.
    """
    unique = sorted(set(texts))
    rows = {text: row for row, text in enumerate(unique)}
    chunks = [unique[start : start + _CHUNK] for start in range(0, len(unique), _CHUNK)]
    table = join_texts([base.encode_prompts(chunk) for chunk in chunks])

    def look_up(prompts: Sequence[str]) -> TextStates:
        return table[[rows[prompt] for prompt in prompts]]

    return look_up
