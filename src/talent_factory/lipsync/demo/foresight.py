"""What the demo will take, before it begins."""

from __future__ import annotations

from pathlib import Path

from talent_factory.core.errors import FileError
from talent_factory.core.plan import Plan, PlanStep
from talent_factory.lipsync.actor import read_card
from talent_factory.lipsync.demo.recipe import FULL, QUICK, Places, recipe

# Measured on two cores at 64 pixels, with room for other work on the machine.
_FRAMES_PER_SECOND = 250.0
_BYTES_PER_FRAME = 28_000
# frame and covered frame, 192 x 8 x 8 float32 each
_BYTES_OF_LATENTS = 99_000
_MB_OF_CHECKPOINTS = 165.0
_SPEAK_SECONDS, _SCORE_SECONDS = 15.0, 60.0
_TRAIN_SECONDS = 320.0


def demo_plan(root: Path, *, quick: bool) -> Plan:
    """The stages of a demo in `root` with time and disk; those that are done are marked."""
    places, size = Places(root=root), QUICK if quick else FULL
    config = recipe(places, size)
    trained_on = round(25 * size.clips * size.seconds)
    frames = trained_on + round(25 * size.unseen * size.unseen_seconds)
    share = (size.steps or config.train.max_train_steps) / recipe(places, FULL).train.max_train_steps
    try:
        trained = read_card(places.run).step >= config.train.max_train_steps
    except FileError:
        trained = False
    drawn = (places.unseen / "metadata.npz").is_file()
    little = size.unseen * size.unseen_seconds / (FULL.unseen * FULL.unseen_seconds)
    return Plan(
        title=f"talent lipsync demo in {root}",
        steps=(
            PlanStep(
                name="draw clips",
                detail=f"{size.clips} speakers to train on, {size.unseen} to score on",
                seconds=frames / _FRAMES_PER_SECOND,
                memory_mb=300,
                disk_mb=frames * _BYTES_PER_FRAME / 1e6,
                state="done" if drawn else "todo",
            ),
            PlanStep(
                name="train",
                detail=f"{config.train.max_train_steps} steps",
                seconds=_TRAIN_SECONDS * share,
                memory_mb=1500,
                disk_mb=trained_on * _BYTES_OF_LATENTS / 1e6 + _MB_OF_CHECKPOINTS,
                state="done" if trained else "todo",
            ),
            PlanStep(name="speak", detail="a portrait and a moving head", seconds=_SPEAK_SECONDS, disk_mb=1),
            PlanStep(name="score", detail="seven rows", seconds=_SCORE_SECONDS * little, memory_mb=1200),
        ),
    )
