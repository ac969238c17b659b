"""The sampler solves the equation it should, and the noise of an image does not depend on its neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from talent_factory.training.families import Base
from talent_factory.training.sampler import (
    dpmpp_2m,
    initial_noise,
    model_sigmas,
    sample,
    sampling_sigmas,
    sigma_to_timestep,
)
from talent_factory.training.schedule import v1_alphas_cumprod, zero_terminal_snr

ALPHAS = v1_alphas_cumprod()


def test_schedule_is_that_of_diffusers() -> None:
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    torch.testing.assert_close(ALPHAS, theirs, rtol=2e-4, atol=1e-6)


def test_sigmas_fall_from_the_noisiest_to_nothing() -> None:
    sigmas = sampling_sigmas(ALPHAS, 20)
    assert len(sigmas) == 21
    assert torch.isclose(sigmas[0], model_sigmas(ALPHAS)[-1])
    assert sigmas[-1] == 0
    assert (sigmas[:-1] > sigmas[1:]).all()


def test_a_schedule_that_ends_in_pure_noise_has_finite_levels() -> None:
    sigmas = sampling_sigmas(zero_terminal_snr(ALPHAS), 20)
    assert sigmas.isfinite().all()
    assert 4000 < sigmas[0] < 4100
    assert (sigmas[:-1] > sigmas[1:]).all()


def test_timestep_of_a_trained_noise_level_is_its_index() -> None:
    for index in (0, 1, 500, 998, 999):
        timestep = sigma_to_timestep(ALPHAS, model_sigmas(ALPHAS)[index])
        assert abs(float(timestep) - index) < 0.02


def _error_on_gaussian_data(steps: int, spread: float = 0.7) -> float:
    """Relative error of the end point, where the exact path is known: x falls as sqrt(spread^2 + sigma^2)."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x * spread**2 / (spread**2 + sigma**2)

    sigmas = sampling_sigmas(ALPHAS.double(), steps).double()[:-1]
    start = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    exact = ((spread**2 + sigmas[-1] ** 2) / (spread**2 + sigmas[0] ** 2)) ** 0.5
    return float((dpmpp_2m(denoise, start, sigmas) / exact - 1).abs())


def test_dpmpp_2m_is_of_second_order() -> None:
    coarse, fine = _error_on_gaussian_data(100), _error_on_gaussian_data(200)
    assert fine < 0.005
    assert coarse / fine > 3.0


def test_noise_of_an_image_is_its_own() -> None:
    many = initial_noise([5, 6, 7], (4, 2, 2))
    assert torch.equal(many[1:2], initial_noise([6], (4, 2, 2)))


def test_images_come_in_order_and_size(base: Base) -> None:
    images = sample(base, prompts=["a", "b", "c"], seeds=[1, 2, 1], steps=2, size=(32, 64), batch=2)
    assert images.shape == (3, 32, 64, 3)
    assert images.dtype == np.uint8
    again = sample(base, prompts=["a", "b", "c"], seeds=[1, 2, 1], steps=2, size=(32, 64), batch=2)
    assert np.array_equal(images, again)
    assert not np.array_equal(images[0], images[1])


def test_guidance_one_needs_no_second_half(base: Base) -> None:
    plain = sample(base, prompts=["a"], seeds=[1], steps=2, guidance=1.0)
    other = sample(base, prompts=["a"], negative="b", seeds=[1], steps=2, guidance=1.0)
    assert np.array_equal(plain, other)


def test_no_prompt_is_no_image(base: Base) -> None:
    assert sample(base, prompts=[], seeds=[], steps=2).shape == (0, 32, 32, 3)
    with pytest.raises(ValueError, match="seeds"):
        sample(base, prompts=["a"], seeds=[])
