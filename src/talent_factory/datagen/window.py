"""The sliding window: orders in, images out, a few jobs in flight at a time, nothing ever paid twice.

Each place in the window is a thread that submits and waits; the moment a job is finished its place is free,
while other threads fetch (images are not kept for ever) and others encode, write and hand on. What they pass
to each other are ids, never pictures: those wait in the ledger, with all else that must survive a kill.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from talent_factory.core.errors import TalentError
from talent_factory.core.stop import StopSignal
from talent_factory.datagen.collect import Collector
from talent_factory.datagen.gate import Gate, Left
from talent_factory.datagen.ledger import LEDGER_FILE, Attempt, Ledger
from talent_factory.datagen.order import Deliver, Harvest, Made, Order, Terms
from talent_factory.datagen.pursuit import LOST, STOPS, UNCOLLECTED, Pursuit, is_remote
from talent_factory.datagen.retry import GaveUp, Pace
from talent_factory.providers.port import EditRequest, ImageEditor

SPARE = "spare"
_FETCHERS = 8
_COLLECTORS = 3
_LEAVE_S = 10.0
_TICK_S = 0.2


def make_images(
    orders: Sequence[Order],
    *,
    folder: Path,
    editor: ImageEditor,
    terms: Terms,
    stop: StopSignal | None = None,
    on_made: Callable[[Made], None] | None = None,
    deliver: Deliver | None = None,
    have: Collection[str] = (),
) -> Harvest:
    """Make the image of every order, at most `terms.in_flight` jobs at a time.

    The caller holds the lock of `folder`, where the ledger lies. Work of earlier runs is collected before
    anything new is asked for, also what nobody orders any more (into `spare/`); `have` are the keys of images
    that lie on the disk already. `on_made` is called in this thread, once an order, as each ends. The first
    request of `stop` ends submitting and waits for what is in flight; an interrupt leaves at once with all
    ids kept. What ends a run early (refused key or credit, budget, full disk) is returned in `stopped` after
    the rest has been brought home.
    """
    can = editor.capabilities()
    remote = is_remote(can)
    path = folder / LEDGER_FILE if remote else None
    ledger = Ledger(path, provider=editor.name, remote=remote, max_seed=can.max_seed)
    try:
        if terms.pay_again:
            ledger.forgo()
        spare = _no_longer_ordered(ledger, folder, ordered={order.key for order in orders}, have=have)
        window = _Window([*orders, *spare], editor, ledger, terms, deliver)
        made = window.run(stop, on_made or (lambda _: None))[: len(orders)]
        return Harvest(made=made, spent_usd=ledger.spent() / 1e6, stopped=window.stopped)
    finally:
        ledger.close()


def spare_file(slot: str, key: str) -> str:
    """Where an image that is paid and not wanted now lies, relative to the folder."""
    # both may come out of an image's own metadata
    name = re.sub(r"[^a-z0-9_]", "", slot)[:60]
    return f"{SPARE}/{name}_{re.sub('[^a-z0-9]', '', key)[:16]}.png"


def _no_longer_ordered(
    ledger: Ledger, folder: Path, *, ordered: Collection[str], have: Collection[str]
) -> list[Order]:
    """Orders that bring home what is paid and was wanted once; settles what is on the disk."""
    spare = []
    for attempt in ledger.all_live():
        if attempt.key in have and attempt.state in ("submitted", "fetched"):
            # killed between the image and the ledger
            ledger.done(attempt)
        elif attempt.key not in ordered and attempt.state == "planned":
            ledger.absent(attempt)
        elif attempt.key not in ordered:
            path = folder / spare_file(attempt.slot, attempt.key)
            # never sent: such an order is only collected
            request = EditRequest(portrait=path, slot=attempt.slot, medium="spare", seed=attempt.seed)
            spare.append(Order(key=attempt.key, request=request, path=path, wanted=False))
    return spare


@dataclass
class _Errand:
    order: Order
    attempt: Attempt | None = None
    let_go: bool = False


class _Window:
    def __init__(
        self,
        orders: Sequence[Order],
        editor: ImageEditor,
        ledger: Ledger,
        terms: Terms,
        deliver: Deliver | None,
    ) -> None:
        can = editor.capabilities()
        self._remote = is_remote(can)
        self._orders, self._ledger, self._terms = orders, ledger, terms
        self._width = max(1, min(terms.in_flight, can.max_in_flight, len(orders)))
        self._gate = Gate(self._width, Pace(scale=terms.time_scale), fragile=self._remote)
        self._pursuit = Pursuit(editor, ledger, self._gate, terms)
        self._collector = Collector(editor, ledger, self._pursuit, deliver=deliver)
        self._todo: deque[_Errand] = deque(_Errand(order) for order in self._first_what_is_paid(orders))
        self._reached: queue.SimpleQueue[_Errand | None] = queue.SimpleQueue()
        self._fetched: queue.SimpleQueue[_Errand | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Made | BaseException] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    @property
    def stopped(self) -> TalentError | None:
        """Why the window closed before its time."""
        reason = self._gate.reason
        return reason if isinstance(reason, TalentError) else None

    def run(self, stop: StopSignal | None, on_made: Callable[[Made], None]) -> tuple[Made, ...]:
        made: dict[str, Made] = {}
        self._start()
        try:
            while len(made) < len(self._orders):
                if stop is not None and stop.requested:
                    self._gate.close()
                try:
                    ended = self._ended.get(timeout=_TICK_S)
                except queue.Empty:
                    continue
                if isinstance(ended, BaseException):
                    raise ended
                made[ended.order.key] = ended
                if ended.order.wanted:
                    on_made(ended)
        finally:
            self._gate.abort()
            for _ in self._threads:
                self._reached.put(None)
                self._fetched.put(None)
            until = time.monotonic() + _LEAVE_S
            for thread in self._threads:
                thread.join(max(0.0, until - time.monotonic()))
        return tuple(made[order.key] for order in self._orders)

    def _first_what_is_paid(self, orders: Sequence[Order]) -> list[Order]:
        """Orders with their images nearest to hand first: finished images do not wait for ever."""
        rank = {"fetched": 0, "submitted": 1, "unknown": 2, "intent": 2}
        live = {attempt.key: rank.get(attempt.state, 3) for attempt in self._ledger.all_live()}
        return sorted(orders, key=lambda order: live.get(order.key, 3))

    def _start(self) -> None:
        works = [self._submit_and_wait] * self._width
        if self._remote:
            works += [self._take_in] * min(_FETCHERS, self._width) + [self._bring_home] * _COLLECTORS
        for number, work in enumerate(works):
            # daemons: a second Ctrl-C must not wait for a provider, and the ledger knows what they did
            thread = threading.Thread(target=self._guard, args=(work,), name=f"cast-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
            # a fault of ours or a full disk: the run cannot go on, and the main thread must say so
            self._gate.close(error)
            self._ended.put(error)

    def _submit_and_wait(self) -> None:
        while True:
            try:
                errand = self._todo.popleft()
            except IndexError:
                return
            self._settle(errand, self._pursue)

            self._catch_up()

    def _catch_up(self) -> None:
        """Fetch instead of submitting while finished images pile up at the provider."""
        while self._reached.qsize() > self._width:
            try:
                errand = self._reached.get_nowait()
            except queue.Empty:
                return
            if errand is None:
                return
            self._settle(errand, self._fetch)

    def _take_in(self) -> None:
        while (errand := self._reached.get()) is not None:
            self._settle(errand, self._fetch)

    def _bring_home(self) -> None:
        while (errand := self._fetched.get()) is not None:
            self._settle(errand, self._collect)

    def _fetch(self, errand: _Errand) -> None:
        assert errand.attempt is not None
        errand.attempt = self._collector.fetch(errand.attempt)
        self._fetched.put(errand)

    def _pursue(self, errand: _Errand) -> Made | None:
        """Submit and wait in a place of the window; what is made elsewhere is fetched outside of it."""
        self._gate.enter()
        try:
            errand.attempt = self._pursuit.reach(errand.order)
            if not self._remote:
                return self._collect(errand)
        finally:
            self._gate.leave()
        self._gate.success()
        self._reached.put(errand)
        return None

    def _collect(self, errand: _Errand) -> Made:
        assert errand.attempt is not None
        return self._collector.collect(errand.order, errand.attempt)

    def _settle(self, errand: _Errand, step: Callable[[_Errand], Made | None]) -> None:
        order = errand.order
        try:
            made = step(errand)
        except Left:
            made = Made(order=order, state="left")
        except STOPS as error:
            # nothing more can be kept or paid: even waiting is of no use
            self._gate.close(error)
            self._gate.abort()
            made = Made(order=order, state="left")
        except GaveUp as error:
            if self._terms.pay_again and error.code in (LOST, UNCOLLECTED) and not errand.let_go:
                self._ledger.let_go(order.key)
                self._settle(_Errand(order, let_go=True), self._pursue)
                return
            made = Made(
                order=order, state="failed", code=error.code, error=" ".join(error.message.split())[:300]
            )
        if made is not None:
            self._ended.put(made)
