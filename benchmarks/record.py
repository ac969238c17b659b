"""Keep a benchmark's figures with the machine and the versions they were measured on."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

from talent_factory.core.files import write_json

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "opencv-python-headless", "pillow", "pydantic")


def machine() -> dict[str, str | int | None]:
    """What the figures depend on: system, processor, cores and library versions."""
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def record(name: str, figures: dict[str, object]) -> None:
    """Print the figures and write them to `benchmarks/results/NAME.json` with the load and the machine."""
    result = {**figures, "load_before": round(os.getloadavg()[0], 2), "machine": machine()}
    print(json.dumps(result, indent=2))
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{name}.json", result)
