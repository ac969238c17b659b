"""Which clips are trained on and which are kept aside, so that figures are of speakers never seen."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from talent_factory.core.errors import ConfigError
from talent_factory.core.seeds import derive_seed
from talent_factory.lipsync.records import Draw, Metadata

# A frame with no other one far from it cannot have a reference.
LEAST_FRAMES = 2
_NUMBERED = re.compile(r"(.+?)[-_]+[0-9]+")
# Datasets that number the clips of many speakers under one name.
_MANY = ("synth", "hdtf")


@dataclass(frozen=True)
class Split:
    """Indices of clips of the metadata, in its order."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def split_clips(metadata: Metadata, wanted: float | Sequence[str], *, seed: int) -> Split:
    """Keep a share of the clips aside, chosen by their names alone, or those that are named.

    A share keeps all clips of one speaker (`speakers_of`) on one side. It is never exceeded, unless every
    speaker has more clips than that: then the one with the fewest is kept aside. `HDTF-0001` and `HDTF_0001`
    are one name. Raises ConfigError for a name that no clip has, and when nothing
    is left to train on.
    """
    usable = [number for number, clip in enumerate(metadata.clips) if len(clip.frames) >= LEAST_FRAMES]
    if isinstance(wanted, float | int):
        aside = _share(metadata, usable, wanted, seed=seed)
    else:
        by_name = {_plain(clip.name): number for number, clip in enumerate(metadata.clips)}
        missing = [name for name in wanted if _plain(name) not in by_name]
        if missing:
            raise ConfigError(
                f"validation_clips names {missing[0]}, which the metadata does not hold",
                remedy="write names of clips, or a share such as 0.05",
            )
        aside = {by_name[_plain(name)] for name in wanted}
    train = tuple(number for number in usable if number not in aside)
    if not train:
        raise ConfigError(
            f"no clip is left to train on: {len(metadata.clips)} in the metadata, {len(aside)} kept aside, "
            f"each needs {LEAST_FRAMES} frames",
            remedy="add clips, or lower validation_clips",
        )
    return Split(train=train, held_out=tuple(number for number in usable if number in aside))


def speakers_of(names: Sequence[str]) -> list[str]:
    """Whose each clip is, as far as names tell.

    A name with a number at its end (`VIDEO-0001`, as preprocess writes, or `WRA_Speaker_000`) is of whom the
    rest names. Where all clips have the same rest, or it is that of a dataset of many (`SYNTH`, `HDTF`), it
    tells nothing, and each clip counts as a speaker.
    """
    plain = [_plain(name) for name in names]
    stems = [found[1] if (found := _NUMBERED.fullmatch(name)) else name for name in plain]
    if len(set(stems)) == 1:
        return plain
    return [name if stem in _MANY else stem for name, stem in zip(plain, stems, strict=True)]


def _share(metadata: Metadata, usable: Sequence[int], wanted: float, *, seed: int) -> set[int]:
    if wanted >= 1:
        return set(usable)
    groups: dict[str, list[int]] = defaultdict(list)
    for number, speaker in zip(
        usable, speakers_of([metadata.clips[number].name for number in usable]), strict=True
    ):
        groups[speaker].append(number)
    order = sorted(groups, key=lambda speaker: derive_seed("held out", seed, speaker))
    # one speaker alone is trained on; of two or more at least one is kept aside when any is wanted
    room = min(math.ceil(len(usable) * wanted), max(0, len(usable) - 1))
    if len(groups) < 2 or room == 0:
        return set()
    aside: set[int] = set()
    for speaker in order:
        if len(aside) + len(groups[speaker]) <= room:
            aside.update(groups[speaker])
    return aside or set(groups[min(order, key=lambda speaker: len(groups[speaker]))])


def validation_draws(
    metadata: Metadata, held_out: Sequence[int], count: int, *, frames: int, far: int
) -> list[Draw]:
    """`count` samples spread evenly over the held-out clips and their time, in runs of `frames`.

    The reference lies half a clip away: another moment, as different as the clip has it. They do not depend
    on any seed, so that two runs are measured on the same frames.
    """
    draws: list[Draw] = []
    if not held_out:
        return draws
    runs = max(1, count // frames)
    for number in range(runs):
        clip = held_out[number % len(held_out)]
        length = len(metadata.clips[clip].frames)
        turn, turns = number // len(held_out), -(-runs // len(held_out))
        start = min(int((turn + 0.5) * length / turns), max(0, length - frames))
        for target in range(start, min(start + frames, length)):
            reference = (target + max(length // 2, min(far + 1, length - 1))) % length
            draws.append(Draw(sample=len(draws), clip=clip, target=target, reference=reference))
    return draws


def _plain(name: str) -> str:
    return name.replace("_", "-").casefold()
