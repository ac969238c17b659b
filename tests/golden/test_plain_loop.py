"""The trainer's steps against a loop written out plainly: diffusers' UNet, peft's layers, torch's AdamW.

Both get the same first weights and the same draws; from there on nothing is shared. What the trainer does for
speed (fused layers, flat vectors, tables on the device, packed weights) may change the last bits, no more.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor

from talent_factory.core.events import SilentReporter
from talent_factory.dataset.manifest import load_dataset
from talent_factory.training import runs
from talent_factory.training.adapters import attach_adapters
from talent_factory.training.bank import TextRows
from talent_factory.training.config import TrainConfig
from talent_factory.training.families import load_base
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.loop import train
from talent_factory.training.lora import UNET_PREFIX, kohya_name, target_layers
from talent_factory.training.material import gather
from talent_factory.training.parallel import world
from talent_factory.training.tiny_data import make_tiny_dataset
from talent_factory.training.windows import Windows

STEPS = 20
PARTS = {"lora_down": "lora_A", "lora_up": "lora_B"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny base and pictures of three shapes."""
    root = tmp_path_factory.mktemp("plain")
    shapes = ((32, 32), (48, 32), (32, 48))
    data = make_tiny_dataset(root / "dataset", token="plain", images=7, shapes=shapes)
    return make_random_base(root / "base", seed=5), data


@pytest.mark.parametrize(
    ("precision", "targets", "loss_error", "weight_error"),
    [
        ("fp32", "transformer", 1e-5, 1e-4),
        ("fp32", "transformer+conv", 1e-5, 1e-4),
        ("bf16", "transformer", 5e-3, 0.02),
    ],
)
def test_same_losses_and_weights(
    folders: tuple[Path, Path],
    tmp_path: Path,
    precision: str,
    targets: str,
    loss_error: float,
    weight_error: float,
) -> None:
    base, data = folders
    config = TrainConfig.model_validate(
        {
            "id": "avatar.identity.plain", "kind": "lora", "sdx_version": "1.5", "base_model": str(base),
            "train_data_dir": "unused", "resolution": 64, "lora_rank": 4, "lora_alpha": 2.0,
            "max_train_steps": STEPS, "learning_rate": 2e-3, "batch_size": 2, "token": "plain", "seed": 11,
            "accumulation": 2, "warmup_steps": 3, "flip": True, "captions": {"dropout": 0.2},
            "sample_every": 0, "device": "cpu", "precision": precision, "targets": targets,
        }
    )  # fmt: skip
    train(config, dataset=data, run=tmp_path / "run", cache=tmp_path / "cache")
    found = [line["loss"] for line in runs.read_losses(tmp_path / "run")]
    losses, weights = plain_loop(config, base, data, cache=tmp_path / "cache")
    assert found == pytest.approx(losses, rel=loss_error)
    assert min(losses) < 0.999 * losses[0] or max(losses) > 1.001 * losses[0]  # the steps do differ
    trained = _file(tmp_path / "run" / runs.LORA_FILE)
    assert trained.keys() == weights.keys()
    moved = torch.cat([tensor.flatten() for tensor in weights.values()])
    apart = torch.cat([(trained[name].float() - tensor).flatten() for name, tensor in weights.items()])
    assert apart.norm() < weight_error * moved.norm()


def plain_loop(
    config: TrainConfig, folder: Path, data: Path, *, cache: Path
) -> tuple[list[float], dict[str, Tensor]]:
    """Train as the config says, op by op; returns the losses and the kohya tensors without alphas."""
    from diffusers import UNet2DConditionModel

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[config.precision]
    windows, banks, texts, first, alphas = _draws(config, folder, data, cache)
    unet: Any = UNet2DConditionModel.from_pretrained(
        folder, subfolder="unet", torch_dtype=dtype, low_cpu_mem_usage=False
    )
    paths = {kohya_name(path, UNET_PREFIX): path for path, _ in unet.named_modules()}
    layers = {paths[name]: name for name, _ in target_layers(unet, targets=config.targets)}
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=config.lora_rank, lora_alpha=config.alpha, target_modules=list(layers)))
    parameters = {
        f"{name}.{ours}.weight": getattr(unet.get_submodule(path), theirs)["default"].weight
        for path, name in layers.items()
        for ours, theirs in PARTS.items()
    }
    for name, parameter in parameters.items():
        parameter.data = first[name].clone()
    optimizer = torch.optim.AdamW(
        parameters.values(),
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        weight_decay=config.optimizer.weight_decay,
    )
    losses = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = config.learning_rate * _rate(step, config.warmup_steps)
        optimizer.zero_grad()
        total = 0.0
        for part in range(config.accumulation):
            batch = windows.batch(step * config.accumulation + part)
            bank = banks[batch.size]
            latents = bank.mean[batch.rows_B] + bank.deviation[batch.rows_B] * batch.posterior_BCHW
            alpha = alphas[batch.timesteps_B].view(-1, 1, 1, 1)
            noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * batch.noise_BCHW
            words = texts(batch.texts_B).context_BTC
            with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                said = unet(noisy.to(dtype), batch.timesteps_B, words.to(dtype)).sample
            ratio = (alpha / (1 - alpha)).flatten()
            errors = (said.float() - batch.noise_BCHW).square().flatten(1).mean(1)
            loss = (errors * ratio.clamp(max=config.loss.min_snr_gamma) / ratio).mean() / config.accumulation
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), config.max_grad_norm)
        optimizer.step()
        losses.append(total)
    return losses, {name: parameter.detach() for name, parameter in parameters.items()}


def _draws(
    config: TrainConfig, folder: Path, data: Path, cache: Path
) -> tuple[Windows, Any, TextRows, dict[str, Tensor], Tensor]:
    """What is handed to the plain loop: batches, images, texts, first weights and the schedule."""
    base = load_base(folder)
    with world() as alone:
        material = gather(
            base,
            config,
            load_dataset(data).items,
            dataset=data,
            cache=cache,
            world=alone,
            reporter=SilentReporter(),
        )
        share = alone.share(config.batch_size)
    windows = Windows(
        lottery=material.lottery,
        banks=material.banks,
        share=share,
        timesteps=len(base.alphas_cumprod),
        channels=base.latent_channels,
        offset=0.0,
        device=torch.device("cpu"),
    )
    first = attach_adapters(base, config).state()
    return windows, material.banks, material.frozen_texts, first, base.alphas_cumprod


def _rate(step: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (STEPS - warmup)))


def _file(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {name: tensor for name, tensor in load_file(path).items() if not name.endswith(".alpha")}
