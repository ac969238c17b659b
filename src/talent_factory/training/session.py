"""Set up everything that the steps of a run need, once: base, adapters, data and texts on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from talent_factory.core.events import Reporter
from talent_factory.dataset.manifest import DatasetManifest
from talent_factory.training import runs
from talent_factory.training.adapters import Adapters, attach_adapters
from talent_factory.training.bank import TextTable, build_banks
from talent_factory.training.config import TrainConfig
from talent_factory.training.draws import Lottery
from talent_factory.training.engine import Engine
from talent_factory.training.families import Base, Precision, load_base
from talent_factory.training.goal import Goal
from talent_factory.training.latents import LatentSet, Source, encode_images
from talent_factory.training.machine import choose_device, this_machine
from talent_factory.training.objectives import huber_widths, timestep_weights
from talent_factory.training.optimizers import keeps_own_schedule, make_optimizer, set_rate
from talent_factory.training.parallel import World
from talent_factory.training.ring import Ring
from talent_factory.training.runs import RunRecord
from talent_factory.training.samples import default_prompts
from talent_factory.training.schedule import learning_rate_factor
from talent_factory.training.windows import Windows

# On a GPU figures are fetched this seldom, and so many batches are laid out at a time.
_GPU_WINDOW = 16
_DTYPES: Mapping[str, Precision] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(eq=False)
class Session:
    """The living parts of a run."""

    config: TrainConfig
    base: Base
    adapters: Adapters
    engine: Engine
    captions: tuple[str, ...]
    sample_prompts: tuple[str, ...]
    world: World

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Who moves the weights."""
        return self.engine.optimizer

    def step(self, number: int) -> None:
        """Make step `number` (0-based)."""
        rates = [vector.rate * self.rate_factor(number) for vector in self.adapters.flat.vectors]
        set_rate(self.optimizer, rates)
        self.engine.step(number)

    def rate_factor(self, number: int) -> float:
        """The share of the peak learning rates at a step."""
        config = self.config
        curve = "constant" if keeps_own_schedule(config.optimizer.name) else config.scheduler
        return learning_rate_factor(
            number, total=config.max_train_steps, warmup=config.warmup_steps, curve=curve
        )


def set_up(record: RunRecord, run: Path, *, world: World, reporter: Reporter) -> Session:
    """Load, check and encode; the only slow part before the first step.

    Raises ResumeRefused when dataset, base, torch or device are not those the run began with.
    """
    config = record.config
    share = world.share(config.batch_size)
    manifest = runs.load_unchanged_dataset(record)
    device = choose_device(config.device)
    runs.check_machine(run, record.machine, this_machine(device, threads=record.machine.threads))
    base = load_base(record.base, device=device, dtype=_DTYPES[config.precision])
    runs.check_base(run, record, base.revision)
    if config.gradient_checkpointing:
        _keep_few_activations(base.unet)

    latents = _encode(base, record, manifest, world=world, reporter=reporter)
    captions = tuple(item.caption for item in manifest.items)
    class_prompts = config.prior_prompts or base.class_prompts
    preserved = class_prompts if config.preservation_batch else ()
    variants = tuple((caption,) for caption in captions)
    table = TextTable([*(text for texts in variants for text in texts), *preserved])
    # Before the adapters are put in: the table holds what the untouched text encoder says.
    frozen = table.encoded(base)
    adapters = attach_adapters(base, config)
    banks = build_banks(latents, None, device=base.device)
    lottery = Lottery(
        seed=config.seed,
        sizes=latents.sizes,
        repeats=tuple(item.repeats for item in manifest.items),
        batch=config.batch_size,
        texts=tuple(tuple(table.row(text) for text in texts) for texts in variants),
        flip=config.flip,
        caption_dropout=config.captions.dropout,
        classes=tuple(table.row(prompt) for prompt in preserved),
        class_batch=config.preservation_batch,
    )
    alphas = base.alphas_cumprod.to(base.device)
    goal = Goal(
        base=base,
        untouched=adapters.disabled,
        banks=banks,
        texts=table.live(base) if config.train_text_encoder else frozen,
        frozen_texts=frozen,
        alphas_cumprod=alphas,
        weights_T=timestep_weights(config.loss, alphas, base.prediction),
        widths_T=huber_widths(config.loss, alphas),
        keys=config.loss,
        batch=config.batch_size,
        class_batch=config.preservation_batch,
        prior_weight=config.prior_weight,
    )
    on_gpu = base.device.type == "cuda"
    windows = Windows(
        lottery=lottery,
        banks=banks,
        share=share,
        timesteps=len(alphas),
        channels=base.latent_channels,
        offset=config.noise.offset,
        device=base.device,
        length=_GPU_WINDOW if on_gpu else 1,
    )
    engine = Engine(
        goal=goal,
        flat=adapters.flat,
        optimizer=make_optimizer(adapters.flat.groups(), config.optimizer, device=base.device),
        windows=windows,
        ring=Ring((*goal.names, "grad_norm"), length=_GPU_WINDOW if on_gpu else 1, device=base.device),
        world=world,
        accumulation=config.accumulation,
        max_grad_norm=config.max_grad_norm,
    )
    prompts = config.sample_prompts or default_prompts(captions, class_prompts)
    return Session(
        config=config,
        base=base,
        adapters=adapters,
        engine=engine,
        captions=captions,
        sample_prompts=prompts,
        world=world,
    )


def _keep_few_activations(unet: Any) -> None:
    """Compute activations again in the backward pass; no layer of a frozen model draws random numbers."""
    unet.enable_gradient_checkpointing(
        gradient_checkpointing_func=partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    )


def _encode(
    base: Base, record: RunRecord, manifest: DatasetManifest, *, world: World, reporter: Reporter
) -> LatentSet:
    """All latents; the first process fills the cache, the others read it."""
    if not world.first:
        world.wait()
    sources = [Source(Path(record.dataset) / item.file, item.sha256) for item in manifest.items]
    latents = encode_images(
        base,
        sources,
        mirrored=record.config.flip,
        cache=Path(record.cache) / "latents",
        reporter=reporter,
    )
    if world.first:
        world.wait()
    return latents
