"""Predictions of memory and time: parts that add up, bars that hold what is measured here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from talent_factory.core.errors import TalentError, UsageError
from talent_factory.training.config import TrainConfig
from talent_factory.training.devices import DeviceFacts, Pace, device_facts, measured_pace, stated_pace
from talent_factory.training.fit import Job, predict_fit, predict_memory, refined
from talent_factory.training.shapes import base_shape
from talent_factory.training.trial import Stopwatch, run_trial, trial_config

GB = 1 << 30
PACE = Pace(flops=1e12, bandwidth=1e11, launch=1e-6, low=0.5, high=2.0, source="a test")
H200 = DeviceFacts(
    kind="cuda", name="NVIDIA H200", memory=140 * GB, free=139 * GB, cores=8, bf16=True, peak_flops=790e12
)


def _job(**keys: Any) -> Job:
    base: dict[str, Any] = {
        "id": "avatar.identity.someone",
        "kind": "lora",
        "sdx_version": "1.5",
        "base_model": "someone/some-model",
        "train_data_dir": "nowhere",
        "resolution": 512,
        "lora_rank": 16,
        "max_train_steps": 100,
        "learning_rate": 1e-4,
        "batch_size": 1,
        "token": "someone",
        "precision": "bf16",
    }
    config = TrainConfig(**{**base, **keys})
    return Job(config, base_shape(config.base_model, config.sdx_version))


def test_a_step_at_the_stated_pace_is_the_known_floor() -> None:
    """452 images a second at 790 TFLOP/s, as the arithmetic says."""
    ideal = Pace(flops=790e12, bandwidth=1e30, launch=0.0, low=1.0, high=1.0, source="the floor")
    fit = predict_fit(_job(), facts=H200, pace=ideal)
    assert 1 / fit.step_seconds == pytest.approx(452, abs=1)
    assert fit.floor_share == 1.0
    again = predict_fit(_job(gradient_checkpointing=True), facts=H200, pace=ideal)
    assert 0.68 < again.floor_share < 0.75


def test_work_grows_with_what_makes_a_step() -> None:
    def flops(**keys: Any) -> float:
        return predict_fit(_job(**keys), facts=H200, pace=PACE).step_flops

    one = flops()
    assert flops(batch_size=4) == pytest.approx(4 * one)
    assert flops(accumulation=8) == pytest.approx(8 * one)
    assert one < flops(train_text_encoder=True) < 1.1 * one
    assert flops(prior_weight=0.5, prior_batch=1) > 2.4 * one
    assert flops(lora_rank=128) == pytest.approx(1.982 / 1.747 * one, rel=1e-3)


def test_memory_goals_on_a_card_are_within_reach() -> None:
    assert predict_fit(_job(), facts=H200, pace=PACE).memory_high < 8 * GB
    assert predict_fit(_job(gradient_checkpointing=True), facts=H200, pace=PACE).memory_high < 5 * GB


def test_memory_by_parts() -> None:
    small, large = predict_memory(_job(), kind="cuda"), predict_memory(_job(batch_size=8), kind="cuda")
    assert large.weights == small.weights
    assert 7 * small.activations < large.activations <= 8 * small.activations
    assert predict_memory(_job(precision="fp32"), kind="cuda").weights > 1.6 * small.weights
    # a processor packs its largest convolutions twice
    unet = 2 * 859_520_964
    assert predict_memory(_job(sample_every=0), kind="cpu").weights == int(1.15 * unet)
    # text encoders and autoencoder leave when all is encoded, unless they are needed again
    assert small.weights == unet
    others = predict_memory(_job(train_text_encoder=True), kind="cuda").weights - unet
    assert 0.7e9 < others < 0.9e9
    assert predict_memory(_job(), kind="cpu").weights == int(1.15 * unet) + others
    assert small.pictures > others > predict_memory(_job(sample_every=0), kind="cuda").pictures
    eight_bit = predict_memory(_job(optimizer={"name": "adamw8bit"}), kind="cuda")
    assert eight_bit.network < small.network < predict_memory(_job(ema=0.99), kind="cuda").network
    assert predict_memory(_job(train_text_encoder=True), kind="cuda").network > small.network
    assert small.total == small.weights + small.network + small.process + max(
        small.activations, small.pictures
    )


def test_the_verdict_is_what_the_bar_leaves_to_say() -> None:
    def verdict(memory: float) -> str:
        facts = H200.model_copy(update={"memory": int(memory * GB), "free": int(memory * GB)})
        return predict_fit(_job(), facts=facts, pace=PACE).verdict

    assert [verdict(size) for size in (2, 4.4, 12)] == ["does not fit", "may fit", "fits"]


def test_the_words_and_the_plan_name_what_matters() -> None:
    fit = predict_fit(_job(), facts=H200, pace=PACE)
    text = "\n".join(fit.lines())
    for part in ("fits on NVIDIA H200", "activations", "TFLOP a step", "100 steps", "a test"):
        assert part in text
    plan = fit.plan("a title")
    assert plan.seconds == pytest.approx(fit.seconds)
    assert plan.memory_mb == pytest.approx(fit.memory.total / 2**20)
    better = refined(fit, 0.5, memory=5 * GB, source="ten steps measured")
    assert (better.step_seconds, better.step_low, better.step_high) == (0.5, 0.425, 0.575)
    assert better.memory_high == int(5 * GB * 1.05)
    assert "5.00 GB measured" in better.lines()[0]


def test_measuring_takes_its_share_of_the_time() -> None:
    plain = predict_fit(_job(), facts=H200, pace=PACE)
    job = _job(choose={"measure": True, "steps": 10, "prompts": 4, "seeds": 1, "weights": [1.0], "every": 50})
    fit = predict_fit(job, facts=H200, pace=PACE)
    assert plain.measuring_seconds == 0.0
    # the base and two checkpoints draw 4 and 2 pictures each, the report 3 times 4; 20 passes a picture
    calls, unet = 20 * (3 * 6 + 3 * 4), job.unet(job.adaption)
    assert fit.measuring_seconds > calls * unet.forward / PACE.flops
    assert fit.seconds == pytest.approx(plain.seconds + fit.measuring_seconds)
    assert "checkpoints are measured by" in fit.lines()[2]
    assert "measured by" not in plain.lines()[2]
    assert fit.plan("a title").seconds == pytest.approx(fit.seconds)
    slower = refined(fit, 2 * fit.step_seconds, memory=GB, source="ten steps measured")
    assert slower.measuring_seconds == pytest.approx(2 * fit.measuring_seconds)
    assert slower.seconds - slower.setup_seconds == pytest.approx(2 * (fit.seconds - fit.setup_seconds))


def test_a_pace_is_stated_for_known_cards_and_measured_here() -> None:
    stated = stated_pace(H200, "bf16", captured=True)
    assert stated is not None
    assert stated.flops == pytest.approx(0.45 * 790e12)
    assert stated_pace(H200.model_copy(update={"peak_flops": None}), "bf16", captured=True) is None
    facts = device_facts("cpu")
    assert facts.kind == "cpu"
    assert 0 < facts.budget <= facts.memory
    measured = measured_pace(facts, "fp32", seconds=0.02)
    assert 1e8 < measured.flops < 1e14
    assert 1e7 < measured.bandwidth < 1e13


def test_a_device_that_is_not_there() -> None:
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no GPU"):
            device_facts("cuda")
    if not torch.backends.mps.is_available():
        with pytest.raises(UsageError, match="Apple"):
            device_facts("mps")


@pytest.mark.gpu
def test_the_facts_of_a_card() -> None:
    facts = device_facts("cuda")
    assert facts.kind == "cuda"
    assert facts.free <= facts.memory
    assert measured_pace(facts, "bf16", seconds=0.1).flops > 1e11


def test_a_stopwatch_takes_the_last_word_of_a_group() -> None:
    watch = Stopwatch()
    watch.heard = [(step, 10.0) for step in range(1, 4)] + [(step, 15.0) for step in range(4, 14)]
    assert watch.step_seconds() == pytest.approx(0.5)
    watch.heard = [(step, 10.0 + step) for step in range(1, 14)]
    assert watch.step_seconds() == pytest.approx(1.0)
    watch.heard = [(13, 10.0)]
    with pytest.raises(TalentError, match="too few"):
        watch.step_seconds()


def test_a_trial_draws_and_measures_nothing() -> None:
    config = trial_config(_job(sample_every=1, max_train_steps=9999, batch_size=3).config)
    assert (config.max_train_steps, config.sample_interval, config.batch_size) == (13, 0, 3)


# A step of a UNet in a fresh process: prints the bytes that its peak is above the process before it.
_STEP = """
import json, sys, torch, diffusers, transformers
_ = (diffusers.UNet2DConditionModel, diffusers.AutoencoderKL, transformers.CLIPTextModel)
config, side, rank, precision = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
words, width = int(sys.argv[5]), int(sys.argv[6])
dtype = getattr(torch, precision)
with torch.device("meta"):
    unet = diffusers.UNet2DConditionModel(**config)
