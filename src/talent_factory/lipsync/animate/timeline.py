"""When: which sound and which source frame belong to each frame of a video of any rate."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

RATE = 16_000
HOP = 160
PHASES = 4
"""Features are made 25 times a second; other rates take them from sound shifted by a quarter of that."""
_ROW = HOP * PHASES
# the eye sees a frame until the next one comes, so its middle is the moment that the mouth should fit
_HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Moment:
    """The features that a frame listens to: row `row` of the sound from sample 160·`phase` on."""

    phase: int
    row: int


def frame_count(samples: int, rate: Fraction) -> int:
    """Frames that cover `samples` at 16 kHz."""
    return -int(-samples * rate // RATE)


def moment_of(index: int, rate: Fraction) -> Moment:
    """What frame `index` of a video of `rate` frames a second listens to; at 25 it is row `index` exactly.

    The middle of the frame falls into the middle of the row, to within 5 ms.
    """
    start = (index + _HALF) / rate * RATE - Fraction(_ROW, 2)
    hops = max(0, round(start / HOP))
    return Moment(phase=hops % PHASES, row=hops // PHASES)


def source_at(stamps: Sequence[float], time: float) -> int:
    """The frame that is seen at `time` seconds when frames begin at `stamps` (rising)."""
    return max(0, bisect_right(stamps, time) - 1)


def there_and_back(time: float, seconds: float) -> float:
    """`time` in a film of `seconds` that runs forward, then backward, and so on without a jump."""
    if seconds <= 0:
        return 0.0
    turns, rest = divmod(time, seconds)
    return rest if int(turns) % 2 == 0 else seconds - rest
