"""Jobs that nobody lists but anyone may poll by their id: those of an earlier run are brought home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from servers.bfl import KEY, FakeBfl
from talent_factory.datagen.ledger import LEDGER_FILE, Ledger
from talent_factory.datagen.order import Order, Terms
from talent_factory.datagen.window import make_images
from talent_factory.providers.bfl import BflEditor
from talent_factory.providers.port import EditRequest


@pytest.fixture
def server() -> Iterator[FakeBfl]:
    with FakeBfl() as server:
        yield server


@pytest.fixture
def order(tmp_path: Path) -> Order:
    portrait = tmp_path / "portrait.png"
    Image.effect_noise((64, 64), 50).convert("RGB").save(portrait)
    request = EditRequest(
        portrait=portrait, slot="one", medium="manga", prompt="manga", seed=1, long_side=128
    )
    return Order(key="one", request=request, path=tmp_path / "one.png")


def begin(order: Order, server: FakeBfl, *, answered: bool) -> None:
    """A run that ended after its submission: with the id in the ledger, or before it came."""
    editor = BflEditor(key=KEY, base_url=server.url)
    can = editor.capabilities()
    ledger = Ledger(order.path.parent / LEDGER_FILE, provider=editor.name, remote=True, max_seed=can.max_seed)
    attempt = ledger.intend(
        key=order.key, slot="one", seed=None, rung=0, price_usd=can.price_usd, budget_usd=None
    )
    request = order.request.model_copy(update={"seed": attempt.seed})
    attempt = ledger.sending(attempt, editor.payload(request))
    job = editor.submit(request)
    if answered:
        ledger.submitted(attempt, job)
    ledger.close()


def resume(order: Order, server: FakeBfl) -> tuple[str, str]:
    harvest = make_images(
        [order],
        folder=order.path.parent,
        editor=BflEditor(key=KEY, base_url=server.url),
        terms=Terms(time_scale=0.001),
    )
    return harvest.made[0].state, harvest.made[0].code


def test_a_job_whose_id_is_known_is_fetched_by_the_next_run(order: Order, server: FakeBfl) -> None:
    begin(order, server, answered=True)
    assert resume(order, server) == ("done", "")
    assert order.path.is_file()
    assert server.counts["submit"] == 1


def test_a_job_whose_id_never_came_is_lost_and_not_paid_again(order: Order, server: FakeBfl) -> None:
    begin(order, server, answered=False)
    assert resume(order, server) == ("failed", "LOST")
    assert server.counts["submit"] == 1
