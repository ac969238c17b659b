"""Killed lip-sync trainings end in the same bytes: `python benchmarks/lipsync_kills.py [--kills 100]`.

A small network learns drawn heads, with accumulation, averaged weights, a discriminator, validation and
checkpoints at every step. It is trained once in peace; then again and again, killed at random moments by
SIGKILL and, one time in four, asked to stop by SIGTERM, which saves in the middle of a step. Every file that
holds a result must be the same, byte for byte. Leaves with 1 when one differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from record import record

from talent_factory.core.errors import Cancelled
from talent_factory.core.events import SilentReporter
from talent_factory.core.files import sha256_file
from talent_factory.core.stop import graceful_stop
from talent_factory.lipsync.config import LipsyncConfig
from talent_factory.lipsync.config_files import make_config
from talent_factory.lipsync.synth.clips import Order, draw_clips
from talent_factory.lipsync.train.run import train

STEPS = 12
_UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 2,
    "cross_attention_dim": 384,
    "norm_num_groups": 4,
}
_RESULTS = (
    "metrics.jsonl",
    "validation.jsonl",
    f"checkpoint-{STEPS}/state.safetensors",
    f"checkpoint-{STEPS}/unet/diffusion_pytorch_model.safetensors",
    f"checkpoint-{STEPS}/lipsync.json",
    f"validation/step-{STEPS:06d}.png",
)


def config_of(clips: Path, run: Path) -> LipsyncConfig:
    """The training that is killed."""
    parts: dict[str, dict[str, Any]] = {
        "data": {
            "local_data_base_url": str(clips),
            "output_dir": str(run),
            "image_size": 32,
            "validation_clips": 0.34,
        },
        "train": {
            "train_batch_size": 2,
            "gradient_accumulation_steps": 4,
            "max_train_steps": STEPS,
            "validation_steps": 4,
            "validation_samples": 4,
            "checkpointing_steps": 1,
            "mixed_precision": "fp32",
            "device": "cpu",
            "gan_loss": 0.05,
            "gan_start": 3,
            "perceptual_loss": 0.1,
        },
        "model": {
            "unet_config_file": str(clips / "unet.json"),
            "vae_pretrained_model_name_or_path": "dct8",
            "resume_from_checkpoint": "latest",
        },
        "optimizer": {"learning_rate": 2e-3, "lr_warmup_steps": 2},
    }
    return make_config(parts, source="the benchmark")


def in_child(work: Callable[[], None]) -> int:
    """Start `work` in a fork, which has everything imported already; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except Cancelled:
        code = 3
    finally:
        sys.stderr.flush()
        os._exit(code)


def trained(config: LipsyncConfig) -> Callable[[], None]:
    """A training that a signal may stop."""

    def work() -> None:
        with graceful_stop() as stop:
            train(config, reporter=SilentReporter(), stop=stop)

    return work


def digests(run: Path) -> dict[str, str]:
    """The hash of every result."""
    return {name: sha256_file(run / name) for name in _RESULTS}


def finish_with_kills(
    config: LipsyncConfig, chance: random.Random, *, longest: float, budget: int
) -> list[str]:
    """Train to the end, killed at random moments at most `budget` times; returns the signals that hit."""
    hits: list[str] = []
    while True:
        pid = in_child(trained(config))
        kind = signal.SIGTERM if chance.random() < 0.25 else signal.SIGKILL
        if len(hits) < budget:
            until = time.monotonic() + chance.uniform(0.0, longest)
            while time.monotonic() < until:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    break
                time.sleep(0.002)
            else:
                os.kill(pid, kind)
                _, status = os.waitpid(pid, 0)
        else:
            _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return hits
        if code not in (3, -signal.SIGKILL, -signal.SIGTERM):
            raise SystemExit(f"the training left with {code}")
        hits.append(kind.name)


def main() -> None:
    """Train in peace, kill, resume, compare, keep the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    hits: list[str] = []
    runs = same = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        clips = root / "clips"
        draw_clips(clips, Order(clips=3, seconds=1.0, size=32))
        (clips / "unet.json").write_text(json.dumps(_UNET))
        # in a fork, too: a parent that has computed may hold threads that a fork would lose
        begun = time.monotonic()
        pid = in_child(trained(config_of(clips, root / "peace")))
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        seconds = time.monotonic() - begun
        wanted = digests(root / "peace")
        while len(hits) < options.kills:
            run = root / f"run{runs}"
            found = finish_with_kills(
                config_of(clips, run), chance, longest=0.7 * seconds, budget=options.kills - len(hits)
            )
            hits += found
            runs += 1
            equal = digests(run) == wanted
            same += equal
            print(f"run {runs}: {len(found)} kills, {'identical' if equal else 'DIFFERENT'}", flush=True)
            if equal:
                shutil.rmtree(run)
    figures: dict[str, object] = {
        "kills": len(hits),
        "by_signal": {name: hits.count(name) for name in sorted(set(hits))},
        "trainings": runs,
        "identical": same,
        "seconds_undisturbed": round(seconds, 2),
        "targets": {"identical": f"{runs} of {runs}"},
    }
    record("lipsync_kills", figures)
    raise SystemExit(0 if same == runs else 1)


if __name__ == "__main__":
    main()
