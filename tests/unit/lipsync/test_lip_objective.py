"""What is minimised and what validation says: values known beforehand, and nobody taught by mistake."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from talent_factory.lipsync.audio.conditioner import AudioConditioner
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.config import TrainConfig
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.models.discriminator import PatchDiscriminator
from talent_factory.lipsync.models.unet import BLANK, Canvas
from talent_factory.lipsync.sync.network import SyncNet
from talent_factory.lipsync.train.objective import Objective
from talent_factory.lipsync.train.validate import Validator, ssim_map, write_strips

SIZE = 32
MASK = FaceMask()


def batch_of(count: int, *, length: int = 1, seed: int = 0) -> tuple[Batch, torch.Tensor]:
    """A batch of smooth noise, and the features (count, 10, 384) of its frames."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(count, 3, 4, 4, generator=generator) * 1.6 - 0.8
    images = torch.nn.functional.interpolate(small, (SIZE, SIZE), mode="bilinear")
    codec = open_codec("dct8")
    sound = torch.rand(count, 10, 384, generator=generator)
    batch = Batch(
        images=images,
        target=codec.encode(images),
        masked=codec.encode(MASK.apply(images)),
        reference=codec.encode(images.flip(0)),
        tokens=AudioConditioner().tokens(sound.numpy(), range(count)),
        length=length,
    )
    return batch, sound


def test_pixels_are_decoded_as_narrow_as_the_network_where_a_codec_has_weights() -> None:
    generator = torch.Generator().manual_seed(3)
    made = torch.rand(2, 4, 4, 4, generator=generator) - 0.5
    images = torch.rand(2, 3, SIZE, SIZE, generator=generator) * 2 - 1
    for name, changed in (("mini", True), ("dct8", False)):
        codec = open_codec(name)
        latents = made if name == "mini" else codec.encode(images.flip(0))
        batch = Batch(images=images, target=latents, masked=latents, reference=latents, tokens=made)
        found = {}
        for precision in ("fp32", "fp16", "bf16"):
            config = TrainConfig.model_validate({"mixed_precision": precision, "pixel_loss": 1.0})
            wanted = Objective(config, codec, MASK, size=SIZE, device="cpu")
            losses, frames = wanted.losses(latents, batch, step=0)
            assert frames is not None
            assert frames.dtype == torch.float32
            found[precision] = losses["pixel"].item()
        assert found["fp16"] == found["fp32"], "a processor takes fp32 in its place"
        assert (found["bf16"] != found["fp32"]) == changed
        assert found["bf16"] == pytest.approx(found["fp32"], rel=1e-2)


def objective(**weights: object) -> Objective:
    sync = SyncNet() if weights.get("sync_loss") else None
    judge = PatchDiscriminator(width=8) if weights.get("gan_loss") else None
    config = TrainConfig.model_validate({"sync_model": "given", "frames": 5, **weights})
    return Objective(config, open_codec("dct8"), MASK, size=SIZE, device="cpu", judge=judge, sync=sync)


