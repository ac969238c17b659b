"""Say before a training starts whether it fits into memory and how long it takes, each with an error bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from talent_factory.core.plan import Plan, PlanStep, duration
from talent_factory.core.records import Record
from talent_factory.training.arithmetic import BASE_ALONE, Adaption, Work
from talent_factory.training.cpu import SECOND_COPIES
from talent_factory.training.devices import (
    DeviceFacts,
    Pace,
    check_precision,
    device_facts,
    measured_pace,
    stated_pace,
)
from talent_factory.training.likeness.plan import MEASURE_BATCH, measure_calls
from talent_factory.training.shapes import BaseShape, base_shape

if TYPE_CHECKING:
    from talent_factory.training.config import TrainConfig

_WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1}
_COMPUTE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 2}
# Numbers that each optimiser keeps for one weight, as bytes.
_STATE_BYTES = {"adamw": 8, "adamw8bit": 2, "prodigy": 16, "adamw-schedulefree": 8}
_GB = 1 << 30
# What a process holds that has loaded torch, diffusers and transformers and computed a little (measured on a
# CPU), and what a GPU holds for its driver and libraries.
_PROCESS = {"cpu": int(0.6 * _GB), "mps": int(0.8 * _GB), "cuda": int(0.6 * _GB)}
_BAR = {"cpu": 0.2, "mps": 0.25, "cuda": 0.15}
# Scratch memory of a step in multiples of the largest activation and of the largest weight: on a CPU oneDNN
# reorders both into its own layouts (measured), elsewhere the gradients of one layer are what is alive.
_SCRATCH = {"cpu": (8, 4), "mps": (6, 2), "cuda": (5, 1)}
# Activations alive at once while a picture is decoded or encoded, in multiples of the largest.
_PICTURE_COPIES = 4
# How often each kept number crosses the memory bus: made, read by its two neighbours, and so again backwards.
_CROSSINGS = 6
# Operations of an eager step for each product or convolution of the forward pass.
_CALLS_A_PRODUCT = 9


class Memory(Record):
    """Bytes at the peak, by what needs them."""

    weights: int
    """The UNet with its packed copies, and text encoders and autoencoder where they stay."""
    network: int
    """LoRA with its gradients, average and optimiser state."""
    activations: int
    """What waits for the backward pass, with the scratch memory beside it."""
    pictures: int
    """What encoding and drawing need instead of activations; they never happen together."""
    process: int
    """Libraries and driver."""

    @property
    def total(self) -> int:
        """The peak."""
        return self.weights + self.network + self.process + max(self.activations, self.pictures)


class Fit(Record):
    """A prediction for one training on one device: bytes, FLOP, seconds, and how far off it may be."""

    device: str
    memory: Memory
    memory_low: int
    memory_high: int
    budget: int
    step_flops: float
    """FLOP of one optimiser step, all its batches."""
    floor_share: float
    """FLOP that no trainer can avoid, divided by those that are done: 1 without checkpointing or extras."""
    step_seconds: float
    step_low: float
    step_high: float
    setup_seconds: float
    """Encoding each image once."""
    steps: int
    images_per_step: int
    source: str
    """Where the pace comes from."""
    measuring_seconds: float = 0.0
    """Drawing pictures to measure checkpoints by, where the config asks for that."""
    measured: int | None = None
    """Bytes at the peak of a trial, where there was one."""

    @property
    def verdict(self) -> Literal["fits", "may fit", "does not fit"]:
        """What the error bar leaves to say."""
        if self.memory_high <= self.budget:
            return "fits"
        return "may fit" if self.memory_low <= self.budget else "does not fit"

    @property
    def seconds(self) -> float:
        """The whole training as expected."""
        return self._seconds(self.step_seconds)

    def _seconds(self, step: float) -> float:
        """The whole training when a step takes `step` seconds; drawing goes as fast or slow as steps do."""
        drawing = self.measuring_seconds * step / self.step_seconds
        return self.setup_seconds + self.steps * step + drawing

    def lines(self) -> tuple[str, ...]:
        """The prediction in words: memory, its parts, time, work."""
        low, high = self._seconds(self.step_low), self._seconds(self.step_high)
        part = self.memory
        expected = size(part.total) if self.measured is None else f"{size(self.measured)} measured"
        memory = (
            f"memory: {self.verdict} on {self.device}: {expected} "
            f"({size(self.memory_low)} to {size(self.memory_high)}) of {size(self.budget)}"
        )
        parts = (
            f"  weights {size(part.weights)}, LoRA and optimiser {size(part.network)}, "
            f"activations {size(part.activations)} or pictures {size(part.pictures)}, "
            f"process {size(part.process)}"
        )
        time = (
            f"time: {duration(self.seconds)} ({duration(low)} to {duration(high)}): {self.steps} steps of "
            f"{self.images_per_step} at {_pace(self.step_seconds)}"
        )
        if self.measuring_seconds:
            time += f", and {duration(self.measuring_seconds)} to draw what checkpoints are measured by"
        return memory, parts, time, f"work: {self.step_flops / 1e12:.3g} TFLOP a step; {self.source}"

    def plan(self, title: str) -> Plan:
        """The prediction in the form of every dry run."""
        steps = (
            PlanStep(
                name="encode",
                detail="each image and caption once",
                seconds=self.setup_seconds,
                memory_mb=self.memory.total / 2**20,
            ),
            PlanStep(
                name="train",
                detail=f"{self.steps} steps of {self.images_per_step}, {self.verdict}",
                seconds=self.seconds - self.setup_seconds,
                memory_mb=self.memory.total / 2**20,
            ),
        )
        return Plan(title=title, steps=steps)


@dataclass(frozen=True)
class Job:
    """What a fit depends on: the config, the shape of its base, and the images."""

    config: TrainConfig
    shape: BaseShape
    images: int = 30

    @property
    def adaption(self) -> Adaption:
        """The low-rank layers that the config asks for."""
        rank = self.config.lora_rank
        return Adaption(self.config.targets, rank, self.config.network.conv_rank or rank)

    def unet(self, adaption: Adaption = BASE_ALONE) -> Work:
        """The UNet's work on one image."""
        side, plain = self.config.resolution, self.config.attention == "plain"
        return self.shape.unet_work(height=side, width=side, adaption=adaption, plain=plain)

    def texts(self) -> tuple[Work, ...]:
        """The text encoders' work on one prompt."""
        return self.shape.text_work(self.adaption if self.config.train_text_encoder else BASE_ALONE)


