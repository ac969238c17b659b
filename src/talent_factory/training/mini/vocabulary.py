"""The tokenizer of the embedded base: CLIP's byte-pair scheme, its small vocabulary learnt from our words.

The form is CLIP's: a lower-cased text is split into words, the last byte of a word carries `</w>`, and
merges join pairs in the order they were learnt. Every word of the drawn world becomes one token; any other
text falls back to smaller pieces, down to bytes, so no prompt is refused.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from transformers import CLIPTokenizer

from talent_factory.world import palette

START, END = "<|startoftext|>", "<|endoftext|>"
_GRAMMAR = (
    "portrait of a an the close up full body hair skin shirt eyes background bald and in with on at style"
)
_TRADE = (
    "pen ink graphite charcoal woodcut mono vector manga comic flat watercolor gouache photo photograph "
    "drawing painting picture print rain night street subway garage alley window light silhouette rooftop "
    "person character mythical robotic anthropomorphic mecha anime line soft dark bright cinematic face "
    "wearing looking standing walking holding scene shot wide warm cold"
)


def words() -> list[str]:
    """Every word that has a token of its own, sorted."""
    named: list[str] = [*_GRAMMAR.split(), *_TRADE.split()]
    for table in (palette.CLOTH, palette.HAIR, palette.SKIN, palette.EYES, palette.PLAIN_BACKGROUNDS):
        named += table
    for names in (
        palette.KINDS,
        palette.HAIRCUTS,
        palette.ACCESSORIES,
        palette.MOODS,
        palette.SCENES,
        palette.MEDIA,
    ):
        named += names
    return sorted(set(named))


def byte_letters() -> list[str]:
    """The 256 printable letters that stand for bytes (the table of GPT-2 and CLIP), in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def learn_merges(corpus: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges (Sennrich et al. 2016) until every word of `corpus` is one piece.

    Ties go to the pair that sorts first, so that the result depends on nothing but the words.
    """
    pieces = [[*word[:-1], word[-1] + "</w>"] for word in corpus]
    merges: list[tuple[str, str]] = []
    while any(len(word) > 1 for word in pieces):
        counts = Counter(pair for word in pieces for pair in pairwise(word))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        pieces = [_joined(word, best) for word in pieces]
    return merges


def _joined(word: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    index = 0
    while index < len(word):
        if index + 1 < len(word) and (word[index], word[index + 1]) == pair:
            out.append(word[index] + word[index + 1])
            index += 2
        else:
            out.append(word[index])
            index += 1
    return out


def make_tokenizer(*, length: int) -> CLIPTokenizer:
    """A `CLIPTokenizer` over our words; texts are cut and padded to `length` tokens."""
    letters = byte_letters()
    merges = learn_merges(words())
    entries = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *("".join(pair) for pair in merges),
        START,
        END,
    ]
    unique = list(dict.fromkeys(entries))
    vocabulary = {piece: number for number, piece in enumerate(unique)}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        model_max_length=length,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )
