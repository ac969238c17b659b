"""Load a real service on loopback: mixed requests from many clients, then kills in the middle of jobs.

    python benchmarks/service.py [--requests 1000] [--clients 32] [--kits 50]

An answer that asks to wait (503 with Retry-After) is no error; everything else from 500 on is, and so is an
answer that is not what was asked for.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from record import record

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from service_maker import IDENTITY, Service, add_mini_kit, make_workspace
from talent_factory.core.files import sha256_file
from talent_factory.service.client import FoundryClient, ServiceFault
from talent_factory.service.wire import MixAsk, RenderAsk

PROMPT = "ink portrait of dot_test woman, smiling"
# One in so many requests asks for a picture.
KINDS = ("kits",) * 5 + ("kit",) * 5 + ("preview",) * 3 + ("search",) * 3 + ("mix",) * 2 + ("jobs", "render")


class Load:
    """What the clients met: seconds by kind of request, waits asked for, and errors."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.waits = 0
        self.errors: Counter[str] = Counter()
        self.jobs: list[str] = []
        self._lock = threading.Lock()

    def request(self, client: FoundryClient, number: int, ids: list[str]) -> None:
        """Send request `number` and note what came of it."""
        chance = random.Random(number)
        kind = chance.choice(KINDS)
        while True:
            begun = time.perf_counter()
            try:
                self._ask(client, kind, chance, number, ids)
            except ServiceFault as fault:
                if fault.status == 503 and fault.retry_after_s:
                    with self._lock:
                        self.waits += 1
                    time.sleep(fault.retry_after_s * chance.uniform(0.5, 1.5))
                    continue
                with self._lock:
                    self.errors[f"{kind}: {fault.message[:80]}"] += 1
                return
            with self._lock:
                self.seconds[kind].append(time.perf_counter() - begun)
            return

    def _ask(
        self, client: FoundryClient, kind: str, chance: random.Random, number: int, ids: list[str]
    ) -> None:
        talent_id = chance.choice(ids)
        good = True
        if kind == "kits":
            good = client.kits(limit=20, offset=chance.randrange(len(ids))).total == len(ids)
        elif kind == "kit":
            good = client.kit(talent_id).id == talent_id
        elif kind == "preview":
            good = client.kit_preview(talent_id).startswith(b"\x89PNG")
        elif kind == "search":
            good = bool(client.search(talent_id.rpartition(".")[2]))
        elif kind == "mix":
            good = len(client.check_mix(MixAsk(kits=(IDENTITY, talent_id))).pairs) == 1
        elif kind == "jobs":
            good = client.jobs(limit=20).active >= 0
        else:
            job = client.render(order(seeds=(number,)), key=f"load {number}")
            with self._lock:
                self.jobs.append(job.id)
        if not good:
            with self._lock:
                self.errors[f"{kind}: another answer"] += 1


