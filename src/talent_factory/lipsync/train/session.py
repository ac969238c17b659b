"""A training made ready: device and processes, networks with their optimizers, data, and the run's folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from talent_factory.core.errors import ConfigError, UsageError
from talent_factory.core.events import Reporter
from talent_factory.core.records import Record, read_record, write_record
from talent_factory.core.seeds import derive_seed
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.actor import ActorCard
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.config import FREE_KEYS, LipsyncConfig
from talent_factory.lipsync.config_files import learning_rate
from talent_factory.lipsync.train.engine import Engine, Pace
from talent_factory.lipsync.train.folders import Keep, Origin, State, checkpoints
from talent_factory.lipsync.train.material import UNKNOWN, Material, open_material
from talent_factory.lipsync.train.networks import make_players, starting_weights
from talent_factory.lipsync.train.objective import Objective
from talent_factory.lipsync.train.saver import Place, Saver, find_start
from talent_factory.lipsync.train.validate import Validator
from talent_factory.training.machine import choose_device, reproducible, this_machine
from talent_factory.training.parallel import before_joining

if TYPE_CHECKING:
    from accelerate import Accelerator

RUN = "run.json"
# How long processes wait for the first one, which alone validates and writes.
_PATIENCE = timedelta(hours=6)


class RunRecord(Record):
    """`run.json`: the config that a run was begun with, so that `resume` needs no other file."""

    format_version: int = 1
    config: LipsyncConfig
    dataset_sha256: str
    extractor: str | None
    codec: str


@dataclass(eq=False)
class Session:
    """All that the loop needs."""

    config: LipsyncConfig
    run: Path
    engine: Engine
    saver: Saver
    validator: Validator | None
    material: Material
    state: State | None
    resumed: bool

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.engine.pace.rank == 0

    def feed(self, place: Place, *, reporter: Reporter, stop: StopSignal) -> Callable[[int, int], Batch]:
        """What gives the batches from `place` on. Raises as `Material.make_plan`."""
        pace, plan = self.engine.pace, self.material.make_plan(reporter=reporter, stop=stop)
        return self.material.feed(plan, pace, step=place.step, piece=place.samples // pace.wide)

    def anyone(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.engine.pace.processes == 1:
            return flag
        vote = torch.tensor([int(flag)], device=self.engine.accelerator.device)
        reduce: Any = self.engine.accelerator.reduce
        return bool(reduce(vote, reduction="sum").item())

    def wait(self) -> None:
        """Go on when all processes are here."""
        self.engine.accelerator.wait_for_everyone()

    def write_record(self) -> None:
        """Write `run.json`."""
        material = self.material
        write_record(
            self.run / RUN,
            RunRecord(
                config=self.config,
                dataset_sha256=material.dataset_sha256,
                extractor=material.metadata.extractor,
                codec=material.codec.id,
            ),
        )


def read_run(run: Path) -> RunRecord:
    """The record of a run. Raises FileError when there is none."""
    return read_record(run / RUN, RunRecord)


@contextmanager
def open_session(config: LipsyncConfig, *, reporter: Reporter, stop: StopSignal) -> Iterator[Session]:
    """Everything ready to train; threads, files and processes are given back at the end.

    Raises ConfigError, UsageError, ResumeRefused and what opening clips, codec and weights raises.
    """
    run = Path(config.data.output_dir)
    start = find_start(run, config.model.resume_from_checkpoint)
    state, weights = (None, start) if isinstance(start, Path) else (start, None)
    _check_fresh(run, config)
    with ExitStack() as stack:
        device = choose_device(config.train.device)
        exact = config.train.deterministic or device == "cpu"
        stack.enter_context(reproducible(torch.get_num_threads(), exact=exact))
        accelerator = stack.enter_context(_accelerator(config, device, reporter))
        pace = make_pace(config, processes=accelerator.num_processes, rank=accelerator.process_index)
        material = open_material(config, accelerator.device, reporter=reporter, stop=stop)
        stack.callback(material.close)
        engine = _make_engine(config, accelerator, material, pace, weights)
        machine = this_machine(device).model_dump(mode="json")
        saver = Saver(
            engine,
            run,
            origin=_origin(config, material),
            card=_card(config, material),
            keep=Keep(config.train.checkpoints_total_limit, config.train.full_states),
            machine=machine,
        )
        held_out = bool(material.split.held_out) and config.train.validation_steps > 0
        validator = _validator(config, material) if held_out and pace.rank == 0 else None
        yield Session(config, run, engine, saver, validator, material, state, resumed=state is not None)


def make_pace(config: LipsyncConfig, *, processes: int, rank: int) -> Pace:
    """How many pieces a step has on so many processes. Raises ConfigError when they do not divide."""
    train = config.train
    wide = train.micro * processes
    if train.effective_batch % wide:
        raise ConfigError(
            f"the {train.effective_batch} samples of a step do not divide into batches of {train.micro} on "
            f"{processes} processes",
            remedy=_smaller_pieces(train.effective_batch, processes, at_most=train.micro),
        )
    return Pace(train.effective_batch // wide, train.micro, processes, rank)


def _smaller_pieces(samples: int, processes: int, *, at_most: int) -> str:
    each, rest = divmod(samples, processes)
    if rest:
        return f"choose train_batch_size times gradient_accumulation_steps as a multiple of {processes}"
    largest = next(size for size in range(min(at_most, each), 0, -1) if each % size == 0)
    return f"--set micro_batch_size={largest}: the step stays the same"


def _make_engine(
    config: LipsyncConfig, accelerator: Accelerator, material: Material, pace: Pace, weights: Path | None
) -> Engine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("lipsync weights", config.train.seed) % 2**63)
        players = make_players(config, material.codec, accelerator, peak=learning_rate(config))
    if weights is not None:
        starting_weights(players[0], weights)
    objective = Objective(
        config.train,
        material.codec,
        config.model.mask,
        size=config.data.image_size,
        device=str(accelerator.device),
        judge=players[1].bare if len(players) > 1 else None,
        sync=material.sync if config.train.sync_loss else None,
    )
    return Engine(
        accelerator,
        players,
        objective,
        pace=pace,
        max_norm=config.optimizer.max_grad_norm,
        ema_decay=config.train.ema_decay,
        canvas=material.canvas(),
    )


@contextmanager
def _accelerator(config: LipsyncConfig, device: str, reporter: Reporter) -> Iterator[Accelerator]:
    """accelerate's view of the device and of the processes that a launcher started."""
    try:
        from accelerate import Accelerator, InitProcessGroupKwargs
        from accelerate.state import AcceleratorState, GradientState
        from accelerate.utils import GradScalerKwargs
    except ImportError:
        raise UsageError(
            "training needs accelerate, which is not installed",
            remedy="pip install 'talent-factory[lipsync]'",
        ) from None
    precision = config.train.mixed_precision
    if precision == "fp16" and device != "cuda":
        reporter.message(f"mixed_precision fp16 is for GPUs: training in fp32 on {device}")
        precision = "fp32"
    os.environ.setdefault("ACCELERATE_USE_CPU", "true" if device == "cpu" else "false")
    _forget(AcceleratorState, GradientState)
    before_joining()
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        # our own scaler never waits for the device, and its state resumes exactly
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE), GradScalerKwargs(enabled=False)],
    )
    try:
        yield accelerator
    finally:
        accelerator.free_memory()
        if accelerator.num_processes > 1:
            accelerator.end_training()
        _forget(AcceleratorState, GradientState)


