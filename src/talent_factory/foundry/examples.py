"""Draw what a kit shows of itself: its own prompts, with nothing but the kit, at its own weight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from talent_factory.core.events import Reporter
from talent_factory.core.stop import StopSignal
from talent_factory.foundry.render import Shot
from talent_factory.foundry.session import Session, prepare, shoot
from talent_factory.kits.refill import Refilled, refill_examples
from talent_factory.training.resolve import resolve_base

# What a kit packed by a training shows too.
EXAMPLES = 6


def example_session(
    talent_id: str, *, root: Path, base: str, count: int = EXAMPLES, seed: int = 0, steps: int = 20
) -> Session:
    """The session that draws `count` examples of the kit `root/<talent_id>`; loads no model.

    The kit's prompts come in turn, each round with the next seed. Raises UsageError, BaseError or KitError.
    """
    options = {"steps": steps}
    session = prepare([talent_id], root=root, base=base, prompts=(), seeds=[seed], options=options)
    prompts = [shot.prompt for shot in session.order.shots]
    shots = tuple(
        Shot(prompt=prompts[index % len(prompts)], seed=seed + index // len(prompts))
        for index in range(count)
    )
    # not copied but made, so that what a shot may not be is refused
    order = type(session.order).model_validate({**dict(session.order), "shots": shots})
    return replace(session, order=order)


def fill_examples(
    session: Session, *, out: Path, reporter: Reporter, stop: StopSignal | None = None
) -> Refilled:
    """Draw the session into `out` and put the images into its kit; raises as `shoot` and the kit do."""
    images, _ = shoot(session, out=out, reporter=reporter, stop=stop)
    kit = session.mix.ingredients[0].kit
    return refill_examples(kit.path, images, base_folder=resolve_base(session.base).kit_folder)
