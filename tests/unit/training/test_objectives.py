"""The losses are what their papers say, image by image."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from talent_factory.core.errors import ConfigError
from talent_factory.training.objectives import (
    denoising_loss,
    huber_widths,
    preservation_loss,
    target,
    timestep_weights,
)
from talent_factory.training.options import LossKeys
from talent_factory.training.schedule import (
    add_noise,
    learning_rate_factor,
    signal_to_noise,
    v1_alphas_cumprod,
    zero_terminal_snr,
)

ALPHAS = v1_alphas_cumprod()
PLAIN = LossKeys(weighting="none")


def denoised(prediction: str, estimate: Tensor, noisy: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The image and the noise that an estimate at signal share `alpha` means."""
    signal, spread = alpha.sqrt(), (1.0 - alpha).sqrt()
    if prediction == "epsilon":
        return (noisy - spread * estimate) / signal, estimate
    return signal * noisy - spread * estimate, signal * estimate + spread * noisy


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_plain_loss_is_the_mean_squared_error_of_each_image() -> None:
    estimate, wanted = _normal(0, 3, 4, 2, 2), _normal(1, 3, 4, 2, 2)
    losses = denoising_loss(estimate, wanted, weights_B=torch.ones(3), keys=PLAIN)
    assert losses.shape == (3,)
    for image in range(3):
        torch.testing.assert_close(
            losses[image], torch.nn.functional.mse_loss(estimate[image], wanted[image])
        )


def test_weights_multiply_the_images() -> None:
    estimate, wanted = _normal(0, 2, 4, 2, 2), _normal(1, 2, 4, 2, 2)
    plain = denoising_loss(estimate, wanted, weights_B=torch.ones(2), keys=PLAIN)
    weighed = denoising_loss(estimate, wanted, weights_B=torch.tensor([2.0, 0.0]), keys=PLAIN)
    torch.testing.assert_close(weighed, torch.stack([2 * plain[0], torch.zeros(())]))


@given(timestep=st.integers(0, 999), gamma=st.floats(0.5, 20))
def test_min_snr_weights(timestep: int, gamma: float) -> None:
    keys = LossKeys(weighting="min-snr", min_snr_gamma=gamma)
    snr = float(signal_to_noise(ALPHAS.double(), torch.tensor([timestep])))
    noise = timestep_weights(keys, ALPHAS, "epsilon")
    velocity = timestep_weights(keys, ALPHAS, "v_prediction")
    assert float(noise[timestep]) == pytest.approx(min(snr, gamma) / snr, rel=1e-5)
    assert float(velocity[timestep]) == pytest.approx(min(snr, gamma) / (snr + 1), rel=1e-5)


@pytest.mark.parametrize("weighting", ["min-snr", "debiased"])
def test_a_weighting_means_the_same_for_noise_and_velocity(weighting: Literal["min-snr", "debiased"]) -> None:
    # One model seen twice: its noise estimate, and the velocity that follows from it.
    latents, noise, estimate = _normal(0, 4, 4, 8, 8), _normal(1, 4, 4, 8, 8), _normal(2, 4, 4, 8, 8)
    times = torch.tensor([10, 300, 600, 990])
    alpha = ALPHAS[times].view(-1, 1, 1, 1)
    noisy = add_noise(latents, noise, ALPHAS, times)
    image, _ = denoised("epsilon", estimate, noisy, alpha)
    velocity = alpha.sqrt() * estimate - (1 - alpha).sqrt() * image
    keys = LossKeys(weighting=weighting)
    of_noise = denoising_loss(
        estimate, noise, weights_B=timestep_weights(keys, ALPHAS, "epsilon")[times], keys=keys
    )
    of_velocity = denoising_loss(
        velocity,
        target("v_prediction", latents, noise, ALPHAS, times),
        weights_B=timestep_weights(keys, ALPHAS, "v_prediction")[times],
        keys=keys,
    )
    torch.testing.assert_close(of_noise, of_velocity, rtol=1e-3, atol=1e-5)


def test_debiased_weight_is_the_root_of_the_noise() -> None:
    weights = timestep_weights(LossKeys(weighting="debiased"), ALPHAS, "epsilon")
    torch.testing.assert_close(weights, signal_to_noise(ALPHAS, torch.arange(1000)).rsqrt())


def test_pure_noise_has_finite_weights_or_says_so() -> None:
    alphas = zero_terminal_snr(ALPHAS)
    for weighting in ("none", "min-snr", "debiased"):
        keys = LossKeys(weighting=weighting)
        assert bool(timestep_weights(keys, alphas, "v_prediction").isfinite().all())
    assert float(timestep_weights(LossKeys(weighting="min-snr"), alphas, "epsilon")[-1]) == 1.0
    with pytest.raises(ConfigError, match="pure noise"):
        timestep_weights(LossKeys(weighting="debiased"), alphas, "epsilon")


