"""A render can be watched, stopped and gone on with; what is finished is never drawn again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from talent_factory.core.errors import Cancelled
from talent_factory.core.stop import StopSignal
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.preview import Preview, latent_colours, small_images
from talent_factory.foundry.render import RenderOrder, Shot, render
from talent_factory.foundry.session import prepare, shoot
from talent_factory.training.families import load_base
from talent_factory.training.families.port import Base

ORDER = RenderOrder(
    shots=tuple(Shot(prompt="ink portrait", seed=seed) for seed in range(5)), steps=4, guidance=2.0, batch=2
)


class Listener:
    """Keeps what it hears; asks to stop once `after` steps were told."""

    def __init__(self, after: int = 10**9) -> None:
        self.stop = StopSignal()
        self.told: list[tuple[int, int]] = []
        self.events: list[tuple[str, dict[str, object]]] = []
        self._after = after

    def event(self, kind: str, **fields: object) -> None:
        self.events.append((kind, fields))

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        self.told.append((done, total))
        if len(self.told) == self._after:
            self.stop.request()

    def message(self, text: str) -> None:
        raise AssertionError(text)

    @property
    def images(self) -> list[object]:
        return [fields["number"] for kind, fields in self.events if kind == "image"]


def bytes_of(paths: tuple[Path, ...]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


def test_a_stopped_render_goes_on_where_it_was(base: Base, tmp_path: Path) -> None:
    whole = Listener()
    wanted = bytes_of(render(base, ORDER, mix=Mix(), out=tmp_path / "whole", reporter=whole))
    assert whole.images == [1, 2, 3, 4, 5]
    # in the second batch, between two steps
    first = Listener(after=7)
    with pytest.raises(Cancelled, match="stopped with 2 of 5 images"):
        render(base, ORDER, mix=Mix(), out=tmp_path / "cut", reporter=first, stop=first.stop)
    assert first.images == [1, 2]
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["001.png", "002.png"]
    second = Listener()
    found = bytes_of(render(base, ORDER, mix=Mix(), out=tmp_path / "cut", reporter=second))
    assert second.images == [3, 4, 5]
    assert found == wanted


def test_other_renders_are_drawn_over(base: Base, tmp_path: Path) -> None:
    render(base, ORDER, mix=Mix(), out=tmp_path, reporter=Listener())
    other = ORDER.model_copy(update={"steps": 3})
    again = Listener()
    render(base, other, mix=Mix(), out=tmp_path, reporter=again)
    assert again.images == [1, 2, 3, 4, 5]
    (tmp_path / "003.png").write_bytes((tmp_path / "003.png").read_bytes()[:-30])
    mended = Listener()
    render(base, other, mix=Mix(), out=tmp_path, reporter=mended)
    # an image hardly depends on its neighbour, but a bit may: its batch is drawn as a whole
    assert mended.images == [3, 4]


def test_progress_counts_steps_up_to_the_end(base: Base, tmp_path: Path) -> None:
    heard = Listener()
    render(base, ORDER, mix=Mix(), out=tmp_path, reporter=heard)
    done = [at for at, _ in heard.told]
    assert done == sorted(done)
    assert heard.told[-1] == (20, 20)
    assert len(set(done)) > 10


def test_a_preview_shows_each_batch_and_goes(base_folder: Path, tmp_path: Path) -> None:
    session = prepare(
        (), root=tmp_path, base=str(base_folder), prompts=("a",), seeds=(1, 2), options={"steps": 5}
    )
    seen: list[tuple[int, int]] = []

    class Looking(Listener):
        def event(self, kind: str, **fields: object) -> None:
            super().event(kind, **fields)
            if kind == "preview":
                with Image.open(str(fields["path"])) as picture:
                    seen.append(picture.size)

    heard = Looking()
    shoot(session, out=tmp_path / "out", reporter=heard, preview=2)
    assert seen == [(512, 256), (512, 256)]
    assert not (tmp_path / "out" / "preview.png").exists()


def test_a_preview_has_the_colours_of_the_picture() -> None:
    base = load_base("mini")
    rng = np.random.default_rng(0)
    flat = rng.uniform(-0.9, 0.9, (4, 3)).astype(np.float32)
    pictures = torch.from_numpy(np.broadcast_to(flat[:, :, None, None], (4, 3, 64, 64)).copy())
    latents, _ = base.encode_images(pictures)
    shown = small_images(latents, latent_colours(base)).astype(np.float32) / 127.5 - 1.0
    assert shown.shape == (4, 8, 8, 3)
    # the middle of a patch of one colour, whatever the borders do
    assert np.abs(shown[:, 2:6, 2:6].mean(axis=(1, 2)) - flat).mean() < 0.2


def test_previews_come_every_so_many_steps(base: Base, tmp_path: Path) -> None:
    live = Preview(tmp_path / "preview.png", every=3)
    latents = torch.zeros(1, 4, 4, 4)
    assert [live.show(base, index, latents) for index in range(6)] == [False, False, True, False, False, True]
    live.done()
    live.done()
