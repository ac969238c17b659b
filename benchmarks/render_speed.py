"""Our renders against diffusers' own pipeline: `python benchmarks/render_speed.py [--case mini-b4]`.

Same weights, prompts, seeds, steps, guidance, size, batch and precision, DPM++ 2M in both, PNG files in both;
ours carry their recipe. Each runs in a process of its own, is warmed up once and timed `--images` images
long; the two take turns for `--rounds` rounds, and the best round of each counts, so that a busy machine is
busy for both. With precision bf16 diffusers decodes in bf16 too, ours in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from record import record
from train_speed import make_base

HERE = Path(__file__).parent
PROMPTS = (
    "flat portrait of a man, smiling, city background",
    "ink portrait of a woman, neutral, white background",
)
GUIDANCE = 5.0


@dataclass(frozen=True)
class Case:
    """One comparison."""

    base: str
    side: int
    precision: str
    batch: int
    steps: int
    images: int
    device: str = "cpu"


CPU = {
    "mini-b1": Case("mini", 128, "float32", 1, 20, 8),
    "mini-b4": Case("mini", 128, "float32", 4, 20, 16),
    "sd15-256-b1": Case("sd15", 256, "bfloat16", 1, 10, 2),
    "sd15-512-b1": Case("sd15", 512, "bfloat16", 1, 8, 1),
}
CUDA = {
    "cuda-sd15-512-b1": Case("sd15", 512, "float16", 1, 20, 8, "cuda"),
    "cuda-sd15-512-b8": Case("sd15", 512, "float16", 8, 20, 32, "cuda"),
}


def main() -> None:
    """Measure the cases that were asked for and keep them in one file of results."""
    options = _options()
    if options.one:
        print(json.dumps(one(options.one, Case(**json.loads(options.order)), options.folder)))
        return
    cases = CUDA if options.device == "cuda" else CPU
    names = options.case or list(cases)
    with tempfile.TemporaryDirectory(prefix="render-speed-") as temporary:
        work = options.folder or Path(temporary)
        found = {name: measure(cases[name], work, options.rounds) for name in names}
    held = {name: found[name]["speedup"] >= 1.0 for name in names}
    figures: dict[str, object] = {**found, "targets": {"speedup": ">= 1.0"}, "held": held}
    record("render_speed_cuda" if options.device == "cuda" else "render_speed", figures)


def measure(case: Case, work: Path, rounds: int) -> dict[str, Any]:
    """Both drawers on one case, taking turns."""
    base = make_base(work, case.base)
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "diffusers": []}
    for _ in range(rounds):
        for who in runs:
            order = json.dumps(asdict(case))
            runs[who].append(_child([__file__, "--one", who, "--order", order, "--folder", str(base)]))
            print(f"  {who:10} {runs[who][-1]}", flush=True)
    best = {who: min(done, key=lambda run: run["seconds_an_image"]) for who, done in runs.items()}
    speedup = best["diffusers"]["seconds_an_image"] / best["ours"]["seconds_an_image"]
    memory = best["ours"]["peak_rss_mb"] / best["diffusers"]["peak_rss_mb"]
    return {
        "case": asdict(case),
        "rounds": runs,
        "best": best,
        "speedup": round(speedup, 3),
        "memory_share": round(memory, 3),
    }


def one(who: str, case: Case, base: Path) -> dict[str, float]:
    """Draw the case's images in this process: seconds an image, seconds to load, peak memory."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    begun = time.perf_counter()
    draw = (_ours if who == "ours" else _theirs)(case, base)
    loaded = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        draw(case.batch, Path(folder) / "warm")
        begun = time.perf_counter()
        draw(case.images, Path(folder) / "timed")
        seconds = time.perf_counter() - begun
    return {
        "seconds_an_image": round(seconds / case.images, 4),
        "load_seconds": round(loaded, 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _ours(case: Case, base: Path) -> Any:
    from talent_factory.core.events import SilentReporter
    from talent_factory.foundry.blend import Mix
    from talent_factory.foundry.render import RenderOrder, Shot, render
    from talent_factory.training.families import load_base

    model = load_base(
        "mini" if case.base == "mini" else base, device=case.device, dtype=cast(Any, case.precision)
    )

    def draw(count: int, out: Path) -> None:
        shots = tuple(Shot(prompt=_prompt(index), seed=index) for index in range(count))
        order = RenderOrder(
            shots=shots, steps=case.steps, guidance=GUIDANCE, size=(case.side, case.side), batch=case.batch
        )
        render(model, order, mix=Mix(), out=out, reporter=SilentReporter())

    return draw


def _theirs(case: Case, base: Path) -> Any:
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        base,
        safety_checker=None,
        requires_safety_checker=False,
        dtype=getattr(torch, case.precision),
        low_cpu_mem_usage=True,
    ).to(case.device)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)

    def draw(count: int, out: Path) -> None:
        out.mkdir(parents=True)
        for start in range(0, count, case.batch):
            numbers = range(start, min(count, start + case.batch))
            images = pipeline(
                [_prompt(index) for index in numbers],
                num_inference_steps=case.steps,
                guidance_scale=GUIDANCE,
                height=case.side,
                width=case.side,
                generator=[torch.Generator().manual_seed(index) for index in numbers],
            ).images
            for index, image in zip(numbers, images, strict=True):
                image.save(out / f"{index:03d}.png")

    return draw


def _prompt(index: int) -> str:
    return PROMPTS[index % len(PROMPTS)]


def _child(arguments: list[str]) -> dict[str, float]:
    """Run this file in a process of its own; returns what it printed last."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stderr[-3000:]}\nfailed ({done.returncode}): {' '.join(arguments)[:300]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", action="append", choices=[*CPU, *CUDA])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the bases here and use them again")
    parser.add_argument("--one", choices=("ours", "diffusers"), help=argparse.SUPPRESS)
    parser.add_argument("--order", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    main()
