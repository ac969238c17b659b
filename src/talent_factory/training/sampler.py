"""Draw images from a base with DPM-Solver++(2M), one small function a step as in k-diffusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talent_factory.training.families.port import Base, TextStates, join_texts

Denoiser = Callable[[Tensor, Tensor], Tensor]
BeforeStep = Callable[[int, int], None]
"""Hears the index of the step to come, from 0, and the number of steps."""
AfterStep = Callable[[int, int, Tensor], None]
"""Hears the index of the step that was done, the number of steps, and the denoised latents."""
Residuals = Callable[[Tensor, Tensor, TextStates], dict[str, Any]]
"""From scaled latents, timesteps and texts, all (B, ...), further arguments of the UNet."""


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
    model: Denoiser,
    x_BCHW: Tensor,
    sigmas: Tensor,
    *,
    before_step: BeforeStep | None = None,
    after_step: AfterStep | None = None,
) -> Tensor:
    """DPM-Solver++(2M) in the data-prediction form: (B, C, H, W).

    `model(x, sigma)` gives the denoised x; the hooks hear the step's index and how many there are.
    Source: Lu et al. 2022 (arXiv:2211.01095), algorithm 2, in the variables of k-diffusion `sample_dpmpp_2m`.
    """
    previous: Tensor | None = None
    for i in range(len(sigmas) - 1):
        if before_step is not None:
            before_step(i, len(sigmas) - 1)
        denoised = model(x_BCHW, sigmas[i])
        if after_step is not None:
            after_step(i, len(sigmas) - 1, denoised)
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
) -> NDArray[np.uint8]:
    """Render one image for each prompt and seed: (B, H, W, 3) uint8, RGB.

    `size` is (height, width) in pixels, the base's own side when None. A LoRA takes part when it is attached
    to or merged into the base's modules. Guidance 1 skips the unconditional half (Ho & Salimans 2022).
    `draw` takes hooks too.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
    height, width = size or (base.resolution, base.resolution)
    manner = Manner(steps=steps, guidance=guidance, negative=negative, size=(height, width))
    texts = Texts(base)
    drawn = [
        draw(texts, prompts[start : start + batch], seeds=seeds[start : start + batch], manner=manner)
        for start in range(0, len(prompts), batch)
    ]
    return np.concatenate(drawn) if drawn else np.zeros((0, height, width, 3), np.uint8)


@dataclass(frozen=True)
class Manner:
    """How to draw; `size` is (height, width) in pixels, the base's own side when None."""

    steps: int = 20
    guidance: float = 5.0
    negative: str = ""
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Hooks:
    """Who listens while a batch is drawn, and who bends it."""

    before_step: BeforeStep | None = None
    """May change the weights of the UNet; the text encoders have read by then."""
    after_step: AfterStep | None = None
    residuals: Residuals | None = None
    """A ControlNet, say."""


class Texts:
    """The prompts that a base has read: each is read once and alone, so its neighbours never matter.

    Good for as long as the text encoders keep their weights.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self._known: dict[str, TextStates] = {}

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> TextStates:
        """The states of the prompts below each other, in the UNet's precision."""
        for prompt in prompts:
            if prompt not in self._known:
                self._known[prompt] = self.base.encode_prompts([prompt])
        joined = join_texts([self._known[prompt] for prompt in prompts])
        pooled = joined.pooled_BD
        dtype = self.base.dtype
        return TextStates(joined.context_BTC.to(dtype), None if pooled is None else pooled.to(dtype))


@torch.no_grad()
def draw(
    texts: Texts, prompts: Sequence[str], *, seeds: Sequence[int], manner: Manner, hooks: Hooks = Hooks()
) -> NDArray[np.uint8]:
    """Render one batch: an image for each prompt and seed, (B, H, W, 3) uint8, RGB."""
    base = texts.base
    height, width = manner.size or (base.resolution, base.resolution)
    shape = (base.latent_channels, base.latent_side(height), base.latent_side(width))
    sigmas = sampling_sigmas(base.alphas_cumprod, manner.steps)
    noise = initial_noise(seeds, shape).to(base.device)
    model = _guided(texts, list(prompts), manner=manner, residuals=hooks.residuals)
    start = noise * (sigmas[0] ** 2 + 1.0).sqrt()
    latents = dpmpp_2m(model, start, sigmas, before_step=hooks.before_step, after_step=hooks.after_step)
    return to_uint8(base.decode(latents))


def to_uint8(images_BCHW: Tensor) -> NDArray[np.uint8]:
    """Images in -1..1 as (B, H, W, 3) uint8."""
    scaled = ((images_BCHW.float() + 1.0) * 127.5).round().clamp(0, 255)
    array: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
    return array


def _guided(texts: Texts, prompts: list[str], *, manner: Manner, residuals: Residuals | None) -> Denoiser:
    """The base as a denoiser of x at sigma, with classifier-free guidance in one call of the UNet."""
    base, guidance = texts.base, manner.guidance
    text = texts(prompts if guidance == 1.0 else [*prompts, *[manner.negative] * len(prompts)])

    def denoise(x_BCHW: Tensor, sigma: Tensor) -> Tensor:
        scaled = x_BCHW / (sigma**2 + 1.0).sqrt()
        if guidance != 1.0:
            scaled = torch.cat([scaled, scaled])
        timestep = sigma_to_timestep(base.alphas_cumprod, sigma).to(x_BCHW.device)
        timesteps = timestep.expand(len(scaled))
        bent = residuals(scaled, timesteps, text) if residuals is not None else {}
        estimate = base.predict(scaled, timesteps, text, **bent)
        if guidance != 1.0:
            wanted, plain = estimate.chunk(2)
            estimate = plain + guidance * (wanted - plain)
        if base.prediction == "v_prediction":
            # x0 = a x_t - s v with a^2 + s^2 = 1, written for x = x_t / a at this sigma
            return x_BCHW / (sigma**2 + 1.0) - estimate * sigma / (sigma**2 + 1.0).sqrt()
        return x_BCHW - sigma * estimate

    return denoise
