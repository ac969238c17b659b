"""What a mix costs over one kit: `python benchmarks/mixing.py [--case mini] [--case sd15-512]`.

Two random kits of every layer, rank 16. Each way of mixing is rendered from kit files to pictures, weights
merged and taken out again, in turns with the single kit; the best of `--rounds` counts. Inside each render it
is told apart what kits bring: merging, weights laid out for the processor, the text's keys and values. A
full-size model is drawn with fewer steps than 20; what one more step takes and brings is known by then.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
from record import record
from train_speed import make_base

from talent_factory.core.events import SilentReporter
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient, load_kit
from talent_factory.foundry.merging import Mixture
from talent_factory.foundry.render import RenderOrder, Shot, render
from talent_factory.kits.keys import expected_modules
from talent_factory.kits.lora_file import lora_bytes
from talent_factory.kits.manifest import PromptSet
from talent_factory.kits.pack import KitSpec, pack_kit
from talent_factory.training import cpu
from talent_factory.training.families import Base, load_base
from talent_factory.training.quick import DrawingAttention

RANK = 16
FULL_STEPS = 20


@dataclass(frozen=True)
class Case:
    """One base, as it is rendered."""

    base: str
    precision: Any
    steps: int
    images: int
    batch: int


CASES = {
    "mini": Case("mini", "float32", 20, 16, 4),
    "sd15-512": Case("sd15", "bfloat16", 4, 1, 1),
}


@dataclass
class Watch:
    """Reads the clock at each step of a render, and sums up what kits bring before it and in each."""

    brought: list[float] = field(default_factory=lambda: [0.0])
    begun: list[float] = field(default_factory=lambda: [time.perf_counter()])

    def step(self) -> None:
        """A step begins, or a batch is done."""
        self.brought.append(0.0)
        self.begun.append(time.perf_counter())

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, with its time taken as brought by the kits."""

        def timed(*given: Any) -> Any:
            begun = time.perf_counter()
            try:
                return work(*given)
            finally:
                self.brought[-1] += time.perf_counter() - begun

        return timed

    def drawn(self, steps: int) -> Drawn:
        """What the render took; of the steps, the first two and the one that ends in decoding are special."""
        seconds = time.perf_counter() - self.begun[0]
        usual = slice(3, steps)
        lasts = [end - begin for begin, end in zip(self.begun[usual], self.begun[4 : steps + 1], strict=True)]
        return Drawn(seconds, sum(self.brought), median(lasts), median(self.brought[usual]))


@dataclass(frozen=True)
class Drawn:
    """Seconds of a render, of what kits brought to it, of one more step and of what is brought to that."""

    seconds: float
    brought: float
    step: float
    step_brought: float

    def best(self, other: Drawn) -> Drawn:
        """The least of each."""
        return Drawn(*(min(pair) for pair in zip(astuple(self), astuple(other), strict=True)))


class Listener(SilentReporter):
    """A render says how far it is before each step."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def progress(self, *_: Any, **__: Any) -> None:
        """Told to the watch."""
        self._watch.step()


def main() -> None:
    """Measure the cases that were asked for and keep each in its own file of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=sorted(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    held = True
    with tempfile.TemporaryDirectory(prefix="mixing-") as work:
        for name in options.case or list(CASES):
            ways = measure(CASES[name], Path(work), rounds=options.rounds)
            cheap = all(way["cost_of_a_full_render"] <= 0.02 for way in ways.values())
            held &= cheap
            told = {"targets": {"each way: cost of a full render": "<= 0.02"}, "held": cheap, "ways": ways}
            record(f"mixing_{name.replace('-', '_')}", told)
    raise SystemExit(0 if held else 1)


def measure(case: Case, work: Path, *, rounds: int) -> dict[str, Any]:
    """Seconds of each way, and what it adds to a render with one kit."""
    folder = make_base(work, case.base)
    base = load_base("mini" if case.base == "mini" else str(folder), dtype=case.precision)
    one, two = (make_kit(work / "kits", folder, base, name, seed) for seed, name in enumerate(("one", "two")))
    ways = {
        "single": Mix(ingredients=(one,)),
        "sum": Mix(ingredients=(one, two)),
        "projection": Mix(ingredients=(one, two), projection=0.5),
        "steps": Mix(ingredients=(one, two.model_copy(update={"begin": 0.3}))),
        "switch": Mix(ingredients=(one, two), switch=True),
    }
    shots = tuple(Shot(prompt="portrait of a woman", seed=seed) for seed in range(case.images))
    order = RenderOrder(shots=shots, steps=case.steps, batch=case.batch)
    draw(base, order, ways["single"], work)
    best: dict[str, Drawn] = {}
    for _ in range(rounds):
        for name, mix in ways.items():
            drawn = draw(base, order, mix, work)
            best[name] = drawn.best(best.get(name, drawn))
    more = FULL_STEPS - case.steps
    single = best["single"]
    whole = single.seconds + more * single.step
    alone = single.brought + more * single.step_brought
    return {
        name: {
            "render_seconds": round(drawn.seconds, 4),
            "brought_seconds": round(drawn.brought, 4),
            "brought_seconds_a_step": round(drawn.step_brought, 5),
            "over_single": round(drawn.seconds / single.seconds - 1, 4),
            "cost_of_a_full_render": round((drawn.brought + more * drawn.step_brought - alone) / whole, 4),
        }
        for name, drawn in best.items()
    }


def draw(base: Base, order: RenderOrder, mix: Mix, work: Path) -> Drawn:
    """Render once, with the watch around all that follows from the kits' weights."""
    watch = Watch()
    with tempfile.TemporaryDirectory(dir=work) as out, ExitStack() as stack:
        for owner, name in (
            *((Mixture, name) for name in ("__init__", "put_in", "before_step", "take_out")),
            (cpu, "_laid_out"),
            (DrawingAttention, "_remembered"),
        ):
            timed = watch.around(getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, timed))
        render(base, order, mix=mix, out=Path(out), reporter=Listener(watch))
    return watch.drawn(order.steps)


def make_kit(root: Path, folder: Path, base: Base, name: str, seed: int) -> Ingredient:
    """A kit of small random weights in every layer, an identity the first and a style the second."""
    kind = "style" if seed else "identity"
    talent_id, foreign = f"avatar.{kind}.{name}", None if base.family == "mini" else folder
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for module, shape in expected_modules(foreign or "mini").items():
        arrays[f"{module}.lora_down.weight"] = rng.normal(0, 0.01, shape.down(RANK)).astype(np.float32)
        arrays[f"{module}.lora_up.weight"] = rng.normal(0, 0.01, shape.up(RANK)).astype(np.float32)
        arrays[f"{module}.alpha"] = np.array(float(RANK), np.float32)
    root.mkdir(parents=True, exist_ok=True)
    lora = root / f"{name}.safetensors"
    lora.write_bytes(lora_bytes(arrays, precision="fp16", words={}))
    spec = KitSpec(
        id=talent_id,
        base_model=base.name if foreign is None else folder.name,
        rank=RANK,
        alpha=float(RANK),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        token=name,
        prompts=PromptSet(positive_prompts=("portrait",)),
    )
    place = root / base.family
    pack_kit(spec, lora=lora, examples=(), root=place, base_folder=foreign)
    return Ingredient(kit=load_kit(place, talent_id, base_folder=foreign), weight=0.8)


if __name__ == "__main__":
    main()
