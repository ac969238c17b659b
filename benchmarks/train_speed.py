"""Our trainer against diffusers + peft: `python benchmarks/train_speed.py [--case mini] [--case sd15-256]`.

Same weights, images, layers, rank, precision and number of steps. Every training runs in a process of its
own, and the trainers take turns for `--rounds` rounds, so that a busy machine is busy for all; what is
compared is the best round of each. Steps alone are timed; what comes before the first step's end stands
beside it. There are two references: `reference` encodes images and captions in every step, as the
documented script does, and `reference-cached` once. `--device cuda` has the cases of a GPU at 512 and 1024
pixels, with and without checkpointing, and 1,200 steps from command to kit. `--external "CMD"` times any
other trainer's command line; {base} {dataset} {out} {steps} {batch} {rank} {resolution} are filled in, and
a step is what 2 x steps take longer than steps, divided by steps.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from record import record
from reference_loop import Work

HERE = Path(__file__).parent
TRAINERS = ("ours", "reference", "reference-cached")
MINI = HERE.parent / "src/talent_factory/assets/mini"


@dataclass(frozen=True)
class Case:
    """One comparison; `wanted` are targets: name of a figure to (">=" or "<=", number)."""

    base: str
    resolution: int
    precision: str
    batch: int
    steps: int
    warmup: int
    device: str = "cpu"
    trainers: tuple[str, ...] = TRAINERS
    checkpointing: bool = False
    wanted: dict[str, tuple[str, float]] = field(default_factory=dict)


NO_WORSE = {"speedup_reference": (">=", 1.5), "memory_share": ("<=", 1.0)}
CPU = {
    "mini": Case("mini", 128, "fp32", 4, 60, 10, wanted=NO_WORSE),
    "sd15-256": Case("sd15", 256, "bf16", 1, 12, 3, wanted=NO_WORSE),
}
FAST = {"images_a_second": (">=", 180.0)}
CUDA = {
    "cuda-sd15-512-b1": Case(
        "sd15", 512, "bf16", 1, 240, 60, "cuda",
        wanted={"speedup_reference": (">=", 5.0), "peak_cuda_mb": ("<=", 8192.0)},
    ),
    "cuda-sd15-512-b1-checkpointing": Case(
        "sd15", 512, "bf16", 1, 120, 40, "cuda", checkpointing=True, wanted={"peak_cuda_mb": ("<=", 5120.0)}
    ),
    "cuda-sd15-512-b8": Case("sd15", 512, "bf16", 8, 160, 40, "cuda", wanted=FAST),
    "cuda-sd15-512-b16": Case("sd15", 512, "bf16", 16, 120, 40, "cuda", wanted=FAST),
    "cuda-sdxl-1024-b1": Case(
        "sdxl", 1024, "bf16", 1, 80, 20, "cuda", wanted={"speedup_reference": (">=", 2.0)}
    ),
}  # fmt: skip


def main() -> None:
    """Measure the cases that were asked for and keep each in its own file of results."""
    options = _options()
    cases = CUDA if options.device == "cuda" else CPU
    with tempfile.TemporaryDirectory(prefix="train-speed-") as temporary:
        work = options.folder or Path(temporary)
        for name in options.case or list(cases):
            case = cases[name]
            if options.steps:
                case = replace(case, steps=options.steps, warmup=min(case.warmup, options.steps // 3))
            figures = measure(case, work, options)
            print(_summary(name, figures))
            record(f"train_speed_{name}".replace("-", "_"), figures)
        if options.device == "cuda" and not options.case:
            record("train_speed_cuda_kit", command_to_kit(work))


def measure(case: Case, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All trainers on one case, taking turns."""
    base, data = make_base(work, case.base), make_dataset(work, case.resolution)
    todo = Work(
        base=base,
        dataset=data,
        out=work,
        resolution=case.resolution,
        steps=case.steps,
        batch=case.batch,
        precision=case.precision,
        device=case.device,
        checkpointing=case.checkpointing,
    )
    trainers = tuple(options.trainer or case.trainers)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in trainers}
    for number in range(options.rounds):
        for name in trainers:
            out = Path(tempfile.mkdtemp(prefix=f"{name}-{number}-", dir=work))
            rounds[name].append(run_one(name, replace(todo, out=out / "run"), case.warmup))
    figures: dict[str, Any] = {"case": {**asdict(case), "wanted": None}, "rounds": rounds}
    best = {name: min(runs, key=lambda run: run["step_seconds_median"]) for name, runs in rounds.items()}
    figures["best"] = best
    if options.external:
        best["external"] = external(options.external, todo)
    figures |= compare(best, case)
    figures |= floor_share(base, case, best)
    figures["targets"] = {name: f"{sign} {value:g}" for name, (sign, value) in case.wanted.items()}
    figures["held"] = {
        name: figures[name] >= value if sign == ">=" else figures[name] <= value
        for name, (sign, value) in case.wanted.items()
        if name in figures
    }
    return figures


def compare(best: dict[str, dict[str, float]], case: Case) -> dict[str, Any]:
    """The ratios; more than 1 is in our favour, but `memory_share` is ours over the reference's."""
    if "ours" not in best:
        return {}
    ours = best["ours"]
    figures: dict[str, Any] = {"images_a_second": round(case.batch / ours["step_seconds_median"], 3)}
    for name in best:
        if name != "ours":
            short = name.replace("-", "_")
            ratio = best[name]["step_seconds_median"] / ours["step_seconds_median"]
            figures[f"speedup_{short}"] = round(ratio, 3)
    memory = "peak_cuda_mb" if case.device == "cuda" else "peak_rss_mb"
    figures[memory] = ours[memory]
    if "reference" in best:
        figures["memory_share"] = round(ours[memory] / best["reference"][memory], 3)
    return figures


