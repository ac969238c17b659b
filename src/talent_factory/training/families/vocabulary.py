"""The tokenizer of CLIP, made from the vocabulary that ships with the package.

Single-file checkpoints carry no tokenizer, and all of SD 1.5 and SDXL use this one. The file is the list of
byte pair merges of openai/CLIP (MIT licence, see NOTICE).
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path
from typing import Any

from talent_factory.core.errors import BaseError

VOCABULARY = Path(__file__).resolve().parents[2] / "assets" / "clip" / "bpe_simple_vocab_16e6.txt.gz"

START, END = "<|startoftext|>", "<|endoftext|>"
SIZE = 49408
_MERGES = SIZE - 2 * 256 - 2


def clip_tokenizer(*, pad_token: str = END) -> Any:
    """A new tokenizer of CLIP: 77 tokens, 49,408 words; SDXL's second encoder is padded with "!".

    Raises BaseError when the package was installed without its vocabulary.
    """
    from transformers import CLIPTokenizer

    vocabulary, merges = _tables()
    return CLIPTokenizer(
        vocab=dict(vocabulary), merges=list(merges), model_max_length=77, pad_token=pad_token
    )


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """Word to number and the merges in their order."""
    try:
        lines = gzip.decompress(VOCABULARY.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError) as error:
        raise BaseError(f"the vocabulary of CLIP is missing in {VOCABULARY}", remedy="reinstall") from error
    # the first line is a title
    pairs = [line.split() for line in lines[1 : _MERGES + 1]]
    merges = tuple((first, second) for first, second in pairs)
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges), START, END]
    return {word: number for number, word in enumerate(words)}, merges


def _byte_letters() -> list[str]:
    """A visible letter for each of the 256 bytes, the bytes that are visible themselves first."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = 256 - len(visible)
    return [chr(byte) for byte in visible] + [chr(256 + number) for number in range(hidden)]
