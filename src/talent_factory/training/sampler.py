"""Draw images from a base with DPM-Solver++(2M), one small function a step as in k-diffusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talent_factory.training.families.port import Base, join_texts

Denoiser = Callable[[Tensor, Tensor], Tensor]
BeforeStep = Callable[[int, int], None]
"""Hears the index of the step to come, from 0, and the number of steps."""


def model_sigmas(alphas_cumprod: Tensor) -> Tensor:
    """The noise levels sqrt((1 - a) / a) that the model was trained at: (T,) rising float32.

    A schedule that ends in pure noise counts as ending at 4096, as in diffusers: samplers need a number.
    """
    alphas = alphas_cumprod.clamp_min(2.0**-24)
    return ((1.0 - alphas) / alphas).sqrt()


def sampling_sigmas(alphas_cumprod: Tensor, steps: int) -> Tensor:
    """`steps` noise levels spread evenly over the timesteps, from the noisiest down, then 0: (steps + 1,)."""
    log_sigmas = model_sigmas(alphas_cumprod).log()
    times = torch.linspace(len(log_sigmas) - 1, 0, steps)
    low = times.floor().long()
    high = times.ceil().long()
    between = times - low
    levels = ((1.0 - between) * log_sigmas[low] + between * log_sigmas[high]).exp()
    return torch.cat([levels, torch.zeros(1)])


def sigma_to_timestep(alphas_cumprod: Tensor, sigma: Tensor) -> Tensor:
    """The (fractional) timestep of a noise level, by interpolation in log sigma: 0-dim float32."""
    log_sigmas = model_sigmas(alphas_cumprod).log()
    log_sigma = sigma.log()
    high = int(torch.searchsorted(log_sigmas, log_sigma).clamp(1, len(log_sigmas) - 1))
    below, above = log_sigmas[high - 1], log_sigmas[high]
    return (high - 1 + ((log_sigma - below) / (above - below)).clamp(0, 1)).float()


def dpmpp_2m(
    model: Denoiser, x_BCHW: Tensor, sigmas: Tensor, before_step: BeforeStep | None = None
) -> Tensor:
    """DPM-Solver++(2M) in the data-prediction form: (B, C, H, W).

    `model(x, sigma)` gives the denoised x; `before_step` hears the step's index and how many there are.
    Source: Lu et al. 2022 (arXiv:2211.01095), algorithm 2, in the variables of k-diffusion `sample_dpmpp_2m`.
    """
    previous: Tensor | None = None
    for i in range(len(sigmas) - 1):
        if before_step is not None:
            before_step(i, len(sigmas) - 1)
        denoised = model(x_BCHW, sigmas[i])
        if sigmas[i + 1] == 0:
            return denoised
        step = (sigmas[i] / sigmas[i + 1]).log()
        direction = denoised
        if previous is not None:
            ratio = (sigmas[i - 1] / sigmas[i]).log() / step
            direction = denoised + (denoised - previous) / (2.0 * ratio)
        x_BCHW = (sigmas[i + 1] / sigmas[i]) * x_BCHW - (-step).expm1() * direction
        previous = denoised
    return x_BCHW


def initial_noise(seeds: Sequence[int], shape_CHW: tuple[int, int, int]) -> Tensor:
    """Standard noise (B, C, H, W), each image from its own seed: the batch it stands in does not matter."""
    return torch.stack(
        [torch.randn(shape_CHW, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


@torch.no_grad()
def sample(
    base: Base,
    *,
    prompts: Sequence[str],
    negative: str = "",
    seeds: Sequence[int],
    steps: int = 20,
    guidance: float = 5.0,
    size: tuple[int, int] | None = None,
    batch: int = 8,
    before_step: BeforeStep | None = None,
) -> NDArray[np.uint8]:
    """Render one image for each prompt and seed: (B, H, W, 3) uint8, RGB.

    `size` is (height, width) in pixels, the base's own side when None. A LoRA takes part when it is attached
    to or merged into the base's modules; `before_step` may change it from step to step, but in the text
    encoders, which read a prompt once. Guidance 1 skips the unconditional half (Ho & Salimans 2022).
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
    height, width = size or (base.resolution, base.resolution)
    shape = (base.latent_channels, base.latent_side(height), base.latent_side(width))
    sigmas = sampling_sigmas(base.alphas_cumprod, steps)
    images: list[NDArray[np.uint8]] = []
    for start in range(0, len(prompts), batch):
        chosen = list(prompts[start : start + batch])
        noise = initial_noise(seeds[start : start + batch], shape).to(base.device)
        model = _guided(base, chosen, negative=negative, guidance=guidance)
        latents = dpmpp_2m(model, noise * (sigmas[0] ** 2 + 1.0).sqrt(), sigmas, before_step)
        images.extend(to_uint8(base.decode(latents)))
    if not images:
        return np.zeros((0, height, width, 3), np.uint8)
    return np.stack(images)


def to_uint8(images_BCHW: Tensor) -> NDArray[np.uint8]:
    """Images in -1..1 as (B, H, W, 3) uint8."""
    scaled = ((images_BCHW.float() + 1.0) * 127.5).round().clamp(0, 255)
    array: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
    return array


def _guided(base: Base, prompts: list[str], *, negative: str, guidance: float) -> Denoiser:
    """The base as a denoiser of x at sigma, with classifier-free guidance in one call of the UNet."""
    text = base.encode_prompts(prompts)
    if guidance != 1.0:
        unwanted = base.encode_prompts([negative])[[0] * len(prompts)]
        text = join_texts([text, unwanted])

    def denoise(x_BCHW: Tensor, sigma: Tensor) -> Tensor:
        scaled = x_BCHW / (sigma**2 + 1.0).sqrt()
        if guidance != 1.0:
            scaled = torch.cat([scaled, scaled])
        timestep = sigma_to_timestep(base.alphas_cumprod, sigma).to(x_BCHW.device)
        estimate = base.predict(scaled, timestep.expand(len(scaled)), text)
        if guidance != 1.0:
            wanted, plain = estimate.chunk(2)
            estimate = plain + guidance * (wanted - plain)
        if base.prediction == "v_prediction":
            # x0 = a x_t - s v with a^2 + s^2 = 1, written for x = x_t / a at this sigma
            return x_BCHW / (sigma**2 + 1.0) - estimate * sigma / (sigma**2 + 1.0).sqrt()
        return x_BCHW - sigma * estimate

    return denoise
