"""Peak memory of a cast of 200 slots against the loopback server: `python benchmarks/cast_memory.py`.

The whole of `cast_actor` is measured, checks and contact sheet included, in a process of its own: the most
that was resident by then, after the first slots and at the end.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from casting import PORTRAIT, TOKEN, server
from record import record

from talent_factory.core.events import SilentReporter
from talent_factory.datagen.actor import CastOptions, cast_actor
from talent_factory.providers.replicate import ReplicateEditor

SCALE = 0.01


def main() -> None:
    """Cast in a child process and keep the figures; `--child` is that process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=200)
    parser.add_argument("--in-flight", type=int, default=10)
    parser.add_argument("--long-side", type=int, default=1360, help="of the server's images")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "URL"))
    options = parser.parse_args()
    if options.child:
        print(json.dumps(cast(Path(options.child[0]), options.child[1], options.slots, options.in_flight)))
        return
    with (
        tempfile.TemporaryDirectory(prefix="cast-memory-") as folder,
        server(SCALE, options.long_side) as url,
    ):
        script = [sys.executable, __file__, "--child", folder, url]
        script += ["--slots", str(options.slots), "--in-flight", str(options.in_flight)]
        done = subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(done.stdout)
    record("cast_memory", {"slots": options.slots, **figures, "target_mb": 400})


class Watch(SilentReporter):
    """Notes the peak as slots end."""

    def __init__(self) -> None:
        self.peaks: list[float] = []

    def event(self, kind: str, **fields: object) -> None:
        """One figure for every slot."""
        if kind == "cast.slot":
            self.peaks.append(peak_mb())


def cast(folder: Path, url: str, slots: int, in_flight: int) -> dict[str, object]:
    """Cast, and say how much memory it took at most."""
    watch, before, started = Watch(), peak_mb(), time.monotonic()
    made = cast_actor(
        PORTRAIT,
        out=folder / "cast",
        token="bench",
        options=CastOptions(count=slots, in_flight=in_flight, time_scale=SCALE),
        editor=ReplicateEditor(token=TOKEN, base_url=url, upload=True),
        reporter=watch,
    )
    made.require_complete()
    return {
        "imports_mb": round(before),
        "after_20_slots_mb": round(watch.peaks[min(20, slots) - 1]),
        "after_all_slots_mb": round(watch.peaks[-1]),
        "peak_mb": round(peak_mb()),
        "seconds": round(time.monotonic() - started, 1),
    }


def peak_mb() -> float:
    """The most memory this process has held, in MiB."""
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
