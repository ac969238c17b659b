"""What every codec of the talking head promises: subclass `LipCodecContract` and give it one."""

from __future__ import annotations

import pytest
import torch

from talent_factory.lipsync.ports import Codec


class LipCodecContract:
    """Fixture to override: `codec`. Weights may be random: how good pictures get is no part of it."""

    @pytest.fixture
    def codec(self) -> Codec:
        pytest.fail("a subclass gives the codec")

    def test_latents_have_the_shape_it_says(self, codec: Codec) -> None:
        latents = codec.encode(pictures(2, 64, 32))
        assert latents.shape == (2, codec.channels, 64 // codec.factor, 32 // codec.factor)
        assert codec.decode(latents).shape == (2, 3, 64, 32)

    def test_there_is_no_noise(self, codec: Codec) -> None:
        images = pictures(1, 32, 32)
        assert torch.equal(codec.encode(images), codec.encode(images))

    def test_a_row_does_not_depend_on_its_neighbours(self, codec: Codec) -> None:
        images = pictures(3, 32, 32)
        together, alone = codec.encode(images)[1:2], codec.encode(images[1:2])
        assert torch.allclose(together, alone, atol=1e-5)
        assert torch.allclose(codec.decode(together), codec.decode(alone), atol=1e-4)

    def test_gradients_flow_both_ways_and_not_into_weights(self, codec: Codec) -> None:
        images = pictures(1, 32, 32).requires_grad_()
        latents = codec.encode(images)
        codec.decode(latents).square().mean().backward()
        assert images.grad is not None
        assert float(images.grad.abs().max()) > 0
        free = latents.detach().requires_grad_()
        codec.decode(free).square().mean().backward()
        assert free.grad is not None
        assert float(free.grad.abs().max()) > 0
        module = getattr(codec, "module", None)
        assert module is None or not any(weight.requires_grad for weight in module.parameters())

    def test_the_id_names_no_path(self, codec: Codec) -> None:
        assert codec.id
        assert "/" not in codec.id


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    """Smooth pictures with a little grain, (count, 3, height, width) in [-1, 1]."""
    generator = torch.Generator().manual_seed(5)
    rough = torch.randn(count, 3, max(1, height // 8), max(1, width // 8), generator=generator)
    smooth = torch.nn.functional.interpolate(rough, (height, width), mode="bilinear")
    grain = torch.randn(count, 3, height, width, generator=generator)
    return (0.5 * smooth + 0.03 * grain).clamp(-1, 1)
