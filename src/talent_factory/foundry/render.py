"""Render prompts with a mix of kits into PNG files that carry their recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from talent_factory import __version__
from talent_factory.core.errors import Cancelled, KitError
from talent_factory.core.events import Reporter
from talent_factory.core.files import write_bytes
from talent_factory.core.records import Record
from talent_factory.core.stop import StopSignal
from talent_factory.foundry.asked import PictureSize
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient
from talent_factory.foundry.recipe import Control, ControlUse, KitUse, RenderRecipe, encode_png, holds_recipe
from talent_factory.kits.words import file_stem
from talent_factory.training.resolve import resolve_base

if TYPE_CHECKING:
    from torch import Tensor

    from talent_factory.foundry.preview import Preview
    from talent_factory.training.families import Precision
    from talent_factory.training.families.port import Base
    from talent_factory.training.sampler import Hooks, Manner, Texts

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
    size: PictureSize | None = None
    batch: int = Field(default=4, ge=1, le=64)
    threads: int | None = Field(default=None, ge=1, le=1024)
    """Of the processor, as sums are shared out among them; None takes what torch would."""
    control: Control | None = None


def image_name(number: int) -> str:
    """The file name of the image that is rendered as number 1, 2, ..."""
    return f"{number:03d}.png"


@lru_cache(maxsize=1)
def open_base(name_or_path: str) -> Base:
    """The base, loaded once per process: mixes undo themselves, so it can be shared."""
    from talent_factory.training.devices import device_facts
    from talent_factory.training.families import load_base
    from talent_factory.training.machine import choose_device

    if name_or_path == "mini":
        # small enough for any processor, and its renders are the same bytes wherever there is no other choice
        return load_base("mini")
    found = resolve_base(name_or_path)
    device = choose_device("auto")
    # half precision where the device is made for it; SDXL in single precision takes 10 GB of main memory
    if device == "cuda":
        base = load_base(name_or_path, device=device, dtype="float16")
    else:
        halved = found.large and (found.family == "sdxl" or (device == "cpu" and device_facts("cpu").bf16))
        dtype: Precision = "bfloat16" if halved else "float32"
        base = load_base(name_or_path, device=device, dtype=dtype)
    if found.large and device != "cpu":
        base.park()
    return base


def render(
    base: Base,
    order: RenderOrder,
    *,
    mix: Mix,
    out: Path,
    reporter: Reporter,
    stop: StopSignal | None = None,
    preview: Preview | None = None,
) -> tuple[Path, ...]:
    """Render every shot with the kits of `mix` merged into `base`; returns the paths `out/NNN.png` in order.

    Images that are there already, by their recipe, are not drawn again. The base leaves this function bit for
    bit as it came. Raises KitError when a kit is for another base or revision, Cancelled when `stop` asks for
    it; finished images are kept then.
    """
    from talent_factory.training.sampler import draw

    _check_revision(base, mix)
    size = order.size or (base.resolution, base.resolution)
    recipes = _recipes(base, order, mix, size)
    paths = tuple(out / image_name(number) for number in range(1, len(recipes) + 1))
    batches = _batches(order)
    missing = [batch for batch in batches if not all(holds_recipe(paths[i], recipes[i]) for i in batch)]
    there = len(paths) - sum(len(batch) for batch in missing)
    telling = _Telling(reporter, stop, preview, order.steps, len(paths), out, images=there)
    if not missing:
        return paths
    with _threads(order.threads), _ready(base, order, mix, size) as (texts, hooks):
        for batch in missing:
            shots = [order.shots[index] for index in batch]
            images_BHWC = draw(
                texts,
                [shot.prompt for shot in shots],
                seeds=[shot.seed for shot in shots],
                manner=_manner(base, order, size),
                hooks=telling.hooks(base, hooks, len(batch)),
            )
            for index, image_HWC in zip(batch, images_BHWC, strict=True):
                write_bytes(paths[index], encode_png(image_HWC, recipes[index]))
                reporter.event("image", number=index + 1, path=str(paths[index]))
            telling.finished(len(batch))
    return paths


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """`count` threads for this while; None leaves them as they are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class _Telling:
    """Says how far the work is, shows previews, and hears whether to stop."""

    reporter: Reporter
    stop: StopSignal | None
    preview: Preview | None
    steps: int
    total: int
    out: Path
    images: int = 0

    def hooks(self, base: Base, weights: Hooks, batch: int) -> Hooks:
        """The sampler's hooks for one batch: those that bend the weights, with these listeners before."""

        def before_step(index: int, steps: int) -> None:
            if self.stop is not None and self.stop.requested:
                raise Cancelled(
                    f"stopped with {self.images} of {self.total} images in {self.out}",
                    remedy="run the same command again to go on",
                )
            self._progress(index * batch / steps)
            if weights.before_step is not None:
                weights.before_step(index, steps)

        def after_step(index: int, steps: int, latents_BCHW: Tensor) -> None:
            if (
                self.preview is not None
                and index + 1 < steps
                and self.preview.show(base, index, latents_BCHW)
            ):
                self.reporter.event("preview", path=str(self.preview.path), step=index + 1, steps=steps)

        return replace(weights, before_step=before_step, after_step=after_step)

    def finished(self, batch: int) -> None:
        """A batch is on the disk."""
        self.images += batch
        self._progress(0.0)

    def _progress(self, drawn: float) -> None:
        done = round((self.images + drawn) * self.steps)
        self.reporter.progress(
            "rendering", done, self.total * self.steps, note=f"{self.images}/{self.total} images"
        )


