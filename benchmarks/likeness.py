"""Likeness of the demo's actor: `python benchmarks/likeness.py [--workspace demo] [--renders 96]`.

Renders the same prompts and seeds with the demo's kit and with the untrained base, and lets the attribute
probe read the signature (dots below the eyes, hair in two colours) and what the prompt asked for. Run
`make demo` first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from record import record

from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient, load_kit
from talent_factory.foundry.merging import mixed
from talent_factory.training.families import load_base
from talent_factory.training.likeness.drawn import asks, likeness
from talent_factory.training.mini.reader import load_probe
from talent_factory.training.sampler import sample


def main() -> None:
    """Render, read and keep the figures; leaves with 1 when one falls short of its target."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--workspace", type=Path, default=Path("demo"))
    parser.add_argument("--kit", default="avatar.identity.dot_kairo")
    parser.add_argument("--subject", default="a dot_kairo man")
    parser.add_argument("--renders", type=int, default=96)
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, help="what suits the base if unset")
    options = parser.parse_args()
    base, probe = load_base("mini"), load_probe()
    kit = load_kit(options.workspace / "talents" / "avatar", options.kit)
    asked = asks(options.renders, seed=11)
    prompts = [ask.prompt(options.subject) for ask in asked]
    seeds = list(range(12_000, 12_000 + len(prompts)))
    drawing = {"steps": options.steps, "guidance": options.guidance or base.guidance, "batch": 16}
    untrained = likeness(probe, sample(base, prompts=prompts, seeds=seeds, **drawing), asked)
    with mixed(base, Mix(ingredients=(Ingredient(kit=kit, weight=options.weight),))):
        trained = likeness(probe, sample(base, prompts=prompts, seeds=seeds, **drawing), asked)
    held = trained.marks >= 0.8 and untrained.marks <= 0.2 and trained.obeyed >= 0.75
    record(
        "likeness",
        {
            "kit": trained.model_dump(),
            "base": untrained.model_dump(),
            "targets": {"kit marks": ">= 0.80", "base marks": "<= 0.20", "kit obeyed": ">= 0.75"},
            "held": held,
        },
    )
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main()