def _forget(accelerator_state: Any, gradient_state: Any) -> None:
    """Let the next training of this process choose its own precision: accelerate keeps one for all."""
    accelerator_state._reset_state(reset_partial_state=True)
    gradient_state._reset_state()


def _check_fresh(run: Path, config: LipsyncConfig) -> None:
    wanted = config.model.resume_from_checkpoint
    inside = wanted is not None and Path(wanted).resolve().parent == run.resolve()
    if checkpoints(run) and wanted != "latest" and not inside:
        raise UsageError(
            f"{run} holds a training already",
            remedy=f"talent lipsync resume {run}, or begin anew elsewhere: --set output_dir=NEW",
        )


def _validator(config: LipsyncConfig, material: Material) -> Validator:
    return Validator(
        material.validation,
        material.codec,
        config.model.mask,
        material.canvas(),
        material.sync_check() if material.sync is not None else None,
    )


def _origin(config: LipsyncConfig, material: Material) -> Origin:
    dump = config.model_dump(mode="json")
    keys = {
        f"{part}.{key}": value
        for part, values in dump.items()
        for key, value in values.items()
        if key not in FREE_KEYS[part]
    }
    keys["train.samples_of_a_step"] = config.train.effective_batch
    keys["optimizer.rate"] = learning_rate(config)
    return Origin(
        config=keys,
        dataset_sha256=material.dataset_sha256,
        extractor=material.metadata.extractor,
        codec=material.codec.id,
        mask=config.model.mask.id,
    )


def _card(config: LipsyncConfig, material: Material) -> ActorCard:
    extractor = material.metadata.extractor or UNKNOWN
    return ActorCard(
        image_size=config.data.image_size,
        codec=config.model.vae_pretrained_model_name_or_path,
        codec_id=material.codec.id,
        extractor="mel" if extractor.startswith("mel") else extractor,
        extractor_id=extractor,
        audio_left=config.train.audio_length_left,
        audio_right=config.train.audio_length_right,
        mask=config.model.mask,
        feed_mask=config.model.feed_mask,
        residual=config.model.residual,
        length=config.train.frames if config.model.temporal else 1,
        preset=config.model.unet_config_file,
        dataset_sha256=material.dataset_sha256,
    )
