"""How noise grows over the timesteps of a v1 model, and how the learning rate goes over a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from talent_factory.core.errors import ConfigError
from talent_factory.training.config import LearningRateCurve
from talent_factory.training.options import NoiseKeys

if TYPE_CHECKING:
    from talent_factory.training.families.port import Prediction


def v1_alphas_cumprod(*, steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Tensor:
    """The `scaled_linear` schedule of Stable Diffusion 1.x: (steps,) float32, falling from ~1 to ~0.005.

    Source: Rombach et al. 2022 (arXiv:2112.10752), configs/stable-diffusion/v1-inference.yaml.
    """
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0).float()


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """The same schedule, shifted and stretched so that its last timestep is pure noise: (T,) float32.

    Source: Lin et al. 2023 (arXiv:2305.08891), algorithm 1. The first timestep keeps its value.
    """
    signal = alphas_cumprod.double().sqrt()
    first, last = signal[0], signal[-1]
    return ((signal - last) * (first / (first - last))).square().float()


def training_schedule(keys: NoiseKeys, alphas_cumprod: Tensor, prediction: Prediction) -> Tensor:
    """The schedule to train, validate and draw samples with: (T,) float32, that of the base unless asked.

    Raises ConfigError for a zero terminal SNR on a base that predicts noise: at pure noise its answer says
    nothing about the image.
    """
    if not keys.zero_terminal_snr:
        return alphas_cumprod
    if prediction == "epsilon":
        raise ConfigError(
            "noise.zero_terminal_snr needs a base that predicts the velocity, this one predicts noise",
            remedy="write noise.zero_terminal_snr: false; noise.offset: 0.05 also reaches darker images",
        )
    return zero_terminal_snr(alphas_cumprod)


def add_noise(
    latents_BCHW: Tensor, noise_BCHW: Tensor, alphas_cumprod: Tensor, timesteps_B: Tensor
) -> Tensor:
    """The forward process q(x_t | x_0) (Ho et al. 2020, eq. 4): (B, C, H, W)."""
    alpha = alphas_cumprod[timesteps_B].view(-1, 1, 1, 1)
    return alpha.sqrt() * latents_BCHW + (1.0 - alpha).sqrt() * noise_BCHW


def signal_to_noise(alphas_cumprod: Tensor, timesteps_B: Tensor) -> Tensor:
    """The ratio alpha / (1 - alpha) at each timestep: (B,)."""
    alpha = alphas_cumprod[timesteps_B]
    return alpha / (1.0 - alpha)


def learning_rate_factor(
    step: int, *, total: int, warmup: int = 0, curve: LearningRateCurve = "cosine", floor: float = 0.0
) -> float:
    """The share of the peak learning rate at `step` (0-based) of `total`; a pure function."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if curve == "constant":
        return 1.0
    along = (step - warmup) / max(1, total - warmup)
    fall = 1.0 - along if curve == "linear" else 0.5 * (1.0 + math.cos(math.pi * along))
    return floor + (1.0 - floor) * fall
