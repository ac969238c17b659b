"""Find a learning rate by trying: train a copy for a few dozen steps while the rate climbs, and look."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from talent_factory.core.errors import ConfigError, TalentError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.records import Record
from talent_factory.training import loop, runs
from talent_factory.training.config import TrainConfig
from talent_factory.training.machine import reproducible
from talent_factory.training.optimizers import set_rate
from talent_factory.training.parallel import World
from talent_factory.training.session import Session, set_up
from talent_factory.training.stepdown import execution_of
from talent_factory.training.validation import HeldOut, validation_loss

_PICTURES = 4
# A loss that has grown by half is past all good rates: the rest of the climb would only cost time.
_LOST = 1.5
# A rise by more than this share is a turn. What falls after it falls by chance, on ruined weights.
_TURN = 0.02
_MARGIN = 0.1
# A smaller fall of the loss than this share is no sign of learning.
_LEAST_FALL = 1e-3


class RateSearch(Record):
    """What a climb of the learning rate showed; `losses` has one more entry, that before the first step."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    """A tenth of `lowest`: what a few steps bear is too much for a thousand."""
    lowest: float
    """The rate at which the loss was lowest before it turned upwards for the first time."""


def find_rate(
    config: TrainConfig,
    *,
    dataset: Path,
    cache: Path,
    steps: int = 40,
    between: tuple[float, float] = (1e-5, 1e-1),
    reporter: Reporter | None = None,
) -> RateSearch:
    """Climb from the lower to the upper rate of `between` in `steps` steps and suggest one (Smith 2015).

    The source is arXiv:1506.01186, section 3.3. There the loss of each step is read; here that of a few
    training images at noise that stays the same, since the loss of a diffusion model swings far more with the
    noise than with the rate. Nothing is kept but encoded images in `cache`.

    Raises ConfigError for prodigy, TalentError when the loss falls at no rate, and what `train` raises.
    """
    if config.optimizer.name == "prodigy":
        raise ConfigError("prodigy finds its rate itself", remedy="write learning_rate: 1 and train")
    quiet = {"sample_every": 0, "tensorboard": False, "wandb": None, "max_train_steps": steps}
    listener = reporter or SilentReporter()
    with tempfile.TemporaryDirectory(prefix="talent-rate-") as name:
        run = Path(name) / "run"
        loop.begin_or_check(config.model_copy(update=quiet), dataset=dataset, run=run, cache=cache)
        record = runs.read_run(run)
        with reproducible(record.machine.threads):
            session = set_up(
                record, run, execution=execution_of(record.config), world=World(), reporter=listener
            )
            try:
                return _climb(session, _ladder(*between, steps), listener)
            finally:
                session.adapters.detach()


def suggest(rates: Sequence[float], losses: Sequence[float]) -> RateSearch:
    """Read a climb: `losses[0]` is the loss before any step, `losses[i + 1]` that after one at `rates[i]`.

    Raises TalentError when the loss fell nowhere.
    """
    lowest = 0
    for place, loss in enumerate(losses):
        if not loss <= losses[lowest] * (1.0 + _TURN):  # also a loss that is no number
            break
        if loss < losses[lowest]:
            lowest = place
    if lowest == 0 or losses[lowest] > losses[0] * (1.0 - _LEAST_FALL):
        raise TalentError(
            f"the loss falls at no rate from {rates[0]:.0e} to {rates[-1]:.0e}",
            remedy="begin lower: talent train lr-find CONFIG --from 1e-8; or look at images and captions",
        )
    best = rates[lowest - 1]
    whole = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    return RateSearch(
        rates=tuple(rates[: whole - 1]),
        losses=tuple(losses[:whole]),
        suggestion=float(f"{best * _MARGIN:.1e}"),
        lowest=best,
    )


def _ladder(low: float, high: float, steps: int) -> tuple[float, ...]:
    """`steps` rates from `low` to `high`, each the same factor above the one before."""
    return tuple(low * (high / low) ** (number / (steps - 1)) for number in range(steps))


def _climb(session: Session, rates: Sequence[float], reporter: Reporter) -> RateSearch:
    pictures = _pictures(session)
    losses = [_loss(session, pictures)]
    for number, rate in enumerate(rates):
        share = rate / session.config.learning_rate
        set_rate(session.optimizer, [vector.rate * share for vector in session.adapters.flat.vectors])
        session.engine.step(number)
        if session.engine.ring.full:
            session.engine.ring.drain()
        losses.append(_loss(session, pictures))
        reporter.progress("rate", number + 1, len(rates), note=f"{rate:.1e}: loss {losses[-1]:.4f}")
        if not losses[-1] < _LOST * losses[0]:
            break
    return suggest(rates[: len(losses) - 1], losses)


def _pictures(session: Session) -> HeldOut:
    """A few training images, spread over the set."""
    banks, lottery = session.engine.goal.banks, session.engine.windows.lottery
    count = min(_PICTURES, len(lottery.sizes))
    numbers = tuple(place * len(lottery.sizes) // count for place in range(count))
    found = [banks[lottery.sizes[number]] for number in numbers]
    return HeldOut(
        items=numbers,
        latents=tuple(bank.mean[bank.places[number]] for bank, number in zip(found, numbers, strict=True)),
        texts=tuple(lottery.texts[number][0] for number in numbers),
    )


def _loss(session: Session, pictures: HeldOut) -> float:
    goal = session.engine.goal
    with session.shipping():
        return validation_loss(
            session.base,
            pictures,
            goal.texts,
            alphas_cumprod=goal.alphas_cumprod,
            seed=session.config.seed,
            batch=session.config.batch_size,
        )[0]
