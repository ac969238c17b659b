"""What a step of training makes small: the error of the model's estimate, and the drift from the base.

Whatever depends on the timestep alone stands in a table that is made once: a step looks it up on the device
and never asks the host. Every loss comes image by image, so that the caller may average over a batch that is
spread over several micro-batches or machines.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from talent_factory.core.errors import ConfigError
from talent_factory.training.options import LossKeys

if TYPE_CHECKING:
    from talent_factory.training.families.port import Prediction


def target(
    prediction: Prediction,
    latents_BCHW: Tensor,
    noise_BCHW: Tensor,
    alphas_cumprod: Tensor,
    timesteps_B: Tensor,
) -> Tensor:
    """What the model should say of `add_noise(latents, noise)`: (B, C, H, W).

    The noise itself, or the velocity sqrt(a) noise - sqrt(1 - a) latents of Salimans & Ho 2022
    (arXiv:2202.00512, section 4).
    """
    if prediction == "epsilon":
        return noise_BCHW
    alpha = alphas_cumprod[timesteps_B].view(-1, 1, 1, 1)
    return alpha.sqrt() * noise_BCHW - (1.0 - alpha).sqrt() * latents_BCHW


def timestep_weights(keys: LossKeys, alphas_cumprod: Tensor, prediction: Prediction) -> Tensor:
    """How much an error at each timestep counts: (T,) float32, on the device of `alphas_cumprod`.

    `min-snr` is min(SNR, gamma) / SNR for a model of the noise and min(SNR, gamma) / (SNR + 1) for one of
    the velocity (Hang et al. 2023, arXiv:2303.09556). `debiased` is 1 / sqrt(SNR) (Yu et al. 2023,
    arXiv:2310.08442). An error of the velocity is the error of the noise times sqrt(1 + 1 / SNR), so that
    for it the same objective is sqrt(SNR) / (SNR + 1).

    Raises ConfigError where a weight would be infinite.
    """
    alpha = alphas_cumprod.double()
    snr = alpha / (1.0 - alpha)
    if keys.weighting == "none":
        weights = torch.ones_like(snr)
    elif keys.weighting == "min-snr" and prediction == "epsilon":
        # gamma / max(SNR, gamma) is min(SNR, gamma) / SNR without its 0 / 0 at pure noise
        weights = keys.min_snr_gamma / snr.clamp(min=keys.min_snr_gamma)
    elif keys.weighting == "min-snr":
        weights = snr.clamp(max=keys.min_snr_gamma) / (snr + 1.0)
    elif prediction == "epsilon":
        weights = snr.rsqrt()
    else:
        weights = snr.sqrt() / (snr + 1.0)
    if not bool(weights.isfinite().all()):
        raise ConfigError(
            f"loss.weighting {keys.weighting} is infinite where a schedule ends in pure noise",
            remedy="write noise.zero_terminal_snr: false, or train a base that predicts the velocity",
        )
    return weights.float()


def huber_widths(keys: LossKeys, alphas_cumprod: Tensor) -> Tensor:
    """The error at which huber and smooth-l1 turn from square to linear, at each timestep: (T,) float32.

    `constant` is `huber_c` everywhere. `exponential` falls from 1 at the first timestep towards `huber_c`;
    `snr` is (1 - huber_c) / (1 + sigma)^2 + huber_c with sigma^2 = 1 / SNR: outliers pull less where much
    noise makes them likely (Khrapov et al. 2024, arXiv:2403.16728).
    """
    alpha = alphas_cumprod.double()
    if keys.huber_schedule == "constant":
        widths = torch.full_like(alpha, keys.huber_c)
    elif keys.huber_schedule == "exponential":
        along = torch.arange(len(alpha), device=alpha.device, dtype=alpha.dtype) / len(alpha)
        widths = torch.exp(along * math.log(keys.huber_c))
    else:
        # 1 / (1 + sigma)^2 written so that alpha 0, where sigma is infinite, gives 0
        share = (alpha.sqrt() / (alpha.sqrt() + (1.0 - alpha).sqrt())).square()
        widths = (1.0 - keys.huber_c) * share + keys.huber_c
    return widths.float()


def denoising_loss(
    estimate_BCHW: Tensor,
    target_BCHW: Tensor,
    *,
    weights_B: Tensor,
    keys: LossKeys,
    mask_B1HW: Tensor | None = None,
    widths_B: Tensor | None = None,
) -> Tensor:
    """The error of each image, averaged over its pixels and weighted: (B,) float32.

    Args:
        weights_B: the rows of `timestep_weights` for the timesteps of the batch.
        mask_B1HW: 1 inside what matters, 0 outside, fractions between; outside counts `keys.outside`. The
            average is over these weights, so that a small face has the same pull as a large one.
        widths_B: the rows of `huber_widths`; needed unless `keys.kind` is l2.

    The robust losses are the smooth form of Huber's (Charbonnier et al. 1994), 2c (sqrt(e^2 + c^2) - c):
    e^2 for small errors and 2c |e| for large ones. smooth-l1 is the same divided by c.
    """
    errors = estimate_BCHW.float() - target_BCHW.float()
    if keys.kind == "l2":
        errors = errors.square()
    else:
        if widths_B is None:
            raise ValueError(f"a {keys.kind} loss needs widths_B")
        errors = _robust(errors, widths_B.view(-1, 1, 1, 1), scaled=keys.kind == "huber")
    if mask_B1HW is None:
        return errors.flatten(1).mean(dim=1) * weights_B
    pixels_B1HW = keys.outside + (1.0 - keys.outside) * mask_B1HW
    weighed = (errors * pixels_B1HW).flatten(1).mean(dim=1)
    # an empty mask with nothing counted outside leaves no pixel: its error is 0, not 0 / 0
    return weighed / pixels_B1HW.flatten(1).mean(dim=1).clamp(min=1e-6) * weights_B


def _robust(errors: Tensor, width: Tensor, *, scaled: bool) -> Tensor:
    # e^2 / (sqrt(e^2 + c^2) + c) is sqrt(e^2 + c^2) - c without the difference of two near numbers
    squared = errors.square()
    gain = 2.0 * squared / ((squared + width.square()).sqrt() + width)
    return gain * width if scaled else gain


def preservation_loss(adapted_BCHW: Tensor, base_BCHW: Tensor) -> Tensor:
    """How far the adapted model has moved from the frozen base on prompts that do not name the subject: (B,).

    The aim of prior preservation (Ruiz et al. 2022, arXiv:2208.12242, eq. 2) without drawing class images:
    the base's own prediction is the target.
    """
    return (adapted_BCHW.float() - base_BCHW.detach().float()).square().flatten(1).mean(dim=1)
