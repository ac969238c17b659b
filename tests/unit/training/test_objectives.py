"""The losses are what their papers say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.training.objectives import denoising_loss, preservation_loss
from talent_factory.training.schedule import (
    add_noise,
    learning_rate_factor,
    signal_to_noise,
    v1_alphas_cumprod,
)

ALPHAS = v1_alphas_cumprod()


def test_plain_loss_is_the_mean_squared_error() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, noise = (torch.randn(3, 4, 2, 2, generator=generator) for _ in range(2))
    loss = denoising_loss(
        predicted, noise, alphas_cumprod=ALPHAS, timesteps_B=torch.tensor([1, 2, 3]), min_snr_gamma=None
    )
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(predicted, noise))


@given(timestep=st.integers(0, 999), gamma=st.floats(0.5, 20))
def test_min_snr_weight(timestep: int, gamma: float) -> None:
    times = torch.tensor([timestep])
    loss = denoising_loss(
        torch.ones(1, 4, 2, 2),
        torch.zeros(1, 4, 2, 2),
        alphas_cumprod=ALPHAS,
        timesteps_B=times,
        min_snr_gamma=gamma,
    )
    snr = float(signal_to_noise(ALPHAS, times))
    assert float(loss) == pytest.approx(min(snr, gamma) / snr, rel=1e-5)


def test_preservation_pulls_only_the_adapted_side() -> None:
    adapted = torch.ones(1, 4, 2, 2, requires_grad=True)
    base = torch.zeros(1, 4, 2, 2, requires_grad=True)
    preservation_loss(adapted, base).backward()
    assert adapted.grad is not None
    assert base.grad is None


def test_noise_keeps_the_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    data, noise = (torch.randn(1, 4, 64, 64, generator=generator) for _ in range(2))
    for timestep in (0, 300, 999):
        mixed = add_noise(data, noise, ALPHAS, torch.tensor([timestep]))
        assert float(mixed.var()) == pytest.approx(1.0, abs=0.05)


@given(
    total=st.integers(1, 500),
    warmup=st.integers(0, 50),
    curve=st.sampled_from(["cosine", "linear", "constant"]),
)
def test_learning_rate_rises_then_falls(total: int, warmup: int, curve: str) -> None:
    rates = [
        learning_rate_factor(step, total=total, warmup=warmup, curve=curve)  # type: ignore[arg-type]
        for step in range(total)
    ]
    top = min(warmup, total)
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