unet = unet.to(dtype).to_empty(device="cpu").requires_grad_(False)
with torch.no_grad():
    for weight in unet.parameters():
        weight.fill_(1e-3)
unet.to(memory_format=torch.channels_last)
from talent_factory.training.lora.names import target_paths
trained = []
for path, layer in target_paths(unet, "transformer"):
    down = torch.nn.Parameter(torch.zeros(rank, layer.weight.shape[1]))
    up = torch.nn.Parameter(torch.zeros(layer.weight.shape[0], rank))
    trained += [down, up]
    def add(module, inputs, output, down=down, up=up):
        x = inputs[0]
        if x.ndim == 4:
            d, u = down[:, :, None, None].to(x.dtype), up[:, :, None, None].to(x.dtype)
            return output + torch.nn.functional.conv2d(torch.nn.functional.conv2d(x, d), u)
        return output + x @ down.T.to(x.dtype) @ up.T.to(x.dtype)
    layer.register_forward_hook(add)
optimizer = torch.optim.AdamW(trained, fused=True)
latents, context = torch.zeros(1, 4, side, side, dtype=dtype), torch.zeros(1, words, width, dtype=dtype)
latents = latents.to(memory_format=torch.channels_last)
for _ in range(2):
    unet(latents, torch.zeros(1), context).sample.float().square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
