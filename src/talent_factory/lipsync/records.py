"""What a dataset of clips says of itself, and what one training sample is."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from talent_factory.core.records import Record

FRAME_RATE = 25.0
"""Frames a second of every dataset; video of other rates is brought to it by its time stamps."""
STEPS = 10
"""Audio steps in the file of one frame: two at 50 a second, five levels each."""
WIDTH = 384
"""Numbers in one audio step."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
ClipName = Annotated[str, Field(pattern=_NAME)]
FrameName = Annotated[str, Field(pattern=_NAME)]


def is_clip_name(text: object) -> bool:
    """Whether a clip may be called so."""
    return isinstance(text, str) and re.fullmatch(_NAME, text) is not None


class Clip(Record):
    """One clip: its folder's name and its frames in order, without file endings."""

    name: ClipName
    frames: tuple[FrameName, ...]


class Metadata(Record):
    """The clips of a dataset, as `metadata.npz` keeps them.

    `extractor` is the id of what made the audio files (None where a foreign file does not say), `image_size`
    the pixels a side of the frames where known. Clips stand in the order of the file; an index into `clips`
    is what plans and sources mean by "clip".
    """

    format_version: Literal[1] = 1
    extractor: str | None = None
    frame_rate: float = FRAME_RATE
    image_size: int | None = None
    clips: tuple[Clip, ...]


class Draw(Record):
    """One training sample: which frame is to be made, from which reference, with what done to its audio.

    `sample` is the global index that the draw is a pure function of (with the plan's seed). `silent` replaces
    the audio by silence and the target by a frame of low energy (`target`), so that silence closes the mouth;
    `dropped` zeroes the audio alone.
    """

    sample: int = Field(ge=0)
    clip: int = Field(ge=0)
    target: int = Field(ge=0)
    reference: int = Field(ge=0)
    silent: bool = False
    dropped: bool = False
