"""One window for every provider: jobs in a queue, jobs polled at their own address, answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from servers import bfl, comfyui, fal, gemini, openai
from servers.loopback import Loopback
from talent_factory.datagen.order import Order, Terms
from talent_factory.datagen.window import make_images
from talent_factory.providers.catalog import make_editor
from talent_factory.providers.port import EditRequest

SERVERS = {
    "fal": (fal.FakeFal, fal.KEY),
    "bfl": (bfl.FakeBfl, bfl.KEY),
    "openai": (openai.FakeOpenAI, openai.KEY),
    "gemini": (gemini.FakeGemini, gemini.KEY),
    "comfyui": (comfyui.FakeComfyUI, None),
}
FLAGGED = {"fal": "policy", "bfl": "moderated-content", "openai": "moderation", "gemini": "safety"}
TERMS = Terms(in_flight=3, time_scale=0.001)


@pytest.fixture(params=sorted(SERVERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(name: str) -> Iterator[Loopback]:
    with SERVERS[name][0]() as server:
        yield server


@pytest.fixture
def orders(tmp_path: Path) -> list[Order]:
    portrait = tmp_path / "portrait.png"
    Image.effect_noise((64, 64), 50).convert("RGB").save(portrait)
    return [
        Order(
            key=f"k{n}",
            request=EditRequest(
                portrait=portrait, slot=f"s{n}", medium="manga", prompt=f"manga {n}", seed=n, long_side=128
            ),
            path=tmp_path / f"{n}.png",
        )
        for n in range(5)
    ]


def test_a_set_is_made_and_costs_what_was_said(
    name: str, server: Loopback, orders: list[Order], tmp_path: Path
) -> None:
    with closing(make_editor(name, key=SERVERS[name][1], base_url=server.url)) as editor:  # type: ignore[type-var]
        harvest = make_images(orders, folder=tmp_path, editor=editor, terms=TERMS)
        assert harvest.stopped is None
        assert [made.state for made in harvest.made] == ["done"] * 5
        assert harvest.spent_usd == pytest.approx(5 * editor.capabilities().price_usd)
    assert len({made.sha256 for made in harvest.made}) == 5


def test_a_busy_service_and_a_flagged_picture_do_not_stop_the_set(
    name: str, server: Loopback, orders: list[Order], tmp_path: Path
) -> None:
    if name == "comfyui":
        pytest.skip("a server of one's own neither throttles nor judges")
    server.busy_s = 0  # type: ignore[attr-defined]
    server.faults.plan("submit", "429", FLAGGED[name])  # type: ignore[attr-defined]
    with closing(make_editor(name, key=SERVERS[name][1], base_url=server.url)) as editor:  # type: ignore[type-var]
        harvest = make_images(orders, folder=tmp_path, editor=editor, terms=TERMS)
    assert harvest.stopped is None
    assert [made.state for made in harvest.made] == ["done"] * 5  # the flagged one with another seed
