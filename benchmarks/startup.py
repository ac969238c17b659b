"""Time of `talent --help`, best and median of ten fresh processes: `python benchmarks/startup.py`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from record import record


def main() -> None:
    """Start the command ten times and keep the figures."""
    talent = Path(sys.executable).with_name("talent")
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        subprocess.run([talent, "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    best, median = round(min(seconds), 3), round(statistics.median(seconds), 3)
    record("startup", {"seconds": {"best": best, "median": median}, "targets": {"median": "< 0.4"}})


if __name__ == "__main__":
    main()