# ru_maxrss would also count the process that started this one
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps(int(peak.split()[1]) * 1024))
"""


def _measured(job: Job, precision: str) -> int:
    shape = job.shape
    config = {key: value for key, value in shape.unet.items() if not key.startswith("_")}
    words = [json.dumps(config), str(job.config.resolution // shape.pixels_per_latent), "16", precision]
    words += [str(shape.words), str(config["cross_attention_dim"])]
    done = subprocess.run(
        [sys.executable, "-c", _STEP, *words], capture_output=True, text=True, check=True, timeout=280
    )
    return int(done.stdout.splitlines()[-1])


def _expected(job: Job) -> float:
    """The prediction for the measured process, which packs nothing and loads the UNet alone.

    Without samples to draw, text encoder and autoencoder are no part of the weights.
    """
    memory = predict_memory(job, kind="cpu")
    unet = memory.weights / 1.15
    return unet + memory.network + memory.activations + memory.process


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts the peak as Linux does")
@pytest.mark.parametrize(
    ("keys", "precision"),
    [
        ({"base_model": "mini", "resolution": 128, "precision": "fp32", "sample_every": 0}, "float32"),
        ({"resolution": 256, "precision": "bf16", "sample_every": 0}, "bfloat16"),
    ],
)
def test_the_bar_holds_the_peak_of_a_real_process(keys: dict[str, Any], precision: str) -> None:
    job = _job(**keys)
    assert _measured(job, precision) == pytest.approx(_expected(job), rel=0.2)


@pytest.mark.slow
def test_ten_real_steps(tmp_path: Path) -> None:
    from talent_factory.training.families.random_base import make_random_base
    from talent_factory.training.tiny_data import make_tiny_dataset

    base = make_random_base(tmp_path / "base")
    data = make_tiny_dataset(tmp_path / "dataset")
    job = _job(base_model=str(base), resolution=64, precision="fp32", batch_size=2, device="cpu")
    trial = run_trial(job.config, dataset=data)
    assert trial.step_seconds > 0
    assert trial.memory > 100 << 20
    with pytest.raises(TalentError, match="trial of 10 steps failed"):
        run_trial(job.config, dataset=tmp_path / "nowhere")
