"""Offer hostile things to the code that takes kits in: `python benchmarks/hostile.py [--count N]`.

First the corpus, each of whose members must be refused by the code that is its own, then random damage:
headers, LoRA files, archives and pictures, each from its number. They are offered in processes of their own,
2,500 items each, whose memory is bounded and in which no item may take longer than five seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from record import record

ROOT = Path(__file__).resolve().parent.parent
PORTION = 2500


def main() -> None:
    """Offer everything, print and keep the figures; exit code 1 when anything broke or came through."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="items of random damage")
    options = parser.parse_args()
    corpus = offer("--corpus", "--count", "0")
    starts = range(0, options.count, PORTION)
    fuzz = [
        offer("--first", str(first), "--count", str(min(PORTION, options.count - first))) for first in starts
    ]
    broken = [*corpus["broken"], *(text for part in fuzz for text in part["broken"])]
    record(
        "hostile",
        {
            "corpus": {
                key: corpus[key] for key in ("items", "said", "slowest_seconds", "slowest", "peak_mb")
            },
            "fuzzed": {
                "items": sum(part["items"] for part in fuzz),
                "said": dict(sum((Counter(part["said"]) for part in fuzz), Counter())),
                "slowest_seconds": max(part["slowest_seconds"] for part in fuzz),
                "peak_mb": max(part["peak_mb"] for part in fuzz),
            },
            "broken": broken,
            "targets": {"broken": "none", "slowest_seconds": "<= 5", "peak_mb": "<= 256"},
        },
    )
    if broken:
        raise SystemExit(1)


def offer(*arguments: str) -> dict[str, Any]:
    """Run one bounded process and return its figures; what kills it is told as broken."""
    command = [sys.executable, str(ROOT / "tests" / "fuzzing.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
