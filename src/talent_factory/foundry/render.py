"""Render prompts with a mix of kits into PNG files that carry their recipe."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from talent_factory import __version__
from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.events import Reporter
from talent_factory.core.files import write_bytes
from talent_factory.core.records import Record
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient
from talent_factory.foundry.recipe import KitUse, RenderRecipe, encode_png
from talent_factory.training.resolve import resolve_base

if TYPE_CHECKING:
    from talent_factory.training.families import Precision
    from talent_factory.training.families.port import Base

SAMPLER = "DPM++ 2M"


class Shot(Record):
    """One image to render."""

    prompt: str = Field(min_length=1, max_length=2000)
    seed: int = Field(ge=0, lt=2**63)


class RenderOrder(Record):
    """Images to render in one go; `size` is (width, height) in pixels, the base's own when None.

    The start noise of an image depends on its seed alone. In a batch of another size the sums of floats are
    grouped differently, which may move a channel by a level: `batch` is thus part of the recipe, and equal
    recipes give equal bytes on one machine.
    """

    shots: tuple[Shot, ...] = Field(min_length=1, max_length=10_000)
    negative: str = ""
    steps: int = Field(default=20, ge=1, le=500)
    guidance: float | None = Field(default=None, ge=0, le=50)
    """None takes the base's own."""
    size: tuple[int, int] | None = None
    batch: int = Field(default=4, ge=1, le=64)


def image_name(number: int) -> str:
    """The file name of the image that is rendered as number 1, 2, ..."""
    return f"{number:03d}.png"


@lru_cache(maxsize=1)
def open_base(name_or_path: str) -> Base:
    """The base, loaded once per process: mixes undo themselves, so it can be shared."""
    from talent_factory.training.families import load_base
    from talent_factory.training.machine import choose_device

    if name_or_path == "mini":
        # small enough for any processor, and its renders are the same bytes wherever there is no other choice
        return load_base("mini")
    found = resolve_base(name_or_path)
    device = choose_device("auto")
    # half precision where cards are made for it; SDXL in single precision takes 10 GB of main memory
    if device == "cuda":
        base = load_base(name_or_path, device=device, dtype="float16")
    else:
        dtype: Precision = "bfloat16" if found.family == "sdxl" and found.large else "float32"
        base = load_base(name_or_path, device=device, dtype=dtype)
    if found.large and device != "cpu":
        base.park()
    return base


def render(base: Base, order: RenderOrder, *, mix: Mix, out: Path, reporter: Reporter) -> tuple[Path, ...]:
    """Render every shot with the kits of `mix` merged into `base`; returns the paths `out/NNN.png` in order.

    The base leaves this function bit for bit as it came. Raises KitError when a kit is for another base or
    revision, UsageError when a size is no multiple of 8.
    """
    from talent_factory.foundry.mix import mixed
    from talent_factory.training.sampler import sample

    _check_revision(base, mix)
    width, height = order.size or (base.resolution, base.resolution)
    if width % 8 or height % 8 or not (8 <= width <= 4096 and 8 <= height <= 4096):
        raise UsageError(f"size {width}x{height} is not possible", remedy="use multiples of 8 up to 4096")
    paths: list[Path] = []
    with mixed(base, mix) as mixture:
        for start in range(0, len(order.shots), order.batch):
            shots = order.shots[start : start + order.batch]
            images_BHWC = sample(
                base,
                prompts=[shot.prompt for shot in shots],
                negative=order.negative,
                seeds=[shot.seed for shot in shots],
                steps=order.steps,
                guidance=_guidance(base, order),
                size=(height, width),
                batch=order.batch,
                before_step=mixture.before_step,
            )
            for shot, image_HWC in zip(shots, images_BHWC, strict=True):
                recipe = _recipe(base, order, shot, mix, (width, height), len(shots))
                path = out / image_name(len(paths) + 1)
                write_bytes(path, encode_png(image_HWC, recipe))
                paths.append(path)
            reporter.progress("rendering", len(paths), len(order.shots), unit="image")
    return tuple(paths)


def _recipe(
    base: Base,
    order: RenderOrder,
    shot: Shot,
    mix: Mix,
    size: tuple[int, int],
    batch: int,
) -> RenderRecipe:
    return RenderRecipe(
        prompt=shot.prompt,
        negative=order.negative,
        seed=shot.seed,
        steps=order.steps,
        guidance=_guidance(base, order),
        sampler=SAMPLER,
        width=size[0],
        height=size[1],
        base=Path(base.name).name,
        base_revision=base.revision,
        kits=tuple(_use(ingredient) for ingredient in mix.ingredients),
        projection=mix.projection,
        switch=mix.switch,
        batch=batch,
        version=__version__,
    )


def _use(ingredient: Ingredient) -> KitUse:
    kit = ingredient.kit
    plain = {"blocks": ingredient.blocks, "begin": ingredient.begin, "end": ingredient.end}
    return KitUse(id=kit.id, sha256=kit.sha256, weight=ingredient.weight, **plain)


def _guidance(base: Base, order: RenderOrder) -> float:
    return base.guidance if order.guidance is None else order.guidance


def _check_revision(base: Base, mix: Mix) -> None:
    for kit in (ingredient.kit for ingredient in mix.ingredients):
        if kit.base_revision not in (None, base.revision):
            raise KitError(
                f"{kit.id} was trained on another base than {base.name}",
                remedy="name its own base with --base, or train the kit again",
            )
