"""The demo of the talking head from an empty folder: `python benchmarks/lipsync_demo.py [--picture FILE]`.

Runs `talent lipsync demo` as a user does, and keeps its figures, its targets and the seconds of its stages.
`--picture` also writes frames of both videos as one PNG, as docs/lipsync.png shows them. Leaves with 1 when a
target is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from record import record

from talent_factory.lipsync.animate.film import Film
from talent_factory.lipsync.demo.records import DemoResult
from talent_factory.lipsync.demo.stages import read_result

TARGET_SECONDS = 600
_SHOWN, _SIDE = 8, 160


def main() -> int:
    """Run, record, and say whether every target was reached."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "talent_factory.cli.app", "lipsync", "demo", "--workspace", folder]
        begun = time.monotonic()
        command += ["--json", *(["--quick"] if options.quick else [])]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
        seconds = time.monotonic() - begun
        if done.returncode != 0:
            return done.returncode
        page = Path(json.loads(done.stdout)["page"])
        result = read_result(page.parent)
        if options.picture is not None:
            write_picture(result, options.picture)
    reached = result.score.reached and seconds <= TARGET_SECONDS
    if not options.quick:
        record("lipsync_demo", figures_of(result, seconds))
    return 0 if reached or options.quick else 1


def figures_of(result: DemoResult, seconds: float) -> dict[str, object]:
    """What is kept of a run."""
    return {
        "seconds": round(seconds, 1),
        "seconds_of_stages": {name: round(value, 1) for name, value in result.seconds.items()},
        "steps": result.steps,
        "parameters": result.parameters,
        "checks": [check.model_dump(mode="json") for check in result.score.checks],
        "rows": [row.model_dump(mode="json") for row in result.score.rows],
        "videos": [
            watched.model_dump(
                mode="json",
                include={"name", "correlation", "offset", "articulation", "leak", "frames_per_second"},
            )
            for watched in result.watched
        ],
        "targets": {
            "seconds": TARGET_SECONDS,
            "held": result.score.reached and seconds <= TARGET_SECONDS,
        },
    }


def write_picture(result: DemoResult, path: Path) -> None:
    """Frames of each video, evenly spaced, a row for each."""
    rows = []
    for watched in result.watched:
        frames = list(Film(watched.video).frames())
        chosen = np.linspace(0, len(frames) - 1, _SHOWN + 2).astype(int)[1:-1]
        small = [Image.fromarray(frames[k]).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS) for k in chosen]
        rows.append(np.concatenate([np.asarray(image) for image in small], axis=1))
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only see that everything runs; keeps nothing")
    parser.add_argument("--picture", type=Path, default=None, help="PNG to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