def test_targets_lead_back_to_the_image() -> None:
    latents, noise = _normal(0, 3, 4, 4, 4), _normal(1, 3, 4, 4, 4)
    times = torch.tensor([0, 500, 900])
    noisy = add_noise(latents, noise, ALPHAS, times)
    assert target("epsilon", latents, noise, ALPHAS, times) is noise
    for prediction in ("epsilon", "v_prediction"):
        answer = target(prediction, latents, noise, ALPHAS, times)
        alpha = ALPHAS[times].view(-1, 1, 1, 1)
        image, own_noise = denoised(prediction, answer, noisy, alpha)
        torch.testing.assert_close(image, latents, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(own_noise, noise, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["huber", "smooth-l1"])
def test_robust_losses_are_square_then_linear(kind: Literal["huber", "smooth-l1"]) -> None:
    keys = LossKeys(kind=kind, weighting="none", huber_c=0.1)
    width = torch.tensor([0.1])
    scale = 1.0 if kind == "huber" else 10.0

    def loss(error: float) -> float:
        estimate = torch.full((1, 4, 2, 2), error)
        value = denoising_loss(
            estimate, torch.zeros_like(estimate), weights_B=torch.ones(1), keys=keys, widths_B=width
        )
        return float(value)

    assert loss(1e-3) == pytest.approx(scale * 1e-6, rel=1e-3)
    assert loss(100.0) == pytest.approx(scale * 2 * 0.1 * 100.0, rel=1e-2)
    with pytest.raises(ValueError, match="widths_B"):
        denoising_loss(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), weights_B=torch.ones(1), keys=keys)


def test_huber_widths_fall_with_the_noise() -> None:
    constant = huber_widths(LossKeys(huber_schedule="constant", huber_c=0.2), ALPHAS)
    torch.testing.assert_close(constant, torch.full((1000,), 0.2))
    for schedule in ("snr", "exponential"):
        keys = LossKeys(huber_schedule=schedule, huber_c=0.1)
        widths = huber_widths(keys, zero_terminal_snr(ALPHAS))
        assert bool((widths[1:] < widths[:-1]).all())
        assert float(widths[-1]) == pytest.approx(0.1, rel=1e-2)
    sigma = ((1 - ALPHAS) / ALPHAS).sqrt()
    own = huber_widths(LossKeys(huber_schedule="snr", huber_c=0.1), ALPHAS)
    torch.testing.assert_close(own, 0.9 / (1 + sigma) ** 2 + 0.1)


def test_a_mask_counts_only_its_pixels() -> None:
    keys = LossKeys(weighting="none", mask="file", outside=0.0)
    estimate, wanted = _normal(0, 1, 4, 4, 4), _normal(1, 1, 4, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 1:3, 1:3] = 1.0
    loss = denoising_loss(estimate, wanted, weights_B=torch.ones(1), keys=keys, mask_B1HW=mask)
    inside = (estimate - wanted)[..., 1:3, 1:3].square().mean()
    torch.testing.assert_close(loss[0], inside)


@given(outside=st.floats(0, 1))
def test_a_mask_that_covers_all_changes_nothing(outside: float) -> None:
    estimate, wanted = _normal(0, 2, 4, 4, 4), _normal(1, 2, 4, 4, 4)
    keys = LossKeys(weighting="none", mask="file", outside=outside)
    plain = denoising_loss(estimate, wanted, weights_B=torch.ones(2), keys=PLAIN)
    masked = denoising_loss(
        estimate, wanted, weights_B=torch.ones(2), keys=keys, mask_B1HW=torch.ones(2, 1, 4, 4)
    )
    torch.testing.assert_close(masked, plain)


def test_an_empty_mask_is_no_division_by_zero() -> None:
    keys = LossKeys(weighting="none", mask="file", outside=0.0)
    loss = denoising_loss(
        _normal(0, 1, 4, 4, 4),
        _normal(1, 1, 4, 4, 4),
        weights_B=torch.ones(1),
        keys=keys,
        mask_B1HW=torch.zeros(1, 1, 4, 4),
    )
    assert loss.tolist() == [0.0]


def test_pixels_outside_pull_less() -> None:
    keys = LossKeys(weighting="none", mask="file", outside=0.25)
    estimate = torch.zeros(1, 4, 2, 2, requires_grad=True)
    mask = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2)
    loss = denoising_loss(
        estimate, torch.ones(1, 4, 2, 2), weights_B=torch.ones(1), keys=keys, mask_B1HW=mask
    )
    loss.sum().backward()
    assert estimate.grad is not None
    pull = estimate.grad[0, 0].flatten()
    torch.testing.assert_close(pull[1:] / pull[0], torch.full((3,), 0.25))


def test_preservation_pulls_only_the_adapted_side() -> None:
    adapted = torch.ones(2, 4, 2, 2, requires_grad=True)
    base = torch.zeros(2, 4, 2, 2, requires_grad=True)
    losses = preservation_loss(adapted, base)
    assert losses.shape == (2,)
    losses.mean().backward()
    assert adapted.grad is not None
    assert base.grad is None


@given(
    total=st.integers(1, 500),
    warmup=st.integers(0, 50),
    curve=st.sampled_from(["cosine", "linear", "constant"]),
)
def test_learning_rate_rises_then_falls(total: int, warmup: int, curve: str) -> None:
    rates = [learning_rate_factor(step, total=total, warmup=warmup, curve=curve) for step in range(total)]
    top = min(warmup, total)
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