def main() -> None:
    """Run both parts and record the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--kits", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        workspace = make_workspace(Path(temporary))
        for number in range(options.kits - 2):
            add_mini_kit(workspace, f"avatar.style.bench_{number}", seed=10 + number)
        figures = {**load(workspace, options.requests, options.clients), "kills": kills(workspace)}
    figures["kits"] = options.kits
    figures["targets"] = {"errors": 0, "jobs_lost": 0, "kills.images_drawn_twice": 0, "kills.jobs_lost": 0}
    record("service", figures)


def load(workspace: Path, requests: int, clients: int) -> dict[str, object]:
    """Send `requests` from `clients` threads; returns latencies in milliseconds and memory in MB."""
    service = Service(workspace)
    memory = Memory(service)
    met = Load()
    try:
        with service.client() as client:
            ids = [kit.id for kit in client.kits(limit=1000).kits]
            memory.begin()
            begun = time.perf_counter()
            with ThreadPoolExecutor(clients) as pool:
                waiting = [pool.submit(met.request, client, number, ids) for number in range(requests)]
                for done, future in enumerate(waiting, start=1):
                    future.result()
                    if done % 100 == 0:
                        print(f"{done} of {requests} requests", file=sys.stderr, flush=True)
            took = time.perf_counter() - begun
            ended = Counter(client.wait(job).state for job in met.jobs)
        memory.end()
    finally:
        service.end()
    return {
        "requests": requests,
        "clients": clients,
        "seconds": round(took, 1),
        "errors": sum(met.errors.values()),
        "error_words": dict(met.errors),
        "asked_to_wait": met.waits,
        "jobs": len(met.jobs),
        "jobs_lost": len(met.jobs) - ended["done"],
        "milliseconds": {kind: percentiles(seconds) for kind, seconds in sorted(met.seconds.items())},
        "memory_mb": memory.figures(),
    }


def kills(workspace: Path, *, jobs: int = 3, images: int = 12) -> dict[str, int]:
    """Kill the server three times and the worker three times in the middle of jobs; returns what was lost."""
    wanted = [order(seeds=tuple(range(100 * number, 100 * number + images))) for number in range(jobs)]
    killed: Counter[str] = Counter()
    service = Service(workspace)
    with service.client() as client:
        ids = [client.render(ask, key=f"kill {number}").id for number, ask in enumerate(wanted)]
    seen: dict[str, tuple[int, str]] = {}
    twice = 0
    for who in ("worker", "server") * 3:
        before = len(seen)
        while len(seen) < before + 2:
            time.sleep(0.05)
            twice += look(workspace, ids, seen)
        if who == "worker":
            victims = service.workers()
            for victim in victims:
                victim.kill()
            psutil.wait_procs(victims, timeout=60)
        else:
            workers = service.workers()
            service.kill()
            psutil.wait_procs(workers, timeout=120)
            service = Service(workspace)
        killed[who] += 1
        print(f"{who} killed, {len(seen)} of {jobs * images} images", file=sys.stderr, flush=True)
    try:
        with service.client() as client:
            states = Counter(client.wait(job).state for job in ids)
    finally:
        service.end()
    twice += look(workspace, ids, seen)
    return {
        "server_kills": killed["server"],
        "worker_kills": killed["worker"],
        "images": len(seen),
        "images_missing": jobs * images - len(seen),
        "images_drawn_twice": twice,
        "jobs_lost": jobs - states["done"],
    }


def look(workspace: Path, jobs: list[str], seen: dict[str, tuple[int, str]]) -> int:
    """Note every finished image; returns how many of those seen before are other files or bytes now."""
    changed = 0
    for job in jobs:
        for path in (workspace / "service" / "jobs" / job / "images").glob("[0-9]*.png"):
            now = (path.stat().st_ino, sha256_file(path))
            changed += seen.setdefault(str(path), now) != now
            seen[str(path)] = now
    return changed


def order(*, seeds: tuple[int, ...]) -> RenderAsk:
    """A small job."""
    return RenderAsk(kits=(f"{IDENTITY}:0.5",), prompts=(PROMPT,), seeds=seeds, steps=2, batch=1)


class Memory:
    """Resident memory of the server and of its workers, looked at ten times a second."""

    def __init__(self, service: Service) -> None:
        self._server = psutil.Process(service.process.pid)
        self._service = service
        self._over = threading.Event()
        self._seen: dict[str, list[float]] = {"server": [], "worker": []}
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def begin(self) -> None:
        """Begin to look."""
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def figures(self) -> dict[str, dict[str, float]]:
        """First, last and largest, in MB."""
        return {
            who: {"first": round(seen[0]), "last": round(seen[-1]), "peak": round(max(seen))}
            for who, seen in self._seen.items()
            if seen
        }

    def _watch(self) -> None:
        workers = self._service.workers()
        while not self._over.wait(0.1):
            self._seen["server"].append(self._server.memory_info().rss / 1e6)
            self._seen["worker"].append(sum(worker.memory_info().rss for worker in workers) / 1e6)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile and the largest, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    named = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(seconds)}
    return {name: round(1000 * value, 1) for name, value in named.items()} | {"count": len(seconds)}


if __name__ == "__main__":
    main()
