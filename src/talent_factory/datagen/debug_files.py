"""Files for people who look closely: finished images, what was really sent for them, all on one sheet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from talent_factory.core.files import write_bytes, write_text
from talent_factory.datagen.delivery import jpeg
from talent_factory.datagen.ledger import LEDGER_FILE, Attempt, Ledger
from talent_factory.datagen.order import Order
from talent_factory.providers.port import ImageEditor

GRID_FILE = "training_data_grid.jpg"


def output_file(number: int) -> str:
    """The name of a finished image."""
    return f"training_data_output_{number}.jpg"


def payload_file(number: int) -> str:
    """The name of what was sent for an image."""
    return f"request_payload_{number}.json"


def write_image(folder: Path, name: str, picture: Path) -> None:
    """A copy of `picture` as a JPEG called `name`; one that has these bytes already is left alone."""
    write_if_new(folder / name, jpeg(picture))


def write_payload(folder: Path, number: int, sent: Mapping[str, object]) -> None:
    """What was sent, pictures as digests; no key is ever part of it."""
    text = json.dumps(sent, indent=2, sort_keys=True, ensure_ascii=False, default=str) + "\n"
    write_text(folder / payload_file(number), text)


def write_if_new(path: Path, data: bytes) -> None:
    """Write `data` unless it is there."""
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)


def read_attempts(folder: Path) -> tuple[Attempt, ...]:
    """All that the ledger in `folder` knows, oldest first; nothing where none is kept."""
    with _ledger(folder) as ledger:
        return ledger.everything() if ledger else ()


def spent_usd(folder: Path) -> float:
    """All that was ever spent or is reserved in `folder`, failed and lost attempts included."""
    with _ledger(folder) as ledger:
        return ledger.spent() / 1e6 if ledger else 0.0


@contextmanager
def _ledger(folder: Path) -> Iterator[Ledger | None]:
    if not (folder / LEDGER_FILE).is_file():
        yield None
        return
    ledger = Ledger(folder / LEDGER_FILE, provider="", remote=True)
    try:
        yield ledger
    finally:
        ledger.close()


def sent_for(
    orders: Iterable[tuple[int, Order]], *, folder: Path, editor: ImageEditor
) -> dict[int, Mapping[str, object]]:
    """By number, what was last sent for each order; for an editor on this machine what it was told."""
    attempts = read_attempts(folder)
    if not (folder / LEDGER_FILE).is_file():
        return {number: editor.payload(order.request) for number, order in orders}
    # those that were never sent have nothing to show; the attempt that made the image comes last
    last = {attempt.key: attempt.sent for attempt in attempts if attempt.sent}
    return {number: last[order.key] for number, order in orders if order.key in last}
