"""The autoencoder of the embedded base: 8x smaller, four channels, trained on crops of drawings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from numpy.typing import NDArray
from torch import Tensor, nn

from talent_factory.core.events import Reporter
from talent_factory.core.seeds import derive_seed
from talent_factory.training.mini.optimise import Course, Losses, optimise
from talent_factory.training.mini.recipe import AutoencoderRecipe


def make_autoencoder(recipe: AutoencoderRecipe, *, size: int) -> AutoencoderKL:
    """A fresh `AutoencoderKL` of the recipe's shape, without attention in the middle."""
    depth = len(recipe.channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=recipe.channels,
        layers_per_block=recipe.layers,
        latent_channels=4,
        norm_num_groups=recipe.norm_groups,
        sample_size=size,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


@torch.no_grad()
def start_near_identity(model: AutoencoderKL) -> None:
    """Begin as an almost linear mean-and-repeat pyramid, so that colours pass from the first step.

    Residual branches end in zeros, shortcuts and up-samplers in identities, down-samplers in 2 x 2 means, and
    the posterior starts narrow. From a random start the same network spends its first thousand steps on grey.
    """
    for part in model.modules():
        if isinstance(part, ResnetBlock2D):
            nn.init.zeros_(part.conv2.weight)
            if part.conv_shortcut is not None:
                _add_identity(part.conv_shortcut.weight, value=1.0, keep=0.3, taps=(slice(0, 1), slice(0, 1)))
        elif isinstance(part, Downsample2D):
            _add_identity(part.conv.weight, value=0.25, keep=0.2, taps=(slice(0, 2), slice(0, 2)))
        elif isinstance(part, Upsample2D):
            _add_identity(part.conv.weight, value=1.0, keep=0.2, taps=(slice(1, 2), slice(1, 2)))
    model.quant_conv.weight[4:] *= 0.01
    model.quant_conv.bias[4:] = -6.0


def _add_identity(weight: Tensor, *, value: float, keep: float, taps: tuple[slice, slice]) -> None:
    """Scale a kernel (out, in, h, w) by `keep`; add `value` at `taps` from each channel to its own number."""
    weight.mul_(keep)
    for channel in range(min(weight.shape[0], weight.shape[1])):
        weight[channel, channel, taps[0], taps[1]] += value


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float in -1..1, channels last in memory."""
    # a copy: the pictures may be a read-only memory map, which torch does not take without a warning
    plain = torch.from_numpy(np.array(pictures, order="C")).permute(0, 3, 1, 2).float()
    return (plain / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def crops_at(pictures: NDArray[np.uint8], *, step: int, seed: int, recipe: AutoencoderRecipe) -> Tensor:
    """The batch of one step, (B, 3, crop, crop) in -1..1: crops on the 8-pixel grid, some with odd colours.

    Every fourth picture is mirrored, and one in eight has its colour channels swapped: the autoencoder has to
    serve colours that the drawn world does not hold.
    """
    rng = np.random.default_rng(derive_seed("autoencoder", seed, step))
    count, side = pictures.shape[0], pictures.shape[1]
    span = (side - recipe.crop) // 8 + 1
    batch = np.empty((recipe.batch, recipe.crop, recipe.crop, 3), np.uint8)
    for row in range(recipe.batch):
        top, left = 8 * int(rng.integers(span)), 8 * int(rng.integers(span))
        crop = pictures[int(rng.integers(count)), top : top + recipe.crop, left : left + recipe.crop]
        if rng.random() < 0.25:
            crop = crop[:, ::-1]
        if rng.random() < 0.125:
            crop = crop[..., rng.permutation(3)]
        batch[row] = crop
    return to_tensor(batch)


def _slopes(image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    return image_BCHW.diff(dim=2), image_BCHW.diff(dim=3)


def losses(
    model: AutoencoderKL,
    image_BCHW: Tensor,
    noise: Tensor,
    recipe: AutoencoderRecipe,
    *,
    encoder: bool = True,
) -> Losses:
    """Absolute, squared and edge error of the reconstruction, and the divergence of the posterior.

    Without `encoder` no gradient reaches it, and the divergence, which is its own, is left out.
    """
    with torch.set_grad_enabled(encoder):
        posterior = model.encode(image_BCHW).latent_dist
    restored = model.decode(posterior.mean + (posterior.std + recipe.jitter) * noise).sample
    error = restored - image_BCHW
    down, right = _slopes(error)
    parts = {
        "absolute": error.abs().mean(),
        "squared": recipe.squared * error.square().mean(),
        "edges": recipe.edges * (down.abs().mean() + right.abs().mean()),
    }
    if encoder:
        divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        parts["divergence"] = recipe.divergence * divergence
    return parts


def train_autoencoder(
    pictures: NDArray[np.uint8], recipe: AutoencoderRecipe, *, seed: int, root: Path, reporter: Reporter
) -> AutoencoderKL:
    """Train on `pictures` (N, H, W, 3) and set the scaling factor so that latents have unit deviation."""
    torch.manual_seed(derive_seed("autoencoder-start", seed))
    model = make_autoencoder(recipe, size=pictures.shape[1])
    start_near_identity(model)
    model.to(memory_format=torch.channels_last)

    course = Course(
        name="autoencoder",
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        warmup=recipe.warmup,
        average=recipe.average,
        weight_decay=0.0,
    )
    loss_at = _loss_of(model, pictures, recipe, seed=seed, encoder=True)
    optimise(model, course, loss_at=loss_at, root=root, reporter=reporter)
    finish_decoder(model, pictures, recipe, seed=seed, root=root / "decoder", reporter=reporter)
    model.register_to_config(scaling_factor=_scaling(model, pictures))
    return model


def _loss_of(
    model: AutoencoderKL, pictures: NDArray[np.uint8], recipe: AutoencoderRecipe, *, seed: int, encoder: bool
) -> Callable[[int], Losses]:
    shape = (recipe.batch, 4, recipe.crop // 8, recipe.crop // 8)

    def loss_at(step: int) -> Losses:
        generator = torch.Generator().manual_seed(derive_seed("posterior", seed, step))
        noise = torch.randn(shape, generator=generator)
        crops = crops_at(pictures, step=step, seed=seed, recipe=recipe)
        return losses(model, crops, noise, recipe, encoder=encoder)

    return loss_at


def finish_decoder(
    model: AutoencoderKL,
    pictures: NDArray[np.uint8],
    recipe: AutoencoderRecipe,
    *,
    seed: int,
    root: Path,
    reporter: Reporter,
) -> None:
    """Train the decoder on alone: latents, and all that was trained on them, stay what they are."""
    course = Course(
        name="decoder",
        steps=recipe.decoder_steps,
        learning_rate=recipe.decoder_rate,
        warmup=recipe.warmup,
        average=recipe.average,
        weight_decay=0.0,
    )
    decoder = nn.ModuleList([model.post_quant_conv, model.decoder])
    loss_at = _loss_of(model, pictures, recipe, seed=derive_seed("decoder", seed), encoder=False)
    optimise(decoder, course, loss_at=loss_at, root=root, reporter=reporter)


@torch.no_grad()
def _scaling(model: AutoencoderKL, pictures: NDArray[np.uint8]) -> float:
    means = [
        model.encode(to_tensor(pictures[i : i + 50])).latent_dist.mean
        for i in range(0, min(500, len(pictures)), 50)
    ]
    return round(1.0 / float(torch.cat(means).std()), 5)


@torch.no_grad()
def decibels(model: nn.Module, pictures: NDArray[np.uint8]) -> list[float]:
    """Peak signal-to-noise ratio in dB of each picture's reconstruction (8-bit range)."""
    values: list[float] = []
    for start in range(0, len(pictures), 50):
        image = to_tensor(pictures[start : start + 50])
        restored = model.decode(model.encode(image).latent_dist.mean).sample.clamp(-1, 1)  # type: ignore[operator]
        squared = ((restored - image) / 2).square().mean(dim=(1, 2, 3))
        values += [float(-10 * torch.log10(value)) for value in squared]
    return values
