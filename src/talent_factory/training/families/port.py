"""What the training, the samplers and the measures need from a base model, whatever family it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from talent_factory.training.lora.names import Namer, kohya_name

Prediction = Literal["epsilon", "v_prediction"]

# Cells of a latent, 512 x 512 pixels.
_LARGE_LATENT = 64 * 64


@dataclass(frozen=True, eq=False)
class TextStates:
    """What the UNet reads of prompts, float32."""

    context_BTC: Tensor
    """The states that cross-attention reads, (B, T, C)."""
    pooled_BD: Tensor | None = None
    """One vector a prompt, (B, D), for families that condition on it (SDXL); None for the others."""

    def __getitem__(self, rows: Any) -> TextStates:
        """The chosen prompts, as indexing of a tensor chooses rows."""
        return TextStates(self.context_BTC[rows], None if self.pooled_BD is None else self.pooled_BD[rows])

    def __len__(self) -> int:
        return len(self.context_BTC)


def join_texts(texts: Sequence[TextStates]) -> TextStates:
    """Texts below each other, as one batch."""
    pooled = [text.pooled_BD for text in texts if text.pooled_BD is not None]
    return TextStates(torch.cat([t.context_BTC for t in texts]), torch.cat(pooled) if pooled else None)


class Reader(Protocol):
    """How a family reads prompts, and what its UNet wants to know beside them."""

    def read(self, base: Base, ids_BT: Tensor) -> TextStates:
        """The text states of what `Base.token_ids` gave, float32; gradients may flow."""

    def conditions(self, base: Base, latents_BCHW: Tensor, text: TextStates) -> dict[str, Any]:
        """Further keyword arguments of the UNet."""


class LastStates:
    """The way of SD 1.5: what the last layer of its one text encoder says, and nothing else."""

    def read(self, base: Base, ids_BT: Tensor) -> TextStates:
        """The last states of the text encoder, (B, T, C) float32."""
        states: Tensor = base.text_encoders[0][1](ids_BT).last_hidden_state
        return TextStates(states.float())

    def conditions(self, base: Base, latents_BCHW: Tensor, text: TextStates) -> dict[str, Any]:
        """No further arguments."""
        del base, latents_BCHW, text
        return {}


@dataclass(eq=False)
class Base:
    """A frozen text-to-image model: all parameters have `requires_grad` False and are in eval mode.

    The UNet may run in bf16; VAE, text encoder and every tensor that crosses this port are float32.
    """

    name: str
    """What a kit's `base_model` says: "mini" or the folder it was loaded from."""
    revision: str
    """sha256 over the contents of all parts."""
    vae_revision: str
    """sha256 over the VAE alone: cached latents depend on nothing else."""
    resolution: int
    """Side in pixels that the base was trained for."""
    make_unet: Callable[[], nn.Module]
    """Makes the UNet at its first use: latents and texts can be cached before it takes its memory."""
    device: torch.device
    """Where it computes."""
    dtype: torch.dtype
    """The precision that the UNet computes in."""
    vae: nn.Module
    text_encoders: tuple[tuple[str, nn.Module], ...]
    """Each with kohya's prefix of its names: `lora_te`, or `lora_te1` and `lora_te2` for SDXL."""
    tokenizer: Any
    alphas_cumprod: Tensor
    """(T,) float32 on the CPU."""
    latent_scale: float
    guidance: float = 7.0
    """The scale of classifier-free guidance that suits it where nobody asks for another."""
    class_prompts: tuple[str, ...] = ()
    """Plain prompts without any token; base preservation draws from them."""
    prediction: Prediction = "epsilon"
    """What the UNet estimates: the noise, or the velocity of Salimans & Ho 2022."""
    family: Literal["mini", "sd15", "sdxl"] = "sd15"
    lora_name: Namer = kohya_name
    """Path of a module and prefix of its model to its name in a LoRA file."""
    reader: Reader = field(default_factory=LastStates)
    """The family's way of reading prompts."""
    _pixels_per_latent: int = field(default=8)
    _parked: bool = False
    _unet: nn.Module | None = None

    def park(self) -> None:
        """Keep VAE and text encoders in main memory and bring each to the device only while it works.

        For a training whose latents and texts are cached, and for cards that hold little more than the UNet.
        Not for one that trains the text encoders, which must stay where their gradients are.
        """
        self._parked = True
        for module in (self.vae, *(module for _, module in self.text_encoders)):
            module.to("cpu")

    def release(self) -> None:
        """Give up VAE and text encoders for good: nothing can be encoded or drawn any more."""
        for module in (self.vae, *(module for _, module in self.text_encoders)):
            module.to("meta")

    @contextmanager
    def _present(self, *modules: nn.Module) -> Iterator[None]:
        """Within this context the modules are where the UNet is."""
        if not self._parked:
            yield
            return
        for module in modules:
            module.to(self.device)
        try:
            yield
        finally:
            for module in modules:
                module.to("cpu")

    @property
    def pixels_per_latent(self) -> int:
        """Pixels along one side of a latent's cell, 8 in all families."""
        return self._pixels_per_latent

    @property
    def unet(self) -> nn.Module:
        """The denoiser, made when it is first asked for."""
        if self._unet is None:
            self._unet = self.make_unet()
        return self._unet

    @property
    def latent_channels(self) -> int:
        """Channels of a latent, 4 in all v1 models."""
        return int(self.vae.config.latent_channels)  # type: ignore[union-attr,arg-type]

    def latent_side(self, pixels: int) -> int:
        """The side of the latent of an image side in pixels."""
        return pixels // self._pixels_per_latent

    def token_ids(self, prompts: Sequence[str]) -> Tensor:
        """Tokenise to (B, T) int64; longer prompts are cut, shorter ones padded, as v1 models expect."""
        encoded = self.tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        )
        ids: Tensor = encoded.input_ids
        return ids.to(self.device)

    def encode_prompts(self, prompts: Sequence[str]) -> TextStates:
        """The text states that the UNet reads, float32; gradients may flow."""
        return self.encode_ids(self.token_ids(prompts))

    def encode_ids(self, ids: Tensor) -> TextStates:
        """The text states of what `token_ids` gave; gradients may flow."""
        with self._present(*(module for _, module in self.text_encoders)):
            return self.reader.read(self, ids)

    @torch.no_grad()
    def encode_images(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the posterior for images in -1..1: two (B, 4, H/8, W/8) float32.

        Both are in the UNet's units (already multiplied by the latent scale): a sample is mean + std * randn.
        """
        with self._present(self.vae):
            posterior = self.vae.encode(images_BCHW.to(self.device)).latent_dist  # type: ignore[operator]
            return posterior.mean * self.latent_scale, posterior.std * self.latent_scale

    @torch.no_grad()
    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Images (B, 3, H, W) float32 in -1..1 of latents in the UNet's units."""
        scaled_BCHW = latents_BCHW.float() / self.latent_scale
        # a decoder in float32 takes gigabytes for one large image: those go one by one
        large = scaled_BCHW.shape[-2] * scaled_BCHW.shape[-1] >= _LARGE_LATENT
        with self._present(self.vae):
            pieces: list[Tensor] = [
                self.vae.decode(piece_BCHW).sample  # type: ignore[operator]
                for piece_BCHW in scaled_BCHW.split(1 if large else max(1, len(scaled_BCHW)))
            ]
        return torch.cat(pieces).clamp(-1.0, 1.0)

    def predict(self, latents_BCHW: Tensor, timesteps_B: Tensor, text: TextStates, **bent: Any) -> Tensor:
        """The UNet's estimate of what `prediction` says: (B, 4, H, W) float32. Timesteps may be fractions.

        `bent` are further arguments of the UNet, such as what a ControlNet adds to its levels.
        """
        latents = latents_BCHW.to(self.dtype)
        if latents.device.type == "cpu":
            latents = latents.contiguous(memory_format=torch.channels_last)
        further = self.reader.conditions(self, latents_BCHW, text)
        context = text.context_BTC.to(self.dtype)
        estimate: Tensor = self.unet(latents, timesteps_B, context, **further, **bent).sample
        return estimate.float()

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The parts that a LoRA may adapt, with kohya's prefix of their names."""
        yield "lora_unet", self.unet
        yield from self.text_encoders
