"""What is minimised: latents, pixels, and where asked for, looks, a judge and the beat of the sound."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from talent_factory.lipsync.audio.conditioner import positions
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.codec.autoencoder import AutoencoderCodec
from talent_factory.lipsync.losses import SyncJudge, latent_l1, open_perceptual, pixel_l1, sync_loss
from talent_factory.lipsync.models.discriminator import (
    discriminator_loss,
    feature_matching,
    generator_loss,
)
from talent_factory.lipsync.ports import Codec
from talent_factory.lipsync.records import STEPS, WIDTH
from talent_factory.lipsync.train.players import JUDGE

if TYPE_CHECKING:
    from talent_factory.lipsync.config import TrainConfig
    from talent_factory.lipsync.masks import FaceMask


class Objective:
    """The losses of one run by their weights; all of them means over a batch, so pieces add up to a step."""

    def __init__(
        self,
        config: TrainConfig,
        codec: Codec,
        mask: FaceMask,
        *,
        size: int,
        device: str,
        judge: nn.Module | None = None,
        sync: SyncJudge | None = None,
    ) -> None:
        """`judge` is the discriminator itself, which the painter's loss looks through without teaching it."""
        self._config, self._codec, self._judge, self._sync = config, codec, judge, sync
        self._device = torch.device(device).type
        self._weights = mask.weights(size, size, mouth=config.mouth_weight).to(device)
        self._looks = open_perceptual(config.vgg_weights, device=device) if config.perceptual_loss else None
        wanted = {
            "pixel": config.pixel_loss,
            "perceptual": config.perceptual_loss,
            "gan": config.gan_loss,
            "features": config.gan_loss,
            "sync": config.sync_loss,
            JUDGE: config.gan_loss,
        }
        self.names: tuple[str, ...] = ("loss", "latent", *(name for name, weight in wanted.items() if weight))
        """Losses in the order in which they are summed; `loss` is the total."""

    def losses(self, made: Tensor, batch: Batch, *, step: int) -> tuple[dict[str, Tensor], Tensor | None]:
        """The losses of latents `made` (B, C, h, w), 0-dim each, and the frames where it decodes them."""
        config = self._config
        made = made.float()
        found = {"latent": latent_l1(made, batch.target)}
        total = config.latent_loss * found["latent"]
        if batch.images is None or not config.needs_pixels:
            return {"loss": total, **found}, None
        with self._narrow():
            images = self._codec.decode(made).float()
        if config.pixel_loss:
            found["pixel"] = pixel_l1(images, batch.images, self._weights)
            total = total + config.pixel_loss * found["pixel"]
        if self._looks is not None:
            found["perceptual"] = self._looks(images, batch.images)
            total = total + config.perceptual_loss * found["perceptual"]
        if self._judge is not None and self.judges(step):
            found["gan"], found["features"] = self._fool(self._judge, images, batch.images)
            total = total + config.gan_loss * (
                found["gan"] + config.feature_matching_loss * found["features"]
            )
        if self._sync is not None and config.sync_loss:
            faces = images.unflatten(0, (-1, batch.length))
            found["sync"] = sync_loss(self._sync, faces, self._sound(batch))
            total = total + config.sync_loss * found["sync"]
        return {"loss": total, **found}, images

    def judges(self, step: int) -> bool:
        """Whether the discriminator takes part in this step."""
        return self._judge is not None and step >= self._config.gan_start

    def judge(self, judge: nn.Module, images: Tensor | None, batch: Batch, *, step: int) -> Tensor | None:
        """The loss of the discriminator on frames it must not teach, None before it begins."""
        if images is None or batch.images is None or not self.judges(step):
            return None
        # one pass for both: several processes allow one between two exchanges of gradients
        true, made = _halves(judge(torch.cat([batch.images, images.detach()])))
        return discriminator_loss(true, made, self._config.gan_kind)

    def _narrow(self) -> AbstractContextManager[object]:
        """Decoding in the precision of the network; codecs without weights lose too much by that."""
        kinds = {"bf16": torch.bfloat16} | ({"fp16": torch.float16} if self._device == "cuda" else {})
        dtype = kinds.get(self._config.mixed_precision)
        if dtype is None or not isinstance(self._codec, AutoencoderCodec):
            return nullcontext()
        return torch.autocast(self._device, dtype)

    def _fool(self, judge: nn.Module, images: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """What the painter learns from the judge, which learns nothing itself."""
        judge.requires_grad_(False)
        try:
            right, made = _halves(judge(torch.cat([true, images])))
        finally:
            judge.requires_grad_(True)
        return generator_loss(made, self._config.gan_kind), feature_matching(right, made)

    def _sound(self, batch: Batch) -> Tensor:
        """The features of the frames themselves, (samples, T, 10, 384), taken out of their windows."""
        tokens = batch.tokens - positions(batch.tokens.shape[1]).to(batch.tokens)
        left = self._config.audio_length_left
        own = tokens[:, left * STEPS : (left + 1) * STEPS]
        return own.reshape(-1, batch.length, STEPS, WIDTH)


def _halves(features: list[list[Tensor]]) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """The features of the first and of the second half of a batch."""
    pairs = [[layer.chunk(2) for layer in scale] for scale in features]
    return [[one for one, _ in scale] for scale in pairs], [[other for _, other in scale] for scale in pairs]
