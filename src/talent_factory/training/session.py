"""Set up everything that the steps of a run need, once: base, adapters, data and texts on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from talent_factory.core.events import Reporter
from talent_factory.training import runs
from talent_factory.training.adapters import Adapters, attach_adapters
from talent_factory.training.attention import plain_attention, tune_attention
from talent_factory.training.capture import Recorder, cuda_graph
from talent_factory.training.config import TrainConfig
from talent_factory.training.cpu import give_memory_back, pack_convolutions
from talent_factory.training.ema import MovingAverage
from talent_factory.training.engine import Engine
from talent_factory.training.families import Base, Precision, load_base
from talent_factory.training.goal import Goal
from talent_factory.training.guards import watch_networks
from talent_factory.training.lora import target_layers
from talent_factory.training.machine import choose_device, this_machine
from talent_factory.training.material import Material, gather
from talent_factory.training.objectives import huber_widths, timestep_weights
from talent_factory.training.optimizers import (
    evaluation_mode,
    keeps_own_schedule,
    make_optimizer,
    set_rate,
    try_optimizer,
)
from talent_factory.training.parallel import World
from talent_factory.training.ring import Ring
from talent_factory.training.runs import RunRecord
from talent_factory.training.samples import default_prompts
from talent_factory.training.scaler import LossScaler
from talent_factory.training.schedule import learning_rate_factor, training_schedule
from talent_factory.training.stepdown import Execution
from talent_factory.training.windows import Windows

# On a GPU figures are fetched this seldom, and so many batches are laid out at a time.
_GPU_WINDOW = 16
_DTYPES: Mapping[str, Precision] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "fp8"}


@dataclass(eq=False)
class Session:
    """The living parts of a run."""

    config: TrainConfig
    base: Base
    adapters: Adapters
    engine: Engine
    sample_prompts: tuple[str, ...]
    world: World
    material: Material

    @property
    def held_out(self) -> tuple[str, ...]:
        """Files of the dataset that are never trained on."""
        return self.material.held_out_files

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Who moves the weights."""
        return self.engine.optimizer

    def step(self, number: int) -> None:
        """Make step `number` (0-based)."""
        factor = self.rate_factor(number)
        set_rate(self.optimizer, [vector.rate * factor for vector in self.adapters.flat.vectors])
        self.engine.step(number)

    def rate_factor(self, number: int) -> float:
        """The share of the peak learning rates at a step."""
        config = self.config
        curve = "constant" if keeps_own_schedule(config.optimizer.name) else config.scheduler
        return learning_rate_factor(
            number, total=config.max_train_steps, warmup=config.warmup_steps, curve=curve
        )

    @contextmanager
    def shipping(self) -> Iterator[None]:
        """Within this context the base answers with the weights that would be shipped now."""
        flat, average = self.adapters.flat, self.engine.average
        if average is not None:
            with flat.holding(average.values):
                yield
            return
        with evaluation_mode(self.optimizer):
            flat.refresh()
            yield
        flat.refresh()


def set_up(
    record: RunRecord, run: Path, *, execution: Execution, world: World, reporter: Reporter
) -> Session:
    """Load, check and encode; the only slow part before the first step.

    Raises ResumeRefused when dataset, base, torch or device are not those the run began with.
    """
    config = record.config
    # what cannot be shared out, or has no library, should fail before anything is loaded
    world.share(config.batch_size)
    manifest = runs.load_unchanged_dataset(record)
    device = choose_device(config.device)
    try_optimizer(config.optimizer, device=torch.device(device))
    runs.check_machine(run, record.machine, this_machine(device, threads=record.machine.threads))
    base = load_base(record.base, device=device, dtype=_DTYPES[config.precision], unet_later=True)
    runs.check_base(run, record, base.revision)
    base.alphas_cumprod = training_schedule(config.noise, base.alphas_cumprod, base.prediction)
    # Before the adapters are put in: the text table holds what the untouched text encoder says.
    material = gather(
        base,
        config,
        manifest.items,
        dataset=Path(record.dataset),
        cache=Path(record.cache),
        world=world,
        reporter=reporter,
    )
    _make_room(base, config)
    if execution.gradient_checkpointing:
        _keep_few_activations(base.unet)
    if base.device.type == "cpu":
        _pack(base, config, material)
        give_memory_back()
    adapters = attach_adapters(base, config)
    if config.attention == "auto":
        tune_attention(base.unet, adapters.networks[0])
    else:
        plain_attention(base.unet)
    prompts = config.sample_prompts or default_prompts(
        material.captions, config.prior_prompts or base.class_prompts
    )
    return Session(
        config=config,
        base=base,
        adapters=adapters,
        engine=_engine(base, config, material, adapters, world=world, execution=execution, reporter=reporter),
        sample_prompts=prompts,
        world=world,
        material=material,
    )


