"""The noise of a step: how much there is at each timestep, and what is shared between pixels."""

from __future__ import annotations

import pytest
import torch

from talent_factory.core.errors import ConfigError
from talent_factory.training.options import NoiseKeys
from talent_factory.training.schedule import (
    add_noise,
    training_schedule,
    v1_alphas_cumprod,
    zero_terminal_snr,
)

ALPHAS = v1_alphas_cumprod()


def _normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_noise_keeps_the_variance() -> None:
    data, noise = _normal(0, 1, 4, 64, 64), _normal(1, 1, 4, 64, 64)
    for timestep in (0, 300, 999):
        mixed = add_noise(data, noise, ALPHAS, torch.tensor([timestep]))
        assert float(mixed.var()) == pytest.approx(1.0, abs=0.05)


def test_the_rescaled_schedule_ends_in_pure_noise() -> None:
    rescaled = zero_terminal_snr(ALPHAS)
    assert rescaled.dtype == torch.float32
    assert float(rescaled[-1]) == 0.0
    assert float(rescaled[0]) == pytest.approx(float(ALPHAS[0]), rel=1e-6)
    assert bool((rescaled[1:] < rescaled[:-1]).all())


def test_the_rescaled_schedule_is_that_of_diffusers() -> None:
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    theirs = torch.cumprod(1 - rescale_zero_terminal_snr(betas), dim=0)
    torch.testing.assert_close(zero_terminal_snr(ALPHAS), theirs.float(), rtol=1e-4, atol=1e-6)


def test_a_model_of_the_noise_cannot_end_in_pure_noise() -> None:
    keys = NoiseKeys(zero_terminal_snr=True)
    assert torch.equal(training_schedule(keys, ALPHAS, "v_prediction"), zero_terminal_snr(ALPHAS))
    assert training_schedule(NoiseKeys(), ALPHAS, "epsilon") is ALPHAS
    with pytest.raises(ConfigError, match="predicts the velocity"):
        training_schedule(keys, ALPHAS, "epsilon")
