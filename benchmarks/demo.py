"""Time of the first command on a fresh clone: `python benchmarks/demo.py`.

Clones the repository into a temporary folder and times three commands there: `make venv`, `make demo`, and
`make demo` again with nothing changed.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from record import record

REPOSITORY = Path(__file__).resolve().parents[1]


def timed(folder: Path, *command: str) -> float:
    """Run a command in `folder` and return its wall time in seconds."""
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True)
    return round(time.perf_counter() - started, 1)


def main() -> None:
    """Clone, time the three runs and keep the figures."""
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        install = timed(clone, "make", "venv")
        first = timed(clone, "make", "demo")
        again = timed(clone, "make", "demo")
    record(
        "demo",
        {
            "seconds": {
                "install": install,
                "demo": first,
                "install_and_demo": round(install + first, 1),
                "second_demo": again,
            },
            "targets": {"install_and_demo": "<= 600", "demo": "<= 300", "second_demo": "<= 15"},
        },
    )


if __name__ == "__main__":
    main()