def test_the_truth_costs_nothing_and_the_upper_half_does_not_count() -> None:
    batch, _ = batch_of(2)
    wanted = objective(pixel_loss=2.0, latent_loss=1.0)
    losses, _ = wanted.losses(batch.target, batch, step=0)
    assert losses["loss"] < 1e-5
    assert batch.images is not None
    above, below = batch.images.clone(), batch.images.clone()
    above[:, :, : SIZE // 2] += 0.1
    below[:, :, SIZE // 2 :] += 0.1
    codec = open_codec("dct8")
    assert wanted.losses(codec.encode(above), batch, step=0)[0]["pixel"] < 1e-5
    losses, _ = wanted.losses(codec.encode(below), batch, step=0)
    assert losses["pixel"].item() == pytest.approx(0.1, rel=1e-3)
    total = 2.0 * losses["pixel"] + losses["latent"]
    assert losses["loss"].item() == pytest.approx(total.item())


def test_without_pixel_losses_nothing_is_decoded() -> None:
    batch, _ = batch_of(2)
    wanted = objective(pixel_loss=0.0)
    losses, images = wanted.losses(batch.target + 1, batch, step=0)
    assert images is None
    assert losses["loss"].item() == pytest.approx(1.0)
    assert wanted.names == ("loss", "latent")


def test_the_painter_learns_from_the_judge_without_teaching_it() -> None:
    batch, _ = batch_of(2)
    wanted = objective(gan_loss=0.5, gan_start=3)
    judge = wanted._judge
    assert judge is not None
    made = (batch.target + 0.1).requires_grad_(True)
    early, images = wanted.losses(made, batch, step=2)
    assert "gan" not in early
    assert wanted.judge(judge, images, batch, step=2) is None
    losses, images = wanted.losses(made, batch, step=3)
    losses["loss"].backward()
    assert all(parameter.grad is None for parameter in judge.parameters())
    assert all(parameter.requires_grad for parameter in judge.parameters())
    assert made.grad is not None
    painter = made.grad.clone()
    loss = wanted.judge(judge, images, batch, step=3)
    assert loss is not None
    loss.backward()
    assert all(parameter.grad is not None for parameter in judge.parameters())
    assert torch.equal(made.grad, painter)


def test_the_sync_loss_hears_the_frames_own_sound() -> None:
    batch, sound = batch_of(10, length=5)
    wanted = objective(sync_loss=0.1)
    found = wanted._sound(batch)
    assert found.shape == (2, 5, 10, 384)
    assert torch.allclose(found.flatten(0, 1), sound, atol=1e-6)
    made = batch.target.clone().requires_grad_(True)
    losses, _ = wanted.losses(made, batch, step=0)
    (gradient,) = torch.autograd.grad(losses["sync"], made)
    assert gradient.abs().sum() > 0


def test_similarity_is_that_of_another_implementation() -> None:
    one, _ = batch_of(1, seed=1)
    other, _ = batch_of(1, seed=2)
    assert one.images is not None
    assert other.images is not None
    _, full = structural_similarity(
        ((one.images[0] + 1) / 2).permute(1, 2, 0).numpy().astype(np.float64),
        ((other.images[0] + 1) / 2).permute(1, 2, 0).numpy().astype(np.float64),
        channel_axis=2,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    ours = ssim_map(one.images, other.images)[0].numpy()
    assert np.abs(ours - full.mean(axis=2))[6:-6, 6:-6].max() < 1e-4
    assert ssim_map(one.images, one.images).min() > 0.9999


def test_validation_looks_at_the_covered_part_alone(tmp_path: Path) -> None:
    batch, _ = batch_of(3)
    codec = open_codec("dct8")
    validator = Validator(lambda: [batch], codec, MASK, BLANK)
    figures, strips = validator.run(lambda given, canvas: given.target)
    assert figures["latent_l1"] == 0.0
    assert figures["mouth_psnr"] > 80
    assert figures["mouth_ssim"] > 0.999
    assert len(strips) == 3
    assert strips[0].shape == (SIZE, 4 * SIZE, 3)
    masked, _, true, made = np.split(strips[0].astype(int), 4, axis=1)
    assert (masked[SIZE // 2 :] == 0).all()
    assert np.abs(true - made).max() <= 1

    def darker(given: Batch, canvas: Canvas) -> torch.Tensor:
        assert given.images is not None
        images = given.images.clone()
        images[:, :, SIZE // 2 :] -= 0.1
        return codec.encode(images)

    assert validator.run(darker)[0]["mouth_psnr"] == pytest.approx(10 * math.log10(4 / 0.01), abs=0.05)
    path = write_strips(tmp_path, 7, strips)
    with Image.open(path) as picture:
        assert picture.size == (4 * SIZE, 3 * SIZE)
