"""Users with budgets order pictures from a running `talent serve`; they are put into a folder or a bucket.

    talent serve                                                        # in another terminal
    python examples/picture_orders.py ada 0001 --kit avatar.identity.dot_kairo:0.9 --prompt "ink portrait"
    python examples/picture_orders.py ada 0002 --persona kairo --store s3://BUCKET --budget 0.50

The service knows no users: who may ask for what, and what it costs, is decided here. An order that is sent
again, after a crash for instance, is the same job and costs nothing more.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from talent_factory import FoundryClient, TalentError
from talent_factory.core.errors import PolicyRefused
from talent_factory.core.files import read_json, write_json
from talent_factory.service.client import ServiceFault
from talent_factory.service.wire import Job, RenderAsk
from talent_factory.storage.catalog import open_store
from talent_factory.storage.keys import checked_id
from talent_factory.storage.port import Store


class Account:
    """What one user has ordered, in one file; written by one process at a time."""

    def __init__(self, folder: Path, user: str, *, budget: float) -> None:
        self.user, self.budget = checked_id("user id", user), budget
        self.path = folder / f"{self.user}.json"
        self.costs: dict[str, float] = read_json(self.path) if self.path.exists() else {}

    def book(self, order: str, cost: float) -> None:
        """Put down what an order costs at most, or has cost; refused when the budget does not allow it."""
        others = sum(paid for name, paid in self.costs.items() if name != order)
        if others + cost > self.budget + 1e-9:
            raise PolicyRefused(
                f"{self.user} has ${max(0.0, self.budget - others):.2f} left and the order costs ${cost:.2f}",
                remedy="order fewer pictures, or raise --budget",
            )
        self.costs[order] = cost
        write_json(self.path, self.costs)


def sent(client: FoundryClient, ask: RenderAsk, *, key: str) -> Job:
    """The job of a request, waiting while the queue is full."""
    while True:
        try:
            return client.render(ask, key=key)
        except ServiceFault as fault:
            if fault.status != 503:
                raise
            time.sleep(fault.retry_after_s or 1.0)


def delivered(client: FoundryClient, job: Job, store: Store, folder: str) -> list[str]:
    """Put the pictures of a job into the store and return their addresses."""
    keys = {number: f"{folder}/{number:03d}.png" for number in range(1, job.done + 1)}
    return [store.put(key, client.image(job.id, number)).url for number, key in keys.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description="Order pictures.")
    parser.add_argument("user")
    parser.add_argument("order", help="a number of the shop's own; the same number is the same order")
    parser.add_argument("--kit", action="append", default=[], help="ID or ID:WEIGHT; may be repeated")
    parser.add_argument("--persona")
    parser.add_argument("--prompt", action="append", default=[])
    parser.add_argument("--count", type=int, default=1, help="pictures of each prompt")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--price", type=float, default=0.01, help="dollars a picture")
    parser.add_argument("--budget", type=float, default=1.0, help="dollars that the user may spend in all")
    parser.add_argument("--accounts", type=Path, default=Path("accounts"))
    parser.add_argument("--store", default="pictures", help="a folder, s3 or s3://BUCKET")
    parser.add_argument("--url", default="http://127.0.0.1:8084")
    parser.add_argument("--token-file", type=Path, default=Path("service/token"))
    args = parser.parse_args()
    store = open_store(args.store)
    folder = f"{checked_id('user id', args.user)}/renders/{checked_id('order', args.order)}"
    ask = RenderAsk(
        kits=tuple(args.kit),
        persona=args.persona,
        prompts=tuple(args.prompt) or ("portrait",),
        seeds=tuple(range(args.count)),
        steps=args.steps,
    )
    account = Account(args.accounts, args.user, budget=args.budget)
    with FoundryClient(args.url, token=args.token_file.read_text("utf-8").strip()) as client:
        before = account.costs.get(args.order, 0.0)
        account.book(args.order, args.price * len(ask.prompts) * len(ask.seeds))
        try:
            job = sent(client, ask, key=f"{args.user}/{args.order}")
        except TalentError as error:
            # refused: nothing more is owed; when nobody answered, it may have been taken in all the same
            if not isinstance(error, ServiceFault) or error.status:
                account.book(args.order, before)
            raise
        for event in client.events(job.id):
            print(event.kind, event.data.get("note", ""), file=sys.stderr)
        job = client.job(job.id)
        account.book(args.order, args.price * job.done)
        for address in delivered(client, job, store, folder):
            print(address)
    print(f"{job.state}: {job.done} of {job.total} pictures for ${args.price * job.done:.2f}")
    return 0 if job.state == "done" else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TalentError as error:
        sys.exit(f"error: {error.message}\nnext: {error.remedy}")