def floor_share(base: Path, case: Case, best: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The floor of this case on this device, and which share of its speed each trainer reaches."""
    order = {
        "unet": str(base / "unet"),
        "side": case.resolution,
        "batch": case.batch,
        "xl": case.base == "sdxl",
        "device": case.device,
        "precision": case.precision,
    }
    said = json.loads(_child([str(HERE / "flops.py"), json.dumps(order)]))
    operations, most = said
    floor = operations / most
    return {
        "step_teraflop": round(operations / 1e12, 4),
        "peak_teraflops": round(most / 1e12, 3),
        "floor_seconds": round(floor, 5),
        "share_of_floor": {
            name: round(floor / figures["step_seconds_median"], 3) for name, figures in best.items()
        },
    }


def run_one(trainer: str, todo: Work, warmup: int, extra: dict[str, Any] | None = None) -> dict[str, float]:
    """One training in its own process; `extra` are further keys of our config."""
    order = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(todo).items()}
    order |= {
        "kind": "ours" if trainer == "ours" else "reference",
        "warmup": warmup,
        "extra": extra or {},
        "cached": trainer.endswith("cached"),
    }
    path = todo.out.parent / "order.json"
    path.write_text(json.dumps(order), encoding="utf-8")
    figures: dict[str, float] = json.loads(_child([str(HERE / "one_training.py"), str(path)]))
    print(
        f"  {trainer:17} {figures['step_seconds_median']:.4f} s a step, {figures['peak_rss_mb']:.0f} MB",
        flush=True,
    )
    return figures


def external(command: str, todo: Work) -> dict[str, float]:
    """Time a foreign command line: what `2 x steps` take longer than `steps`, start-up and all else aside."""
    seconds = []
    for steps in (todo.steps, 2 * todo.steps):
        words = {**asdict(todo), "steps": steps, "out": Path(tempfile.mkdtemp(dir=todo.out))}
        filled = [part.format(**words) for part in shlex.split(command)]
        begun = time.perf_counter()
        subprocess.run(filled, check=True, stdout=sys.stderr)
        seconds.append(time.perf_counter() - begun)
    step = (seconds[1] - seconds[0]) / todo.steps
    return {"step_seconds_median": step, "step_seconds_mean": step, "all_seconds": seconds[0]}


def command_to_kit(work: Path) -> dict[str, Any]:
    """1,200 steps at batch 1 through the command line, from its start to the kit on disk."""
    base, data = make_base(work, "sd15"), make_dataset(work, 512)
    images = data / "images"
    for item in json.loads((data / "dataset.json").read_text(encoding="utf-8"))["items"]:
        (data / item["file"]).with_suffix(".txt").write_text(item["caption"], encoding="utf-8")
    config = work / "kit.yaml"
    config.write_text(
        f"id: avatar.identity.selftest\nkind: lora\nsdx_version: '1.5'\nbase_model: {base}\n"
        f"train_data_dir: {images}\nresolution: 512\nlora_rank: 16\nmax_train_steps: 1200\n"
        "learning_rate: 1e-4\nbatch_size: 1\ntoken: selftest\nclass_noun: robot\nprecision: bf16\n"
        "sample_every: 0\ncheckpoint_every: 400\ndevice: cuda\n",
        encoding="utf-8",
    )
    begun = time.perf_counter()
    command = ["-m", "talent_factory.cli.app", "train", str(config), "--workspace", str(work / "space")]
    _child(command)
    seconds = time.perf_counter() - begun
    kits = sorted((work / "space").rglob("talent.json"))
    return {"steps": 1200, "seconds": round(seconds, 2), "kits": len(kits), "targets": {"seconds": "<= 60"}}


def make_base(work: Path, kind: str) -> Path:
    """The weights that all trainers share: the embedded base, or random ones of the true architecture."""
    if kind == "mini":
        return MINI
    path = work / f"random-{kind}"
    if not path.exists():
        code = (
            "import sys; from pathlib import Path; "
            "from talent_factory.training.families.random_base import make_random_base; "
            "make_random_base(Path(sys.argv[1]), sys.argv[2], precision='bf16')"
        )
        _child(["-c", code, str(path), kind])
    return path


def make_dataset(work: Path, side: int) -> Path:
    """Eight seeded pictures with captions."""
    from talent_factory.training.tiny_data import make_tiny_dataset

    path = work / f"pictures-{side}"
    return path if path.exists() else make_tiny_dataset(path, images=8, side=side)


def _child(arguments: list[str]) -> str:
    """Run Python in a process of its own; returns the last line it printed, or all its errors on failure."""
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in paths if part)}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stderr[-4000:]}\nfailed ({done.returncode}): {' '.join(arguments)[:400]}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def _summary(name: str, figures: dict[str, Any]) -> str:
    words = [
        f"{key} {value}" for key, value in figures.items() if key.startswith(("speedup", "memory", "images"))
    ]
    return f"{name}: " + ", ".join(words)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", action="append", choices=[*CPU, *CUDA])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="instead of the case's own number")
    parser.add_argument("--trainer", action="append", choices=TRAINERS, help="only these")
    parser.add_argument("--external", help="a command line to time too")
    parser.add_argument("--folder", type=Path, help="keep bases and pictures here and use them again")
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    main()