def predict_fit(job: Job, *, facts: DeviceFacts, pace: Pace) -> Fit:
    """Predict memory and time of `job` on the device of `facts` at `pace`; loads nothing."""
    config = job.config
    work, floor = _step_flops(job)
    memory = predict_memory(job, kind=facts.kind)
    bar = _BAR[facts.kind]
    calls = job.unet(job.adaption).products * _CALLS_A_PRODUCT * config.accumulation
    rows = (config.batch_size + config.preservation_batch) * config.accumulation
    traffic = rows * _CROSSINGS * job.unet(job.adaption).kept * _COMPUTE_BYTES[config.precision]
    step = work / pace.flops + traffic / pace.bandwidth + calls * pace.launch
    encode = job.shape.picture_work(height=config.resolution, width=config.resolution).encode
    return Fit(
        device=facts.name,
        memory=memory,
        memory_low=int(memory.total * (1 - bar)),
        memory_high=int(memory.total * (1 + bar)),
        budget=facts.budget,
        step_flops=work,
        floor_share=floor / work,
        step_seconds=step,
        step_low=step * pace.low,
        step_high=step * pace.high,
        setup_seconds=job.images * encode / pace.flops,
        steps=config.max_train_steps,
        images_per_step=config.batch_size * config.accumulation,
        source=pace.source,
        measuring_seconds=_measuring_seconds(job, pace),
    )


def _measuring_seconds(job: Job, pace: Pace) -> float:
    """Seconds to draw the pictures that checkpoints are measured by; what encoders make of them is little."""
    config = job.config
    calls = measure_calls(config)
    unet, side = job.unet(job.adaption), config.resolution
    decode = job.shape.picture_work(height=side, width=side).decode
    pictures = calls / (2 * config.choose.steps)  # each is drawn with guidance: two calls a step
    # a forward pass makes a third of the launches of a step, for as many pictures as are drawn together
    launches = calls * unet.products * _CALLS_A_PRODUCT / 3 / MEASURE_BATCH * pace.launch
    return (calls * unet.forward + pictures * decode) / pace.flops + launches


