"""One image from intent to a finished job: every line may be the last one, so the ledger is always ahead."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from talent_factory.core.errors import (
    Cancelled,
    ContentFlagged,
    DiskFull,
    PolicyRefused,
    ProviderBusy,
    ProviderRefused,
    ProviderUnreachable,
    SubmitUnknown,
    TalentError,
)
from talent_factory.datagen.gate import Gate, Left
from talent_factory.datagen.ledger import Attempt, Ledger, Taken
from talent_factory.datagen.order import Order, Terms
from talent_factory.datagen.retry import SOFTENED, GaveUp, next_rung, soften
from talent_factory.providers.port import Capabilities, EditRequest, ImageEditor, JobStatus

# What ends a run wherever it happens; the rest is the fault of one image.
STOPS = (DiskFull, PolicyRefused, ProviderRefused, Cancelled)
UNCOLLECTED, LOST = "UNCOLLECTED", "LOST"
_PATIENCE = 8
_CLOCK_MARGIN = timedelta(minutes=5)
_FIRST_LOOK_S = 1.0
_OLD_SETTLES = 10

Answer = TypeVar("Answer")


class Pursuit:
    """Brings orders to where their image can be fetched; one instance serves all threads of a run."""

    def __init__(self, editor: ImageEditor, ledger: Ledger, gate: Gate, terms: Terms) -> None:
        self._editor, self._ledger, self._gate, self._terms = editor, ledger, gate, terms
        self._can = editor.capabilities()
        self._remote = is_remote(self._can)
        self._pace = gate.pace

    def reach(self, order: Order) -> Attempt:
        """An attempt at `order` whose image can be fetched, or is. The caller holds a place in the window.

        Raises GaveUp when the image is not to be had, Left when the run ends first.
        """
        attempt = self._ledger.live(order.key) or self._collectable(order)
        if attempt is not None and attempt.state in ("intent", "unknown", "submitted"):
            self._check_reach(attempt)
        while True:
            if attempt is None or attempt.state == "planned":
                attempt = self._submit(order, attempt)
            elif attempt.state in ("intent", "unknown"):
                attempt = self._reconcile(attempt)
            elif attempt.state == "fetched" or self._wait(attempt):
                return attempt
            else:
                attempt = None

    def _collectable(self, order: Order) -> Attempt | None:
        """A finished attempt whose image has gone from the disk: it is fetched again, not paid again."""
        if not (self._can.recoverable or self._can.resumable):
            return None
        done = [past for past in self._ledger.attempts(order.key) if past.state == "done" and past.job]
        return self._ledger.reopen(done[-1]) if done else None

    def _check_reach(self, attempt: Attempt) -> None:
        """A job of an earlier process is lost where the provider answers only to the one that asked."""
        kept = self._can.recoverable or (self._can.resumable and attempt.state == "submitted")
        if attempt.run != self._ledger.run and not kept:
            raise self.lose(attempt, "the run that asked for it ended, and this provider keeps no jobs")

    def _submit(self, order: Order, attempt: Attempt | None) -> Attempt | None:
        self._gate.check()
        if not order.wanted:
            raise GaveUp("nobody wants it any more")
        attempt = self._intend(order, attempt)
        request = self._request(order, attempt)
        epoch = self._gate.epoch
        try:
            if self._remote:
                attempt = self._ledger.sending(attempt, self._editor.payload(request))
            job = self._editor.submit(request)
        except ProviderBusy as error:
            attempt = self._ledger.release(attempt)
            self._gate.busy(error.retry_after_s, since=epoch)
            self._gate.step_back()
            return attempt
        except ProviderUnreachable as error:
            attempt = self._ledger.release(attempt)
            self._gate.unreachable(error, since=epoch)
            self._gate.step_back()
            return attempt
        except SubmitUnknown as error:
            return self._unanswered(attempt, error)
        except ContentFlagged as error:
            self._fail(attempt, JobStatus(state="failed", message=error.message, flagged=True, billed=False))
            return None
        except TalentError as error:
            self._ledger.failed(attempt, message=error.message, billed=False)
            self._refuse(error)
        except Exception as error:
            # nobody knows how far it came: elsewhere the job may exist
            if self._remote:
                return self._unanswered(attempt, error)
            self._ledger.failed(attempt, message=describe(error), billed=False)
            raise GaveUp(describe(error)) from error
        self._gate.reached()
        return self._adopt(attempt, job)

    def _intend(self, order: Order, attempt: Attempt | None) -> Attempt:
        budget = self._terms.budget_usd
        try:
            if attempt is not None:
                return self._ledger.renew(attempt, budget_usd=budget)
            rung = next_rung(self._ledger.attempts(order.key), run=self._ledger.run)
            return self._ledger.intend(
                key=order.key,
                slot=order.request.slot,
                seed=None if self._remote else order.request.seed,
                rung=rung,
                price_usd=self._can.price_usd,
                budget_usd=budget,
            )
        except STOPS as error:
            self._gate.close(error)
            raise Left from None

    def _request(self, order: Order, attempt: Attempt) -> EditRequest:
        changes: dict[str, object] = {"seed": attempt.seed}
        if attempt.rung >= SOFTENED:
            changes["prompt"] = soften(order.request.prompt)
        return order.request.model_copy(update=changes)

    def _unanswered(self, attempt: Attempt, error: Exception) -> Attempt:
        attempt = self._ledger.unknown(attempt, describe(error))
        self._gate.failure("unanswered", describe(error))
        return attempt

    def _adopt(self, attempt: Attempt, job: str) -> Attempt | None:
        try:
            return self._ledger.submitted(attempt, job)
        except Taken:
            self._ledger.failed(attempt, message=f"the provider gave the id {job[:60]} twice", code="TAKEN")
            return None

    def _refuse(self, error: TalentError) -> None:
        if isinstance(error, STOPS):
            self._gate.close(error)
        raise GaveUp(error.message) from error

    def _reconcile(self, attempt: Attempt) -> Attempt | None:
        """Look for a job whose submission was not answered; None when it surely never came to be."""
        if not self._can.recoverable:
            raise self.lose(attempt, "its submission was cut off, and this provider keeps no list of jobs")
        first, looks, wait = time.time(), 0, _FIRST_LOOK_S
        since = datetime.fromtimestamp(attempt.intent_at, UTC) - _CLOCK_MARGIN
        while True:
            job = self.patiently(lambda: self._editor.find(attempt.seed, since=since), attempt)
            looks += 1
            if job is not None:
                return self._adopt(attempt, job)
            now = time.time()
            age, settle = now - attempt.intent_at, self._pace.real(self._pace.settle_s)
            # a long-past submission needs no patience, but one look may have met a lagging list
            if now - first >= settle or (age >= _OLD_SETTLES * settle and looks > 1):
                if self._can.result_ttl_s is not None and age > self._can.result_ttl_s:
                    raise self.lose(attempt, "too old for the provider to say whether it was made")
                self._ledger.absent(attempt)
                return None
            self._gate.pause(self._pace.real(wait))
            wait = min(15.0, wait * 2)

    def _wait(self, attempt: Attempt) -> bool:
        """Whether the job of `attempt` ended with an image; a failure is written down."""
        pause = 0.01
        if self._remote and time.time() - attempt.intent_at < self._pace.real(self._pace.first_poll_s):
            self._gate.pause(self._pace.real(self._pace.first_poll_s))
        until = attempt.intent_at + self._pace.real(self._pace.job_limit_s)
        while True:
            status = self.patiently(lambda: self._status(attempt), attempt)
            if status.state == "succeeded":
                return True
            if status.state in ("failed", "cancelled"):
                self._fail(attempt, status)
                return False
            if time.time() > until:
                return self._give_up_waiting(attempt)
            self._gate.pause(self._pace.next_poll() if self._remote else pause)
            pause = min(2.0, pause * 1.5)

    def _give_up_waiting(self, attempt: Attempt) -> bool:
        """Too long: cancel it, unless it was finished in this very moment."""
        self.patiently(lambda: self._editor.cancel(attempt.job), attempt)
        status = self.patiently(lambda: self._status(attempt), attempt)
        if status.state == "succeeded":
            return True
        minutes = self._pace.job_limit_s / 60
        self._fail(
            attempt, JobStatus(state="failed", code="TIMEOUT", message=f"not ready in {minutes:.0f} minutes")
        )
        return False

    def _status(self, attempt: Attempt) -> JobStatus:
        try:
            return self._editor.poll(attempt.job)
        except ContentFlagged as error:
            return JobStatus(state="failed", message=error.message, flagged=True)

    def patiently(
        self, ask: Callable[[], Answer], attempt: Attempt, *, raises: type[Exception] | None = None
    ) -> Answer:
        """What `ask` answers, asked again after faults of the way: the job of `attempt` is paid already.

        Raises GaveUp when the provider does not answer for long, Left when the run ends; of the errors only
        those that `raises` names.
        """
        failures = 0
        while True:
            try:
                return ask()
            except ProviderBusy as error:
                self._gate.pause(error.retry_after_s)
            except STOPS as error:
                self._gate.close(error)
                raise Left from None
            except Exception as error:
                if raises is not None and isinstance(error, raises):
                    raise
                failures += 1
                if not self._remote:
                    self._ledger.failed(attempt, message=describe(error), billed=False)
                    raise GaveUp(describe(error)) from error
                if failures >= _PATIENCE:
                    raise GaveUp(
                        f"made or under way, but out of reach: {describe(error)}", code=UNCOLLECTED
                    ) from error
                self._gate.pause(self._pace.backoff(failures))

    def _fail(self, attempt: Attempt, status: JobStatus) -> None:
        self._ledger.failed(
            attempt,
            message=status.message or f"job {attempt.job} {status.state}",
            code=status.code,
            flagged=status.flagged,
            transient=status.transient,
            billed=status.billed,
        )
        self._gate.failure(status.code or status.state, status.message)
        if status.transient:
            self._gate.pause(self._pace.backoff(2))

    def lose(self, attempt: Attempt, why: str) -> GaveUp:
        """Write down that the image is out of reach for good; returns the error to raise."""
        self._ledger.lost(attempt, why)
        return GaveUp(f"paid perhaps and lost: {why}; --pay-again makes it anew", code=LOST)


def is_remote(can: Capabilities) -> bool:
    """Whether jobs live elsewhere or cost money, so that the ledger must lie on the disk."""
    return can.network or can.recoverable or can.resumable


def describe(error: BaseException) -> str:
    """What a user should read of an error."""
    return error.message if isinstance(error, TalentError) else f"{type(error).__name__}: {error}"
