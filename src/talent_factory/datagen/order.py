"""What the window is given and what it gives back: images that are wanted, images that were made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from talent_factory.core.errors import TalentError
from talent_factory.core.records import Record
from talent_factory.providers.port import EditRequest


@dataclass(frozen=True, slots=True)
class Order:
    """One image that is wanted at `path` (a PNG). `key` names all that decides it but the seed of an attempt;
    `request.seed` serves where seeds need not be fresh. `facts` are written into the image. One that is not
    `wanted` is only collected, never asked for.
    """

    key: str
    request: EditRequest
    path: Path
    facts: Mapping[str, object] = field(default_factory=dict)
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an order. "left" is one that was not begun or not collected before the run ended."""

    order: Order
    state: Literal["done", "failed", "left"]
    sha256: str = ""
    width: int = 0
    height: int = 0
    seed: int = 0
    job: str = ""
    cost_usd: float = 0.0
    url: str = ""
    code: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished image on its way to a delivery: the provider's own bytes, the PNG on the disk, and what was
    sent for it (pictures as digests).
    """

    key: str
    path: Path
    raw: bytes
    sha256: str
    seed: int
    sent: Mapping[str, object]


Deliver = Callable[[Picture], str]
"""Brings a finished image somewhere else and returns its address; called from several threads, and perhaps
again for the same image, so it must not mind. A failure never makes an image anew."""


class Terms(Record):
    """How a run goes about its work: nothing here changes a picture.

    `budget_usd` bounds all that the folder's ledger has ever spent. `pay_again` lets go of images that were
    paid perhaps and lost, and of those skipped by the safety filter. `time_scale` is for servers whose time
    runs faster than ours.
    """

    in_flight: int = Field(default=5, ge=1, le=64)
    budget_usd: float | None = Field(default=None, ge=0)
    pay_again: bool = False
    time_scale: float = Field(default=1.0, gt=0)


@dataclass(frozen=True, slots=True)
class Harvest:
    """All that a run brought, in the order of the orders; `stopped` is why it ended early, if it did."""

    made: tuple[Made, ...]
    spent_usd: float
    stopped: TalentError | None = None