def _engine(
    base: Base,
    config: TrainConfig,
    material: Material,
    adapters: Adapters,
    *,
    world: World,
    execution: Execution,
    reporter: Reporter,
) -> Engine:
    device = base.device
    window = _GPU_WINDOW if device.type == "cuda" else 1
    goal = _goal(base, config, material, adapters)
    windows = Windows(
        lottery=material.lottery,
        banks=material.banks,
        share=world.share(config.batch_size),
        timesteps=len(base.alphas_cumprod),
        channels=base.latent_channels,
        offset=config.noise.offset,
        device=device,
        length=window,
    )
    weights, memory = adapters.flat.weights(), config.ema
    engine = Engine(
        goal=goal,
        flat=adapters.flat,
        optimizer=make_optimizer(adapters.flat.groups(), config.optimizer, device=device),
        windows=windows,
        ring=Ring((*goal.names, "grad_norm"), length=window, device=device),
        world=world,
        accumulation=config.accumulation,
        max_grad_norm=config.max_grad_norm,
        execution=execution,
        watch=watch_networks(adapters.networks),
        average=None if memory is None else MovingAverage(weights, memory=memory),
        scaler=LossScaler(device) if config.precision == "fp16" else None,
    )
    record = recorder_for(config, device)
    if record is not None:
        engine.replay_with(record, refused=lambda why: reporter.message(f"training op by op: {why}"))
    return engine


def recorder_for(config: TrainConfig, device: torch.device) -> Recorder | None:
    """Who records batches where that pays: the launches of a step cost a GPU's host more than its work."""
    return cuda_graph if config.fast and device.type == "cuda" else None


def _goal(base: Base, config: TrainConfig, material: Material, adapters: Adapters) -> Goal:
    alphas = base.alphas_cumprod.to(base.device)
    return Goal(
        base=base,
        untouched=adapters.disabled,
        banks=material.banks,
        texts=material.table.live(base) if config.train_text_encoder else material.frozen_texts,
        frozen_texts=material.frozen_texts,
        alphas_cumprod=alphas,
        weights_T=timestep_weights(config.loss, alphas, base.prediction),
        widths_T=huber_widths(config.loss, alphas),
        keys=config.loss,
        batch=config.batch_size,
        class_batch=config.preservation_batch,
        prior_weight=config.prior_weight,
    )


def _make_room(base: Base, config: TrainConfig) -> None:
    """Take VAE and text encoders out of the way: all that is learnt from is cached by now."""
    if config.train_text_encoder:
        return
    if config.sample_interval == 0 and not config.choose.measure:
        base.release()
    elif base.device.type == "cuda":
        base.park()
    give_memory_back()


def _pack(base: Base, config: TrainConfig, material: Material) -> None:
    """Lay out the frozen convolutions for the CPU; those whose plain weights are needed stay as they are."""
    adapted = [layer for _, layer in target_layers(base.unet, targets=config.targets)]
    # float32 layers are merged with their addition in each call, DoRA measures their weights
    needed = base.dtype == torch.float32 or config.network.dora
    leave = {
        layer
        for layer in adapted
        if needed or not isinstance(layer, nn.Conv2d) or layer.kernel_size == (1, 1)
    }
    size = min(material.banks)
    latents = torch.zeros(config.batch_size + config.preservation_batch, base.latent_channels, *size)
    rows = torch.zeros(len(latents), dtype=torch.int64)

    @torch.no_grad()
    def run_once() -> object:
        return base.predict(latents, rows, material.frozen_texts(rows))

    pack_convolutions(base.unet, run_once, leave=leave)


def _keep_few_activations(unet: Any) -> None:
    """Compute activations again in the backward pass; no layer of a frozen model draws random numbers."""
    unet.enable_gradient_checkpointing(
        gradient_checkpointing_func=partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    )