def predict_memory(job: Job, *, kind: Literal["cpu", "cuda", "mps"]) -> Memory:
    """The peak of a step by parts, in bytes."""
    config = job.config
    unet, texts = job.unet(job.adaption), job.texts()
    trains_text = config.train_text_encoder
    picture = job.shape.picture_work(height=config.resolution, width=config.resolution)
    # text encoders and autoencoder stay in fp32
    others = 4 * (sum(work.parameters for work in texts) + picture.parameters)
    draws = bool(config.sample_interval or config.choose.measure)
    stay = trains_text or (draws and kind != "cuda")
    weights = unet.parameters * _WEIGHT_BYTES[config.precision]
    if kind == "cpu":
        weights += int(SECOND_COPIES * weights)
    pictures = (0 if stay else others) + 4 * _PICTURE_COPIES * picture.largest_decoding
    if not draws:  # pictures are encoded before the UNet is read
        pictures = max(0, others + 4 * _PICTURE_COPIES * picture.largest_encoding - weights)
    weights += others if stay else 0
    adapted = unet.network_parameters + (sum(work.network_parameters for work in texts) if trains_text else 0)
    each = 4 + 4 + _STATE_BYTES[config.optimizer.name] + (4 if config.ema is not None else 0)
    numbers = unet.kept_checkpointed if config.gradient_checkpointing else unet.kept
    rows = config.batch_size + config.preservation_batch
    copies, reorders = _SCRATCH[kind]
    scratch = rows * copies * unet.largest + reorders * unet.largest_weight
    activations = (rows * numbers + scratch) * _COMPUTE_BYTES[config.precision]
    if trains_text:
        activations += 4 * rows * sum(work.kept for work in texts)
    return Memory(
        weights=weights,
        network=adapted * each,
        activations=activations,
        pictures=pictures,
        process=_PROCESS[kind],
    )


def _step_flops(job: Job) -> tuple[float, float]:
    """FLOP of one optimiser step, and the part of them that no trainer could leave out."""
    config = job.config
    unet = job.unet(job.adaption)
    floor = unet.forward + unet.backward
    row = floor + (unet.recomputed if config.gradient_checkpointing else 0.0)
    kept = config.preservation_batch
    batch = (config.batch_size + kept) * row + kept * job.unet().forward
    if config.train_text_encoder:
        batch += (config.batch_size + kept) * sum(work.forward + work.backward for work in job.texts())
    return config.accumulation * batch, config.accumulation * config.batch_size * floor


def forecast(config: TrainConfig, *, images: int) -> Fit:
    """The prediction for `config` on the device that it would train on here.

    Loads torch, computes a few products where no maker's figure is known, and loads no model. Raises
    UsageError for a device or precision that is not there, BaseError for a base of an unknown shape.
    """
    facts = device_facts(config.device)
    check_precision(config, facts)
    shape = base_shape(config.base_model, config.sdx_version)
    captured = config.fast and facts.kind == "cuda"
    pace = stated_pace(facts, config.precision, captured=captured) or measured_pace(facts, config.precision)
    return predict_fit(Job(config, shape, images), facts=facts, pace=pace)


def refined(fit: Fit, step_seconds: float, *, memory: int, source: str) -> Fit:
    """The same prediction with the seconds of a step and the bytes at the peak as a trial measured them.

    What a trial does not draw, the whole training may: pictures need their own peak.
    """
    part = fit.memory
    drawn = part.weights + part.network + part.process + part.pictures
    peak = max(memory, drawn)
    return fit.model_copy(
        update={
            "step_seconds": step_seconds,
            "step_low": step_seconds * 0.85,
            "step_high": step_seconds * 1.15,
            "measuring_seconds": fit.measuring_seconds * step_seconds / fit.step_seconds,
            "source": source,
            "measured": memory,
            "memory_low": int(memory * 0.95),
            "memory_high": int(peak * 1.05),
        }
    )


def bar_of(kind: Literal["cpu", "cuda", "mps"]) -> float:
    """How far off a predicted memory may be, as a share."""
    return _BAR[kind]


def size(count: int) -> str:
    """Bytes as a short text."""
    return f"{count / _GB:.2f} GB" if count >= _GB else f"{count / (1 << 20):.0f} MB"


def _pace(seconds: float) -> str:
    return f"{seconds:.2f} s a step" if seconds >= 0.5 else f"{1000 * seconds:.3g} ms a step"
