"""Every number that the embedded base `mini` is made with, in one frozen record."""

from __future__ import annotations

from talent_factory.core.records import Record


class AutoencoderRecipe(Record):
    """The 8x autoencoder: shapes as `diffusers.AutoencoderKL`, sizes in pixels, weights of the loss terms."""

    channels: tuple[int, ...] = (16, 32, 64, 128)
    layers: int = 1
    norm_groups: int = 1
    crop: int = 64
    batch: int = 16
    steps: int = 5_000
    learning_rate: float = 1e-3
    decoder_steps: int = 4_000
    """Steps after those, with the encoder at rest: the latent space stays, the decoder goes on."""
    decoder_rate: float = 6e-4
    warmup: int = 100
    average: float = 0.998
    squared: float = 4.0
    edges: float = 0.5
    divergence: float = 1e-4
    jitter: float = 0.05
    """Noise added to latents before decoding: the decoder has to forgive what a small denoiser gets wrong."""


class DenoiserRecipe(Record):
    """The CLIP text model and the UNet, trained together."""

    text_width: int = 128
    text_layers: int = 3
    text_heads: int = 4
    tokens: int = 48
    vocabulary: int = 1024
    channels: tuple[int, ...] = (64, 128, 160)
    layers: int = 1
    heads: int = 4
    drawings: int = 16_000
    batch: int = 32
    steps: int = 7_000
    learning_rate: float = 1e-3
    warmup: int = 200
    average: float = 0.999
    min_snr_gamma: float = 5.0
    noise_offset: float = 0.1
    caption_dropout: float = 0.1
    nickname: float = 0.15
    """How often a made-up name stands before the kind, so that names unknown to the base do no harm."""


class ProbeRecipe(Record):
    """The small network that reads attributes back from a picture."""

    channels: tuple[int, ...] = (32, 64, 96, 128)
    drawings: int = 20_000
    batch: int = 64
    steps: int = 4_000
    learning_rate: float = 2e-3
    warmup: int = 100


class MiniRecipe(Record):
    """The whole build: `size` is the side of a drawing in pixels, `drawings` the autoencoder's corpus."""

    seed: int = 2024
    size: int = 128
    drawings: int = 10_000
    held_out: int = 400
    prompts: int = 200
    threads: int = 2
    autoencoder: AutoencoderRecipe = AutoencoderRecipe()
    denoiser: DenoiserRecipe = DenoiserRecipe()
    probe: ProbeRecipe = ProbeRecipe()
