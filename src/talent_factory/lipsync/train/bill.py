"""What a training will take, before it begins: samples, disk of the checkpoints, memory, and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from talent_factory.core.plan import Plan, PlanStep
from talent_factory.core.records import Record
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.config import LipsyncConfig
from talent_factory.lipsync.config_files import HIGHEST_SCALED_RATE, learning_rate
from talent_factory.lipsync.models.discriminator import PatchDiscriminator
from talent_factory.lipsync.models.unet import build_unet, read_unet_config
from talent_factory.lipsync.ports import Codec
from talent_factory.lipsync.records import STEPS, WIDTH
from talent_factory.lipsync.train.saver import named_weights
from talent_factory.training.devices import device_facts, measured_pace, stated_pace

_FLOAT = 4
_MIB = 1 << 20
# Weights of a network that still bears a rate of more than HIGHEST_SCALED_RATE.
_SMALL = 10_000_000


class Bill(Record):
    """Sizes are in bytes; `flops` are of the network, `decoding` of the codec, both ways, for one sample."""

    parameters: int
    flops: float
    decoding: float
    """0 when no loss looks at pixels."""
    samples_per_step: int
    samples: int
    checkpoints: int
    weights_each: int
    state_each: int
    disk: int
    """All checkpoints at the end, and the one that is being written beside them."""
    memory: int
    """Weights, gradients and moments on the device, without activations."""
    seconds: float | None
    rate: float

    def lines(self) -> list[str]:
        """The bill in words."""
        kept = f"{self.checkpoints} checkpoints of {_size(self.weights_each)}"
        steep = self.rate > HIGHEST_SCALED_RATE and self.parameters > _SMALL
        pixels = f" and {self.decoding / 1e9:.1f} for its pixels" if self.decoding else ""
        return [
            f"{self.parameters / 1e6:.2f} M weights, {self.flops / 1e9:.1f} GFLOP a sample{pixels}",
            f"{self.samples_per_step} samples a step, {self.samples} in all",
            f"learning rate {self.rate:g} at its highest"
            + (", which is likely to destroy a network of this size" if steep else ""),
            f"memory: {_size(self.memory)} for weights, gradients and moments; activations come on top",
            f"disk: {kept}, whole states of {_size(self.state_each)} for the newest: {_size(self.disk)}",
        ]


def make_bill(config: LipsyncConfig) -> Bill:
    """Count on a network without memory. Raises ConfigError and BaseError where there is none."""
    train = config.train
    codec = open_codec(config.model.vae_pretrained_model_name_or_path)
    with torch.device("meta"):
        unet = build_unet(
            read_unet_config(config.model.unet_config_file), codec, feed_mask=config.model.feed_mask
        )
        judge = PatchDiscriminator() if train.gan_loss else None
    painter = sum(p.numel() for p in unet.parameters())
    judging = 0 if judge is None else sum(p.numel() for p in judge.parameters())
    flops, decoding = _flops(unet, config, codec), _decoding(config, codec)
    count = -(-train.max_train_steps // train.checkpoint_every)
    weights = painter * _FLOAT
    average = weights if train.ema_decay else 0
    # weights and two moments of each
    state = 3 * weights + average + 3 * judging * _FLOAT
    kept = min(count, train.checkpoints_total_limit)
    states = min(count, train.full_states)
    return Bill(
        parameters=painter,
        flops=flops,
        decoding=decoding,
        samples_per_step=train.effective_batch,
        samples=train.effective_batch * train.max_train_steps,
        checkpoints=kept,
        weights_each=weights,
        state_each=state,
        disk=kept * weights + states * state + weights + state,
        memory=4 * weights + average + 4 * judging * _FLOAT,
        seconds=_seconds(config, flops + decoding),
        rate=learning_rate(config),
    )


def plan_training(config: LipsyncConfig) -> tuple[Plan, Bill]:
    """What `talent lipsync train` would do. Raises FileError when what it begins from is not there."""
    named_weights(config.model.resume_from_checkpoint)
    bill = make_bill(config)
    run = Path(config.data.output_dir)
    step = PlanStep(
        name="train",
        detail=f"{config.train.max_train_steps} steps of {bill.samples_per_step} samples into {run}",
        seconds=bill.seconds or 0.0,
        memory_mb=bill.memory / _MIB,
        disk_mb=bill.disk / _MIB,
    )
    return Plan(title="Lip-sync training", steps=(step,)), bill


def _flops(unet: Any, config: LipsyncConfig, codec: Codec) -> float:
    side = config.data.image_size // codec.factor
    tokens = (config.train.audio_length_left + 1 + config.train.audio_length_right) * STEPS
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        picture = torch.empty(1, 2 * codec.channels + int(config.model.feed_mask), side, side)
        unet(picture, torch.zeros((), dtype=torch.long), torch.empty(1, tokens, WIDTH), return_dict=False)
    # the backward pass costs two forward ones
    return 3.0 * float(counter.get_total_flops())


def _decoding(config: LipsyncConfig, codec: Codec) -> float:
    if not config.train.needs_pixels:
        return 0.0
    side = config.data.image_size // codec.factor
    pretended = FakeTensorMode(allow_non_fake_inputs=True)
    with pretended, FlopCounterMode(display=False) as counter, torch.no_grad():
        codec.decode(torch.empty(1, codec.channels, side, side))
    # the weights stand still: the way back costs as much as the way there
    return 2.0 * float(counter.get_total_flops())


def _seconds(config: LipsyncConfig, flops: float) -> float | None:
    facts = device_facts(config.train.device)
    precision = "fp32" if config.train.mixed_precision == "no" else config.train.mixed_precision
    if precision == "fp16" and facts.kind != "cuda":
        precision = "fp32"
    pace = stated_pace(facts, precision, captured=False) or measured_pace(facts, precision)
    samples = config.train.effective_batch * config.train.max_train_steps
    return float(flops * samples / pace.flops)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
