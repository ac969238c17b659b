"""Set up everything that a step of training needs, once, and compute the losses of one step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from talent_factory.core.events import Reporter
from talent_factory.dataset.manifest import DatasetManifest
from talent_factory.training import runs
from talent_factory.training.adapters import Adapters, attach_adapters
from talent_factory.training.config import TrainConfig
from talent_factory.training.draws import Lottery, StepPlan
from talent_factory.training.families import Base, load_base
from talent_factory.training.latents import LatentSet, Source, encode_images
from talent_factory.training.machine import choose_device, this_machine
from talent_factory.training.objectives import denoising_loss, preservation_loss
from talent_factory.training.prompts import PromptEncoder, encode_once
from talent_factory.training.runs import RunRecord
from talent_factory.training.samples import default_prompts
from talent_factory.training.schedule import add_noise, learning_rate_factor


@dataclass
class Session:
    """The living parts of a run."""

    config: TrainConfig
    base: Base
    adapters: Adapters
    optimizer: torch.optim.AdamW
    latents: LatentSet
    lottery: Lottery
    captions: tuple[str, ...]
    class_prompts: tuple[str, ...]
    encode: PromptEncoder
    """Text states that the adapted model reads; gradients flow when the text encoder is trained."""
    encode_frozen: PromptEncoder
    """Text states that the untouched base reads."""
    alphas_cumprod: Tensor
    sample_prompts: tuple[str, ...]

    def plan(self, step: int) -> StepPlan:
        """All random choices of a step."""
        return self.lottery.plan(step)

    def losses(self, plan: StepPlan) -> dict[str, Tensor]:
        """`loss` to make small, and its parts when there are several; each 0-dim float32."""
        base, device = self.base, self.base.device
        noise = plan.noise_BCHW.to(device)
        timesteps = plan.timesteps_B.to(device)
        latents = self.latents.sample(plan.items, plan.flips, plan.posterior_BCHW).to(device)
        noisy = add_noise(latents, noise, self.alphas_cumprod, timesteps)
        pairs = zip(plan.items, plan.dropped, strict=True)
        captions = ["" if dropped else self.captions[item] for item, dropped in pairs]
        classes = [self.class_prompts[index] for index in plan.class_prompts]

        # One call of the UNet for both aims: class prompts meet the same noisy latents as the captions.
        count, extra = len(captions), len(classes)
        predicted = base.predict(
            torch.cat([noisy, noisy[:extra]]),
            torch.cat([timesteps, timesteps[:extra]]),
            self.encode([*captions, *classes]),
        )
        denoise = denoising_loss(
            predicted[:count],
            noise,
            alphas_cumprod=self.alphas_cumprod,
            timesteps_B=timesteps,
            min_snr_gamma=self.config.loss.min_snr_gamma if self.config.loss.weighting == "min-snr" else None,
        )
        if not classes:
            return {"loss": denoise}
        with torch.no_grad(), self.adapters.disabled():
            own = base.predict(noisy[:extra], timesteps[:extra], self.encode_frozen(classes))
        preserve = preservation_loss(predicted[count:], own)
        return {
            "loss": denoise + self.config.prior_weight * preserve,
            "denoise": denoise,
            "preserve": preserve,
        }

    def set_learning_rate(self, step: int) -> float:
        """Give each parameter group its rate for `step`; returns the UNet's."""
        config = self.config
        factor = learning_rate_factor(
            step, total=config.max_train_steps, warmup=config.warmup_steps, curve=config.scheduler
        )
        for group, rate in zip(self.optimizer.param_groups, self.adapters.rates, strict=True):
            group["lr"] = rate * factor
        return self.adapters.rates[0] * factor


def set_up(record: RunRecord, run: Path, *, reporter: Reporter) -> Session:
    """Load, check and encode; the only slow part before the first step.

    Raises ResumeRefused when dataset, base, torch or device are not those the run began with.
    """
    config = record.config
    manifest = runs.load_unchanged_dataset(record)
    device = choose_device(config.device)
    runs.check_machine(run, record.machine, this_machine(device, threads=record.machine.threads))
    base = load_base(
        record.base, device=device, dtype="bfloat16" if config.precision == "bf16" else "float32"
    )
    runs.check_base(run, record, base.revision)

    sources = [Source(Path(record.dataset) / item.file, item.sha256) for item in manifest.items]
    latents = encode_images(
        base, sources, mirrored=config.flip, cache=Path(record.cache) / "latents", reporter=reporter
    )
    captions = tuple(item.caption for item in manifest.items)
    class_prompts = config.prior_prompts or base.class_prompts
    preserved = class_prompts if config.preservation_batch else ()
    # Before the adapters are hooked in: the table holds what the untouched text encoder says.
    frozen = encode_once(base, [*captions, *preserved, ""])
    adapters = attach_adapters(base, config)
    return Session(
        config=config,
        base=base,
        adapters=adapters,
        optimizer=_optimizer(adapters, config),
        latents=latents,
        lottery=_lottery(config, manifest, latents, base, classes=len(preserved)),
        captions=captions,
        class_prompts=preserved,
        encode=base.encode_prompts if config.train_text_encoder else frozen,
        encode_frozen=frozen,
        alphas_cumprod=base.alphas_cumprod.to(base.device),
        sample_prompts=config.sample_prompts or default_prompts(captions, class_prompts),
    )


def _optimizer(adapters: Adapters, config: TrainConfig) -> torch.optim.AdamW:
    # beta2 0.99: a few hundred steps are too few for the usual 0.999 to settle
    return torch.optim.AdamW(
        adapters.groups(), betas=(0.9, 0.99), weight_decay=config.optimizer.weight_decay, eps=1e-8, fused=True
    )


def _lottery(
    config: TrainConfig, manifest: DatasetManifest, latents: LatentSet, base: Base, *, classes: int
) -> Lottery:
    return Lottery(
        seed=config.seed,
        sizes=latents.sizes,
        repeats=tuple(item.repeats for item in manifest.items),
        batch=config.batch_size,
        timesteps=len(base.alphas_cumprod),
        channels=base.latent_channels,
        flip=config.flip,
        caption_dropout=config.captions.dropout,
        class_prompts=classes,
        class_batch=config.preservation_batch,
    )
