"""A training whose clips are far away, when their place goes down in the middle and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lip_clips import make_clips
from lip_training import small_config, train_in_parts
from servers.loopback import Exchange, Loopback
from talent_factory.core.errors import Cancelled, ClipError
from talent_factory.core.events import SilentReporter
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.train.folders import TENSORS, newest_state
from talent_factory.lipsync.train.run import train

CLIPS = (90, 90)


@dataclass
class Place:
    """Serves a folder until `pictures` pictures were asked for, then only says that it is overloaded."""

    root: Path
    pictures: float = float("inf")
    lost: set[str] = field(default_factory=set)

    def __call__(self, exchange: Exchange) -> None:
        name = exchange.path.lstrip("/")
        path = self.root / name
        self.pictures -= name.endswith(".png")
        if self.pictures < 0:
            exchange.send(503, b"", "text/plain")
        elif not path.is_file() or name in self.lost:
            exchange.send(404, b"", "text/plain")
        else:
            body = b"" if exchange.method == "HEAD" else path.read_bytes()
            exchange.send(200, body, "application/octet-stream", {"ETag": '"v1"'})


class StopWhenWaiting(SilentReporter):
    """Asks the training to stop as soon as it waits for the place."""

    def __init__(self) -> None:
        self.stop = StopSignal()
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        """Keep it, and ask."""
        self.lines.append(text)
        if "waiting for up to" in text:
            self.stop.request()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Place, str]]:
    make_clips(tmp_path / "clips", CLIPS)
    served = Place(tmp_path / "clips")
    with Loopback(served) as server:
        yield served, server.url


def test_a_stop_while_the_place_is_down_keeps_what_is_done(place: tuple[Place, str], tmp_path: Path) -> None:
    served, url = place
    # no checkpoint but the last one: what is kept is kept because of the stop
    calm = {"validation_steps": 0, "silence": 0, "mouth_reference": 0, "latent_cache": False}
    train(small_config(served.root, tmp_path / "near", **calm))
    far = {"local_data_base_url": None, "s3_data_base_url": url, "metadata_url": f"{url}/metadata.npz"}
    config = small_config(served.root, tmp_path / "far", **far, **calm, look_ahead=1)
    told = StopWhenWaiting()
    served.pictures = 20
    with pytest.raises(Cancelled) as caught:
        train(config, reporter=told, stop=told.stop)
    assert "same command" in caught.value.remedy
    kept = newest_state(tmp_path / "far")
    assert kept is not None
    assert 0 < 6 * kept.record.step + kept.record.samples < 24
    served.pictures = float("inf")
    train_in_parts(config)
    one, other = (tmp_path / name / "checkpoint-4" / TENSORS for name in ("near", "far"))
    assert one.read_bytes() == other.read_bytes()


def test_a_file_that_the_place_lacks_is_named(place: tuple[Place, str], tmp_path: Path) -> None:
    served, url = place
    served.lost = {"audio/HDTF-0001/000020.npy"}
    config = small_config(
        served.root, tmp_path / "run", local_data_base_url=None, s3_data_base_url=url, metadata_url=None
    )
    with pytest.raises(ClipError, match=r"000020\.npy"):
        train(config)
