"""Renders are a function of their recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient, Kit
from talent_factory.foundry.recipe import read_recipe
from talent_factory.foundry.render import RenderOrder, Shot, render
from talent_factory.foundry.session import prepare, shoot
from talent_factory.training.families.port import Base

QUIET = SilentReporter()


def order(*prompts: str, seeds: tuple[int, ...] = (1, 2), batch: int = 4) -> RenderOrder:
    shots = tuple(Shot(prompt=prompt, seed=seed) for prompt in prompts or ("ink portrait",) for seed in seeds)
    return RenderOrder(shots=shots, steps=3, guidance=2.0, batch=batch)


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int16)


def test_the_same_order_gives_the_same_bytes(base: Base, identity: Kit, tmp_path: Path) -> None:
    use = Mix(ingredients=(Ingredient(kit=identity, weight=0.7),))
    once = render(base, order(), mix=use, out=tmp_path / "a", reporter=QUIET)
    again = render(base, order(), mix=use, out=tmp_path / "b", reporter=QUIET)
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]
    assert [path.name for path in once] == ["001.png", "002.png"]


def test_every_png_tells_how_it_was_made(base: Base, identity: Kit, style: Kit, tmp_path: Path) -> None:
    use = Mix(ingredients=(Ingredient(kit=identity, weight=0.7), Ingredient(kit=style, weight=0.2)))
    paths = render(base, order("a", "b"), mix=use, out=tmp_path, reporter=QUIET)
    recipes = [read_recipe(path) for path in paths]
    assert [(r.prompt, r.seed) for r in recipes] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert recipes[0].base_revision == base.revision
    assert [(kit.sha256, kit.weight) for kit in recipes[0].kits] == [
        (identity.sha256, 0.7),
        (style.sha256, 0.2),
    ]


def test_kits_and_seeds_change_the_picture(base: Base, identity: Kit, tmp_path: Path) -> None:
    plain = render(base, order(), mix=Mix(), out=tmp_path / "a", reporter=QUIET)
    strong = Mix(ingredients=(Ingredient(kit=identity, weight=2.0),))
    with_kit = render(base, order(), mix=strong, out=tmp_path / "b", reporter=QUIET)
    assert not np.array_equal(pixels(plain[0]), pixels(with_kit[0]))
    assert not np.array_equal(pixels(plain[0]), pixels(plain[1]))


def test_an_image_hardly_notices_its_neighbours(base: Base, tmp_path: Path) -> None:
    together = render(base, order(seeds=(1, 2, 3)), mix=Mix(), out=tmp_path / "a", reporter=QUIET)
    alone = render(base, order(seeds=(3,), batch=1), mix=Mix(), out=tmp_path / "b", reporter=QUIET)
    assert np.abs(pixels(together[2]) - pixels(alone[0])).max() <= 2


def test_a_kit_of_another_base_is_refused(base: Base, identity: Kit, tmp_path: Path) -> None:
    assert identity.manifest.metadata is not None
    metadata = identity.manifest.metadata.model_copy(update={"base_revision": "0" * 64})
    manifest = identity.manifest.model_copy(update={"metadata": metadata})
    stranger = Ingredient(kit=identity.model_copy(update={"manifest": manifest}), weight=1)
    with pytest.raises(KitError, match="another base"):
        render(base, order(), mix=Mix(ingredients=(stranger,)), out=tmp_path, reporter=QUIET)


def test_sizes_are_multiples_of_eight(
    base: Base, talents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = order(seeds=(1,)).model_copy(update={"size": (48, 32)})
    (path,) = render(base, wide, mix=Mix(), out=tmp_path, reporter=QUIET)
    assert pixels(path).shape == (32, 48, 3)
    # refused before the base, which takes minutes when it is a large one, is loaded
    monkeypatch.setattr("talent_factory.training.families.load_base", None)
    for size in ((30, 32), (32, 4104), (0, 32)):
        with pytest.raises(UsageError, match=f"{size[0]}x{size[1]} is not possible"):
            prepare((), root=talents, base="mini", prompts=("a",), seeds=(1,), options={"size": size})


def test_a_session_takes_the_kits_prompts_and_lays_a_sheet(
    base_folder: Path, talents: Path, identity: Kit, tmp_path: Path
) -> None:
    options = {"steps": 2, "guidance": 1.0}
    session = prepare(
        [f"{identity.id}:0.5"], root=talents, base=str(base_folder), prompts=(), seeds=(4,), options=options
    )
    assert [shot.prompt for shot in session.order.shots] == list(identity.prompts.positive_prompts)
    images, sheet = shoot(session, out=tmp_path, reporter=QUIET)
    assert len(images) == 2
    assert pixels(sheet).ndim == 3
    other = prepare(
        [identity.id], root=talents, base=str(base_folder), prompts=(), seeds=(4,), options=options
    )
    assert session.key != other.key


def test_a_session_without_anything_to_draw_is_refused(talents: Path) -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        prepare((), root=talents, base="mini", prompts=(), seeds=(1,), options={})


def test_a_session_names_the_missing_base(talents: Path, base_folder: Path, identity: Kit) -> None:
    with pytest.raises(KitError):
        prepare([identity.id], root=talents, base="mini", prompts=(), seeds=(1,), options={})


@pytest.mark.parametrize(("prompt", "seed"), [("", 1), ("word " * 500, 1), ("a woman", 2**63)])
def test_what_cannot_be_drawn_is_told_in_one_line(prompt: str, seed: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"shots\.0") as caught:
        prepare((), root=tmp_path, base="mini", prompts=(prompt,), seeds=(seed,), options={})
    assert caught.value.remedy == "talent render --help"


def test_renders_replace_renders_and_nothing_else(base_folder: Path, tmp_path: Path) -> None:
    session = prepare(
        (), root=tmp_path, base=str(base_folder), prompts=("a",), seeds=(1,), options={"steps": 1}
    )
    for name in ("001.png", "sheet.png"):
        mine = tmp_path / name
        Image.new("RGB", (8, 8)).save(mine)
        before = mine.read_bytes()
        with pytest.raises(UsageError, match=f"{name} is no render"):
            shoot(session, out=tmp_path, reporter=QUIET)
        assert mine.read_bytes() == before
        mine.unlink()
    assert shoot(session, out=tmp_path, reporter=QUIET) == shoot(session, out=tmp_path, reporter=QUIET)
    with pytest.raises(UsageError, match="is a file"):
        shoot(session, out=tmp_path / "001.png", reporter=QUIET)
