"""Look after a training while it runs: do all layers learn, does clipping clip, is the loss a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from talent_factory.core.errors import TrainingDiverged
from talent_factory.core.events import Reporter
from talent_factory.training.guards import FLOW_STEPS, blame, check_clip, check_flow, kept_words
from talent_factory.training.spill import watch_card

if TYPE_CHECKING:
    from talent_factory.training.session import Session


class Supervisor:
    """Watches the steps of one process; what it finds stops the run or is said once."""

    def __init__(self, session: Session, *, reporter: Reporter) -> None:
        self._session = session
        self._reporter = reporter
        self._made = 0
        self._card = watch_card(session.base.device)

    def after(self, values: Mapping[str, float], step: int, *, newest: str) -> None:
        """Judge the figures of step `step` (0-based); `newest` is the last good checkpoint in words.

        Raises TrainingDiverged and TrainingBroken; nothing is set to zero and passed over.
        """
        self._require_finite(values, step, newest)
        self._made += 1
        engine, config = self._session.engine, self._session.config
        if self._made == 1 and engine.ring.length == 1 and engine.clipped is not None:
            check_clip(values["grad_norm"], float(engine.clipped), config.max_grad_norm)
        if self._made == FLOW_STEPS and engine.watch is not None:
            remark = check_flow(engine.watch)
            engine.watch = None  # a norm for each tensor is 4 % of a step of the embedded base
            if remark:
                self._reporter.message(remark)

    def after_several(self, steps: int) -> None:
        """Look at the card's memory after the figures of `steps` steps were fetched."""
        remark = None if self._card is None or not steps else self._card.note(steps)
        if remark:
            self._reporter.message(remark)

    def _require_finite(self, values: Mapping[str, float], step: int, newest: str) -> None:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if not wrong:
            return
        rate = self._session.config.learning_rate
        weights = {
            name: (layer.down.detach(), layer.up.detach())
            for network in self._session.adapters.networks
            for name, layer in network.named_layers()
        }
        where = blame(self._session.engine.watch, weights)
        raise TrainingDiverged(
            f"step {step + 1}: {wrong[0]} is {values[wrong[0]]}, {where}; {kept_words(newest)}",
            remedy=f"lower learning_rate (it is {rate:g}, try {rate / 3:.1g}) and begin anew: "
            "talent train CONFIG --fresh "
            "(a resume would fail at the same step)",
        )
