"""Prove on this machine that a training killed at any moment and resumed ends in the very same bytes.

The training has on what a resume could lose: accumulation, a moving average, aspect buckets, low-rank
layers of the text encoder, shuffled and dropped captions, mirrored images, preservation, and a loss on
held-out images.

Real processes get a real SIGKILL. They are forked from this one, because importing torch and diffusers
afresh takes longer than a whole tiny training. That is safe as long as this process never runs torch
itself (a pool of threads does not survive a fork), so even the tiny base and its dataset are made in a
child.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from talent_factory.core.errors import TalentError, UsageError
from talent_factory.core.events import Reporter
from talent_factory.core.files import sha256_file
from talent_factory.core.records import Record
from talent_factory.core.seeds import derive_seed
from talent_factory.training import runs
from talent_factory.training.config import TrainConfig
from talent_factory.training.options import CaptionKeys, ValidationKeys

_STEPS = 16
# Buckets of three aspects, of which some have an odd number of images: their last batch is refilled.
_SHAPES = ((32, 32), (48, 32), (32, 48))
_POLL_SECONDS = 0.0005
# A run that was killed this often is left to end: the proof is in the bytes, not in the count.
_KILLS_A_RUN = 3


class KilledRun(Record):
    """One run: the steps it had logged at each kill, and whether it ended in the reference's bytes."""

    number: int
    killed_at_steps: tuple[int, ...]
    identical: bool
    different: tuple[str, ...] = ()


class ResumeProof(Record):
    """The outcome; `seconds` of the whole test, `reference_seconds` of one run without kills."""

    runs: int
    kills: int
    identical: int
    seconds: float
    reference_seconds: float
    compared: tuple[str, ...]
    lora_sha256: str
    details: tuple[KilledRun, ...]

    @property
    def passed(self) -> bool:
        """Whether every run ended in the same bytes."""
        return self.identical == self.runs


def prove_resume(*, kills: int, seed: int = 0, reporter: Reporter) -> ResumeProof:
    """Kill `kills` runs at random moments, each at least once, resume them, and compare all they leave.

    The moments of the first kills are spread evenly over the whole life of a run, its writes included. Raises
    UsageError where processes cannot be forked, TalentError when a run fails by itself.
    """
    if not hasattr(os, "fork"):
        raise UsageError(
            "the self-test needs fork, which this system lacks", remedy="run it on Linux or macOS"
        )
    warm_up()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="talent-selftest-") as name:
        yard = _Yard(Path(name))
        _must_end(forked(yard.furnish), "the tiny base")
        begun = time.monotonic()
        _must_end(forked(lambda: yard.train("reference")), "the reference run")
        life = time.monotonic() - begun
        reference = yard.digests("reference")
        details: list[KilledRun] = []
        for number in range(kills):
            dice = random.Random(derive_seed(seed, "kill", number))
            details.append(_kill_one(yard, number, kills, life=life, dice=dice, reference=reference))
            reporter.progress("kill and resume", number + 1, kills, unit="run")
    return ResumeProof(
        runs=kills,
        kills=sum(len(run.killed_at_steps) for run in details),
        identical=sum(run.identical for run in details),
        seconds=round(time.monotonic() - started, 1),
        reference_seconds=round(life, 2),
        compared=tuple(sorted(reference)),
        lora_sha256=reference[runs.LORA_FILE],
        details=tuple(details),
    )


