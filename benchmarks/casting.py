"""Time of a set of 17 images against the bound, beside two plain ways: `python benchmarks/casting.py`.

A Replicate-shaped server in its own process answers with log-normal latencies (median 25 s, mean 30 s), fifty
times faster than real; every way meets the same latencies. The bound is the schedule of the same latencies in
a window of the same width that loses no time at all: max(N L / C, ...) plus the tail of the last jobs. Work
on this machine (encoding, flushing) is not scaled, so the ratio is worse than in real life.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from record import record

from talent_factory.core.files import write_bytes
from talent_factory.datagen import ledger as ledger_module
from talent_factory.datagen.collect import as_png
from talent_factory.datagen.order import Order, Terms
from talent_factory.datagen.planning import CastOptions, order_of, plan_slots
from talent_factory.datagen.portrait import normalise, save_portrait
from talent_factory.datagen.recipes import load_recipe
from talent_factory.datagen.retry import Pace
from talent_factory.datagen.stamp import stamp
from talent_factory.datagen.window import make_images
from talent_factory.providers.replicate import ReplicateEditor

ROOT = Path(__file__).resolve().parent.parent
PORTRAIT = ROOT / "src/talent_factory/assets/portraits/dot_kairo.png"
TOKEN = "r8_loopback_token_0123456789"
SIGMA = 0.604


def main() -> None:
    """Measure every way, `--repeats` times over other latencies, and keep the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--slow-down", type=float, default=50, help="how many times faster than real the server is"
    )
    parser.add_argument("--long-side", type=int, default=1024, help="of the server's images")
    parser.add_argument("--windows", type=int, nargs="*", default=[5, 10])
    parser.add_argument("--no-plain", action="store_true", help="leave the sequential and batched ways out")
    options = parser.parse_args()
    scale = 1 / options.slow_down
    ways = [f"window {width}" for width in options.windows]
    ways += [] if options.no_plain else ["sequential", "batches of 5"]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    bounds: dict[str, list[float]] = {way: [] for way in ways}
    with server(scale, options.long_side) as url:
        for repeat in range(options.repeats):
            for way in ways:
                folder = Path(tempfile.mkdtemp(prefix="casting-"))
                orders = make_orders(folder)
                seeds = fixed_seeds(repeat, len(orders))
                editor = ReplicateEditor(token=TOKEN, base_url=url, upload=True)
                latencies = [latency(seed) * scale for seed in seeds]
                width = 1 if way == "sequential" else int(way.split()[-1])
                started = time.perf_counter()
                if way.startswith("window"):
                    run_window(orders, folder, editor, seeds, scale, width)
                else:
                    run_plain(orders, editor, seeds, scale, width)
                seconds[way].append(time.perf_counter() - started)
                bounds[way].append(ideal(latencies, width))
                editor.close()
                shutil.rmtree(folder)
    record("casting", {"images": len(orders), **figures(seconds, bounds, options.slow_down)})


def figures(
    seconds: dict[str, list[float]], bounds: dict[str, list[float]], slow_down: float
) -> dict[str, object]:
    """Means over the repeats, as measured and as they would be at real speed."""
    ways = {}
    for way, values in seconds.items():
        mean, bound = sum(values) / len(values), sum(bounds[way]) / len(values)
        ratios = [value / least for value, least in zip(values, bounds[way], strict=True)]
        ways[way] = {
            "seconds": round(mean, 3),
            "at_real_speed_s": round(mean * slow_down, 1),
            "bound_s": round(bound, 3),
            "ratio": round(mean / bound, 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
        }
    return {"repeats": len(values), "time_scale": f"1/{slow_down:g}", "ways": ways, "target_ratio": 1.10}


def make_orders(folder: Path) -> list[Order]:
    """The slots of the default recipe as orders into `folder`."""
    source = normalise(PORTRAIT)
    save_portrait(source, folder / "portrait.png")
    options, recipe = CastOptions(), load_recipe()
    editor = ReplicateEditor(token=TOKEN, base_url="http://127.0.0.1:1")
    cast = plan_slots(
        source, name=PORTRAIT.name, token="bench", options=options, recipe=recipe, editor=editor
    )
    editor.close()
    return [order_of(slot, cast, folder) for slot in cast.slots]


def fixed_seeds(repeat: int, count: int) -> list[int]:
    """Seeds of one repeat: they decide the server's latencies, so every way meets the same."""
    dice = random.Random(f"casting/{repeat}/{time.time_ns()}") if repeat < 0 else random.Random(repeat)
    return [dice.randrange(1, 2**31) for _ in range(count)]


def latency(seed: int) -> float:
    """The server's latency for a job of this seed, in real seconds."""
    return 25.0 * math.exp(random.Random(f"latency/{seed}").gauss(0.0, SIGMA))


def ideal(latencies: Sequence[float], width: int) -> float:
    """When the last of these jobs ends if each begins the moment one of `width` places is free."""
    places = [0.0] * width
    for each in latencies:
        heapq.heapreplace(places, places[0] + each)
    return max(places)


def run_window(
    orders: Sequence[Order],
    folder: Path,
    editor: ReplicateEditor,
    seeds: Sequence[int],
    scale: float,
    width: int,
) -> None:
    """The engine, with its random seeds replaced by the given ones."""
    ledger_module.secrets = Drawn(seeds)  # type: ignore[assignment]
    harvest = make_images(
        orders, folder=folder, editor=editor, terms=Terms(in_flight=width, time_scale=scale)
    )
    assert all(made.state == "done" for made in harvest.made), harvest


class Drawn:
    """Stands in for `secrets` and deals out the given seeds."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._left = list(seeds)

    def randbelow(self, _: int) -> int:
        """The next seed, less the one that the ledger adds."""
        return self._left.pop(0) - 1


def run_plain(
    orders: Sequence[Order], editor: ReplicateEditor, seeds: Sequence[int], scale: float, width: int
) -> None:
    """Batches of `width` that begin together and wait for each other (1: one after another)."""
    pace = Pace(scale=scale)

    def make(order: Order, seed: int) -> bytes:
        job = editor.submit(order.request.model_copy(update={"seed": seed}))
        time.sleep(pace.real(pace.first_poll_s))
        while editor.poll(job).state != "succeeded":
            time.sleep(pace.next_poll())
        return editor.fetch(job)

    with ThreadPoolExecutor(width) as pool:
        for start in range(0, len(orders), width):
            batch = list(zip(orders, seeds, strict=True))[start : start + width]
            for (order, _), raw in zip(batch, pool.map(lambda pair: make(*pair), batch), strict=True):
                write_bytes(order.path, stamp(as_png(raw), {"key": order.key}))


@contextmanager
def server(scale: float, long_side: int) -> Iterator[str]:
    """The loopback server in a process of its own."""
    script = [sys.executable, str(ROOT / "tests/servers/replicate.py"), "--time-scale", str(scale)]
    script += ["--median", "25", "--sigma", str(SIGMA), "--long-side", str(long_side)]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