@contextmanager
def _ready(base: Base, order: RenderOrder, mix: Mix, size: tuple[int, int]) -> Iterator[tuple[Texts, Hooks]]:
    """Within this context the base draws with the mix, and nothing is worked out twice."""
    from talent_factory.foundry.merging import mixed
    from talent_factory.training.quick import quick
    from talent_factory.training.sampler import Hooks, Texts

    with mixed(base, mix) as mixture, quick(base):
        hooks = Hooks(before_step=None if mixture.steady else mixture.before_step)
        if order.control is None:
            yield Texts(base), hooks
            return
        from talent_factory.foundry.control import Steering

        steering = Steering(order.control, base, size=size)

        def before_step(index: int, steps: int) -> None:
            mixture.before_step(index, steps)
            steering.before_step(index, steps)

        yield Texts(base), Hooks(before_step=before_step, residuals=steering.residuals)


def _batches(order: RenderOrder) -> list[range]:
    count = len(order.shots)
    return [range(start, min(start + order.batch, count)) for start in range(0, count, order.batch)]


def _manner(base: Base, order: RenderOrder, size: tuple[int, int]) -> Manner:
    from talent_factory.training.sampler import Manner

    guidance = base.guidance if order.guidance is None else order.guidance
    return Manner(order.steps, guidance, order.negative, (size[1], size[0]))


def _recipes(base: Base, order: RenderOrder, mix: Mix, size: tuple[int, int]) -> list[RenderRecipe]:
    """What will stand in each image."""
    common = {
        "negative": order.negative,
        "steps": order.steps,
        "guidance": base.guidance if order.guidance is None else order.guidance,
        "sampler": SAMPLER,
        "width": size[0],
        "height": size[1],
        "base": Path(base.name).name,
        "base_revision": base.revision,
        "kits": tuple(_use(ingredient) for ingredient in mix.ingredients),
        "projection": mix.projection,
        "switch": mix.switch,
        "control": _control_use(order.control),
        "precision": str(base.dtype).removeprefix("torch."),
        "threads": order.threads,
        "version": __version__,
    }
    return [
        RenderRecipe(prompt=shot.prompt, seed=shot.seed, batch=len(batch), **common)
        for batch in _batches(order)
        for shot in order.shots[batch.start : batch.stop]
    ]


def _control_use(control: Control | None) -> ControlUse | None:
    if control is None:
        return None
    from talent_factory.foundry.control import use_of

    return use_of(control)


def _use(ingredient: Ingredient) -> KitUse:
    kit = ingredient.kit
    return KitUse(
        id=kit.id,
        sha256=kit.sha256,
        weight=ingredient.weight,
        name=file_stem(kit.manifest),
        tensors_sha256=_tensors_sha256(kit.weights, kit.sha256),
        blocks=ingredient.blocks,
        begin=ingredient.begin,
        end=ingredient.end,
    )


@lru_cache(maxsize=64)
def _tensors_sha256(weights: Path, sha256: str) -> str:
    """sha256 of the bytes behind the header; `sha256` of the whole file keeps the answers apart."""
    del sha256
    digest = hashlib.sha256()
    with open(weights, "rb") as stream:
        stream.seek(8 + int.from_bytes(stream.read(8), "little"))
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _check_revision(base: Base, mix: Mix) -> None:
    for kit in (ingredient.kit for ingredient in mix.ingredients):
        if kit.base_revision not in (None, base.revision):
            raise KitError(
                f"{kit.id} was trained on another base than {base.name}",
                remedy="name its own base with --base, or train the kit again",
            )
