"""What a step of training makes small: the error of the predicted noise, and the drift from the base."""

from __future__ import annotations

import torch
from torch import Tensor

from talent_factory.training.schedule import signal_to_noise


def denoising_loss(
    predicted_BCHW: Tensor,
    noise_BCHW: Tensor,
    *,
    alphas_cumprod: Tensor,
    timesteps_B: Tensor,
    min_snr_gamma: float | None,
) -> Tensor:
    """Mean squared error of the noise, each image weighted by min(SNR, gamma) / SNR: 0-dim float32.

    Source: Hang et al. 2023 (arXiv:2303.09556), eq. 7 for a model that predicts noise. None weighs all alike.
    """
    errors_B = (predicted_BCHW.float() - noise_BCHW.float()).square().flatten(1).mean(dim=1)
    if min_snr_gamma is None:
        return errors_B.mean()
    snr_B = signal_to_noise(alphas_cumprod, timesteps_B)
    weights_B = torch.clamp(snr_B, max=min_snr_gamma) / snr_B
    return (errors_B * weights_B.to(errors_B.device)).mean()


def preservation_loss(adapted_BCHW: Tensor, base_BCHW: Tensor) -> Tensor:
    """How far the adapted model has moved from the frozen base on prompts that do not name the subject.

    The aim of prior preservation (Ruiz et al. 2022, arXiv:2208.12242, eq. 2) without drawing class images:
    the base's own prediction is the target.
    """
    return (adapted_BCHW.float() - base_BCHW.detach().float()).square().mean()