@dataclass(frozen=True)
class _Yard:
    """The folder where the self-test lives: one tiny base, one dataset, one folder a run."""

    root: Path

    def furnish(self) -> None:
        """Make base and dataset; in a child only."""
        from talent_factory.training.families.random_base import make_random_base
        from talent_factory.training.tiny_data import make_tiny_dataset

        make_random_base(self.root / "base", seed=1)
        make_tiny_dataset(
            self.root / "dataset", images=8, shapes=_SHAPES, tags=("red", "round", "small", "shiny")
        )

    def train(self, name: str) -> None:
        """Begin a run or go on with it; in a child only."""
        from talent_factory.training.loop import train

        config = TrainConfig(
            id="avatar.identity.selftest",
            kind="lora",
            sdx_version="1.5",
            base_model=str(self.root / "base"),
            train_data_dir=str(self.root / "dataset"),
            resolution=64,
            lora_rank=4,
            max_train_steps=_STEPS,
            learning_rate=1e-3,
            batch_size=2,
            token="selftest",
            flip=True,
            accumulation=2,
            ema=0.9,
            captions=CaptionKeys(dropout=0.2, shuffle=True, tag_dropout=0.2, variants=4),
            validation=ValidationKeys(share=0.2),
            prior_weight=0.5,
            train_text_encoder=True,
            sample_every=_STEPS // 2,
            checkpoint_every=3,
            device="cpu",
        )
        train(config, dataset=self.root / "dataset", run=self.root / name)

    def digests(self, name: str) -> dict[str, str]:
        """What two equal runs must share: the LoRA, the log of losses and the sample pictures."""
        run = self.root / name
        samples = sorted((run / runs.SAMPLES).glob("*.png"))
        files = [run / runs.LORA_FILE, run / runs.LOSS_FILE, *samples]
        return {path.relative_to(run).as_posix(): sha256_file(path) for path in files if path.is_file()}


def _kill_one(
    yard: _Yard, number: int, total: int, *, life: float, dice: random.Random, reference: dict[str, str]
) -> KilledRun:
    """Kill one run, at a moment within its own share of a run's life, and let it end."""
    name, attempt = f"run_{number}_0", 0
    killed: list[int] = []
    patience = life * (number + dice.random()) / total
    while True:
        child = forked(partial(yard.train, name))
        ended = _wait(child, patience if len(killed) < _KILLS_A_RUN else None)
        if ended is None:
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL:
            killed.append(len(runs.read_losses(yard.root / name)))
            # A resume has less left to do, so later moments come sooner; some fall behind the end.
            patience = life * dice.random()
            continue
        _must_end_well(ended, name)
        if killed:
            break
        # It was done before its moment came: once more from the start, a little earlier.
        attempt, patience = attempt + 1, patience * 0.9
        name = f"run_{number}_{attempt}"
    found = yard.digests(name)
    different = tuple(
        sorted(key for key in reference.keys() | found.keys() if reference.get(key) != found.get(key))
    )
    return KilledRun(
        number=number, killed_at_steps=tuple(killed), identical=not different, different=different
    )


def warm_up() -> None:
    """Import what forked children need, without running any of it."""
    import diffusers
    import transformers

    from talent_factory.training import loop, tiny_data
    from talent_factory.training.families import random_base, sd15, sdxl

    # diffusers and transformers import their parts on first touch
    _ = (diffusers.AutoencoderKL, diffusers.UNet2DConditionModel, loop, tiny_data, random_base, sd15, sdxl)
    _ = (transformers.CLIPTextModel, transformers.CLIPTokenizer, transformers.CLIPTextConfig)
    _ = transformers.CLIPTextModelWithProjection


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a forked child and return its process id; the child never comes back here.

    The child has one torch thread and a silent stdout, and exits with 0, or with 1 after a traceback.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        # Signals as a fresh process has them, and no words from libraries into the parent's display.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        import torch

        # One thread needs no pool, hence nothing that the fork could have broken.
        torch.set_num_threads(1)
        work()
        code = 0
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        # Past every handler and buffer that was inherited: a child must never run its parent's code.
        os._exit(code)


def _wait(child: int, patience: float | None) -> int | None:
    """The wait status of a child, or None when it still runs after `patience` seconds."""
    if patience is None:
        return os.waitpid(child, 0)[1]
    until = time.monotonic() + patience
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(_POLL_SECONDS)
    return None


def _must_end(child: int, what: str) -> None:
    _must_end_well(os.waitpid(child, 0)[1], what)


def _must_end_well(status: int, what: str) -> None:
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise TalentError(f"the self-test could not end {what} (exit code {code})", remedy="talent doctor")
