"""What a mix costs over one kit: `python benchmarks/mixing.py [--case mini] [--case sd15-512]`.

Two random kits of every layer, rank 16. Each way of mixing is rendered from kit files to pictures, weights
merged and taken out again, in turns with the single kit; the best of `--rounds` counts. Beside it stands what
merging alone takes, for a render of 20 steps: a full-size model is drawn with fewer, since its step is what
it is.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from record import record
from train_speed import make_base

from talent_factory.core.events import SilentReporter
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient, load_kit
from talent_factory.foundry.merging import mixed
from talent_factory.foundry.render import RenderOrder, Shot, render
from talent_factory.kits.keys import expected_modules
from talent_factory.kits.lora_file import lora_bytes
from talent_factory.kits.manifest import PromptSet
from talent_factory.kits.pack import KitSpec, pack_kit
from talent_factory.training.families import Base, load_base

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
            cheap = ways["sum"]["cost_of_a_full_render"] <= 0.02
            held &= cheap
            told = {"targets": {"sum: cost of a full render": "<= 0.02"}, "held": cheap, "ways": ways}
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

    def drawing(mix: Mix) -> None:
        with tempfile.TemporaryDirectory(dir=work) as out:
            render(base, order, mix=mix, out=Path(out), reporter=SilentReporter())

    def merging(mix: Mix) -> None:
        with mixed(base, mix) as mixture:
            for _ in range(0, case.images, case.batch):
                for index in range(FULL_STEPS):
                    mixture.before_step(index, FULL_STEPS)

    drawing(ways["single"])
    drawn = in_turns(ways, drawing, rounds)
    merged = in_turns(ways, merging, rounds)
    whole = (drawn["single"] - merged["single"]) * FULL_STEPS / case.steps + merged["single"]
    return {
        name: {
            "render_seconds": round(drawn[name], 4),
            "merge_seconds": round(merged[name], 4),
            "over_single": round(drawn[name] / drawn["single"] - 1, 4),
            "cost_of_a_full_render": round((merged[name] - merged["single"]) / whole, 4),
        }
        for name in ways
    }


def in_turns(ways: dict[str, Mix], work: Callable[[Mix], None], rounds: int) -> dict[str, float]:
    """The best time of each way; all take turns, so that a busy machine is busy for all."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, mix in ways.items():
            begun = time.perf_counter()
            work(mix)
            best[name] = min(best.get(name, float("inf")), time.perf_counter() - begun)
    return best


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
