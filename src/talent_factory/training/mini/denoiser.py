"""The text model and the UNet of the embedded base, trained together on encoded drawings and captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from talent_factory.core.events import Reporter
from talent_factory.core.seeds import derive_seed
from talent_factory.training.mini.autoencoder import to_tensor
from talent_factory.training.mini.optimise import Course, Losses, optimise
from talent_factory.training.mini.recipe import DenoiserRecipe
from talent_factory.world import Character, caption

TRAIN_STEPS = 1000


def make_text_encoder(recipe: DenoiserRecipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A fresh CLIP text model over our vocabulary, `recipe.tokens` positions."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.text_width,
        intermediate_size=4 * recipe.text_width,
        projection_dim=recipe.text_width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=recipe.text_heads,
        max_position_embeddings=recipe.tokens,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def make_unet(recipe: DenoiserRecipe, *, latent: int) -> UNet2DConditionModel:
    """A fresh UNet: attention to the text at all but the lowest resolution, like Stable Diffusion 1.5."""
    depth = len(recipe.channels)
    return UNet2DConditionModel(
        sample_size=latent,
        in_channels=4,
        out_channels=4,
        layers_per_block=recipe.layers,
        block_out_channels=recipe.channels,
        down_block_types=("CrossAttnDownBlock2D",) * (depth - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (depth - 1),
        cross_attention_dim=recipe.text_width,
        attention_head_dim=recipe.heads,
        norm_num_groups=16,
    )


def alphas_cumprod() -> Tensor:
    """The v1 noise schedule (`scaled_linear`, 0.00085 to 0.012 over 1000 steps), (1000,) float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAIN_STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


class Denoiser(nn.Module):
    """Text model and UNet as one module, so that one optimizer and one checkpoint hold both."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet

    def forward(self, noisy_BCHW: Tensor, timesteps_B: Tensor, tokens_BT: Tensor) -> Tensor:
        """Predict the noise (B, 4, h, w) in `noisy_BCHW`, given timesteps (B,) and token ids (B, T)."""
        states = self.text_encoder(tokens_BT).last_hidden_state
        predicted: Tensor = self.unet(noisy_BCHW, timesteps_B, states).sample
        return predicted


@dataclass(frozen=True)
class Encoded:
    """What the denoiser trains on: scaled posterior mean and deviation (N, 4, h, w), and who is drawn."""

    mean: Tensor
    deviation: Tensor
    who: list[Character]


@torch.no_grad()
def encode(model: AutoencoderKL, pictures: NDArray[np.uint8], who: list[Character]) -> Encoded:
    """Encode `pictures` (N, H, W, 3) once; latents are multiplied by the model's scaling factor."""
    scale = float(model.config["scaling_factor"])
    means, deviations = [], []
    for start in range(0, len(pictures), 50):
        posterior = model.encode(to_tensor(pictures[start : start + 50])).latent_dist
        means.append(posterior.mean * scale)
        deviations.append(posterior.std * scale)
    return Encoded(torch.cat(means), torch.cat(deviations), who)


def _nickname(rng: np.random.Generator) -> str:
    """A made-up name of a few syllables, now and then in two parts."""
    consonants, vowels = "bcdfghjklmnprstvwxyz", "aeiou"

    def pick(letters: str) -> str:
        return letters[int(rng.integers(len(letters)))]

    syllables = [pick(consonants) + pick(vowels) for _ in range(int(rng.integers(1, 4)))]
    name = "".join(syllables) + (pick(consonants) if rng.random() < 0.5 else "")
    return f"{pick(consonants)}{pick(vowels)}{pick(consonants)}_{name}" if rng.random() < 0.5 else name


def caption_at(who: Character, rng: np.random.Generator, recipe: DenoiserRecipe) -> str:
    """A caption for training: shuffled parts, sometimes a made-up name, sometimes nothing at all."""
    if rng.random() < recipe.caption_dropout:
        return ""
    text = caption(who, rng)
    if rng.random() < recipe.nickname:
        article = "a " if rng.random() < 0.5 else ""
        text = text.replace(f"of a {who.kind}", f"of {article}{_nickname(rng)} {who.kind}", 1)
    return text


def _stratified_timesteps(rng: np.random.Generator, count: int) -> Tensor:
    """One timestep from each of `count` equal slices of the schedule: the same mean with less variance."""
    places = (np.arange(count) + rng.random(count)) / count * TRAIN_STEPS
    return torch.from_numpy(rng.permutation(places.astype(np.int64)))


def train_denoiser(
    encoded: Callable[[], Encoded],
    tokenizer: CLIPTokenizer,
    recipe: DenoiserRecipe,
    *,
    size: int,
    seed: int,
    root: Path,
    reporter: Reporter,
) -> Denoiser:
    """Train text model and UNet to predict the noise (epsilon), weighted by min-SNR (Hang et al. 2023).

    A constant of random strength is added to the noise of each channel (noise offset): without it the mean of
    a noisy latent betrays the colour of the picture, and the model would not learn to take colours from the
    text. `encoded` is asked for the training set only when steps are left; `size` is the side of a picture.
    """
    torch.manual_seed(derive_seed("denoiser-start", seed))
    model = Denoiser(make_text_encoder(recipe, tokenizer), make_unet(recipe, latent=size // 8))
    model.unet.to(memory_format=torch.channels_last)
    # Plain matrix products: the fused attention of the CPU takes three times as long backwards in bf16.
    model.unet.set_attn_processor(AttnProcessor())
    cumulative = alphas_cumprod()
    signal, spread = cumulative.sqrt().float(), (1 - cumulative).sqrt().float()
    ratio = (cumulative / (1 - cumulative)).float()
    drawn = cache(encoded)

    def loss_at(step: int) -> Losses:
        rng = np.random.default_rng(derive_seed("denoiser", seed, step))
        generator = torch.Generator().manual_seed(derive_seed("noise", seed, step))
        data = drawn()
        rows = rng.integers(len(data.who), size=recipe.batch)
        texts = [caption_at(data.who[row], rng, recipe) for row in rows]
        tokens = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        times = _stratified_timesteps(rng, recipe.batch)
        picked = torch.from_numpy(rows)
        clean = data.mean[picked]
        clean = clean + data.deviation[picked] * torch.randn(clean.shape, generator=generator)
        offset = torch.randn((*clean.shape[:2], 1, 1), generator=generator)
        noise = torch.randn(clean.shape, generator=generator) + recipe.noise_offset * offset
        noisy = clean * signal[times, None, None, None] + noise * spread[times, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            predicted = model(noisy.contiguous(memory_format=torch.channels_last), times, tokens)
        weight = (ratio[times].clamp(max=recipe.min_snr_gamma) / ratio[times]).clamp(max=1.0)
        return {"noise": ((predicted.float() - noise).square().mean(dim=(1, 2, 3)) * weight).mean()}

    course = Course(
        name="denoiser",
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        warmup=recipe.warmup,
        average=recipe.average,
        weight_decay=0.01,
        save_every=250,
    )
    optimise(model, course, loss_at=loss_at, root=root, reporter=reporter)
    return model
