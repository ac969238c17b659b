"""What the network hears of a frame: the features around it, with positions; one rule for all who ask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talent_factory.core.errors import ClipError, ConfigError
from talent_factory.lipsync.records import STEPS, WIDTH


class AudioConditioner:
    """Turns features of frames into the tokens of a window: `left` frames before, the frame, `right` after.

    Training, validation and animation all import this class, so they cannot differ. Rows beyond the ends of a
    clip are zero; a row that a clip should have is never replaced. Tokens stand in the order of time, five
    levels a step; each has the sinusoid of its place added (Vaswani et al. 2017), which has no weights.
    """

    def __init__(self, left: int = 2, right: int = 2, extractor_id: str = "mel-1") -> None:
        if not (0 <= left <= 50 and 0 <= right <= 50):
            raise ConfigError(
                f"an audio window of {left} frames before and {right} after is not possible",
                remedy="use 0 to 50 for audio_length_left and audio_length_right",
            )
        self.left, self.right = left, right
        self.extractor_id = extractor_id

    @property
    def frames(self) -> int:
        """Frames in a window."""
        return self.left + 1 + self.right

    @property
    def count(self) -> int:
        """Tokens of a window."""
        return self.frames * STEPS

    def span(self, index: int, length: int) -> tuple[int, int]:
        """The rows (first, last exclusive) that frame `index` of a clip of `length` frames listens to."""
        return max(0, index - self.left), min(length, index + self.right + 1)

    def window(self, rows: NDArray[Any], *, first: int, index: int, length: int) -> NDArray[Any]:
        """The window of one frame, without positions: (frames, 10, 384) float32.

        `rows` are the features of frames `first`, `first + 1`, … of a clip of `length` frames; those of the
        `span` of `index` must be among them. Raises ClipError otherwise.
        """
        begin, end = self.span(index, length)
        if not 0 <= index < length or begin < first or end > first + len(rows):
            raise ClipError(
                f"frame {index} of {length} needs the audio of frames {begin} to {end}, "
                f"there are {first} to {first + len(rows)}",
                remedy="talent lipsync features makes the audio of every frame",
            )
        answer = np.zeros((self.frames, STEPS, WIDTH), np.float32)
        start = begin - (index - self.left)
        answer[start : start + end - begin] = rows[begin - first : end - first]
        return answer

    def embed(self, windows: NDArray[Any] | Tensor) -> Tensor:
        """Windows (B, frames, 10, 384) to tokens (B, frames·10, 384) float32, on the windows' device."""
        rows = torch.as_tensor(windows, dtype=torch.float32).reshape(-1, self.count, WIDTH)
        return rows + positions(self.count).to(rows.device)

    def own(self, tokens: Tensor) -> Tensor:
        """The features of the frames themselves, out of their tokens (B, N, 384): (B, 10, 384)."""
        rows = tokens - positions(self.count).to(tokens)
        return rows[:, self.left * STEPS : (self.left + 1) * STEPS]

    def tokens(self, features: NDArray[Any], indices: Sequence[int] | NDArray[Any]) -> Tensor:
        """The tokens of frames `indices` of a clip with `features` (T, 10, 384): (B, frames·10, 384)."""
        length = len(features)
        windows = [self.window(features, first=0, index=int(i), length=length) for i in indices]
        return self.embed(np.stack(windows) if windows else np.zeros((0, self.frames, STEPS, WIDTH)))


@cache
def positions(count: int) -> Tensor:
    """The sinusoids of places 0 to count-1: (count, 384) float32, sine and cosine in turn."""
    places = torch.arange(count, dtype=torch.float64)[:, None]
    rates = torch.exp(torch.arange(0, WIDTH, 2, dtype=torch.float64) * (-np.log(10_000.0) / WIDTH))
    answer = torch.empty(count, WIDTH, dtype=torch.float64)
    answer[:, 0::2] = torch.sin(places * rates)
    answer[:, 1::2] = torch.cos(places * rates)
    return answer.float()
