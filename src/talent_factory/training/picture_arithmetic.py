"""Count what one picture costs in a variational autoencoder: weights, FLOP and its largest activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from talent_factory.training.arithmetic import BASE_ALONE, Counter


@dataclass(frozen=True)
class PictureWork:
    """What a picture costs; FLOP of one direction each, and numbers (not bytes) of the largest activation."""

    parameters: int
    encode: float
    decode: float
    largest_encoding: int
    largest_decoding: int


def picture_work(config: Mapping[str, Any], *, height: int, width: int) -> PictureWork:
    """The work of one picture of `height` x `width` pixels in diffusers' AutoencoderKL.

    Raises KeyError or TypeError for a configuration of something else.
    """
    encoder, decoder = Counter(BASE_ALONE), Counter(BASE_ALONE)
    area = height * width
    _encoder(encoder, config, area)
    _decoder(decoder, config, area)
    return PictureWork(
        parameters=encoder.work.parameters + decoder.work.parameters,
        encode=encoder.work.forward,
        decode=decoder.work.forward,
        largest_encoding=encoder.work.largest,
        largest_decoding=decoder.work.largest,
    )


def _encoder(count: Counter, config: Mapping[str, Any], area: int) -> None:
    channels = [int(width) for width in config["block_out_channels"]]
    before = channels[0]
    count.product(int(config.get("in_channels", 3)), before, area, kernel=3)
    for level, width in enumerate(channels):
        for _ in range(int(config.get("layers_per_block", 1))):
            _residual(count, before, width, area)
            before = width
        if level < len(channels) - 1:
            area //= 4
            count.product(width, width, area, kernel=3)
    _middle(count, config, before, area)
    count.norm(before)
    moments = 2 * int(config.get("latent_channels", 4))
    count.product(before, moments, area, kernel=3)
    if config.get("use_quant_conv", True):
        count.product(moments, moments, area)


def _decoder(count: Counter, config: Mapping[str, Any], area: int) -> None:
    channels = [int(width) for width in reversed(config["block_out_channels"])]
    latent, before = int(config.get("latent_channels", 4)), channels[0]
    area //= 4 ** (len(channels) - 1)
    if config.get("use_post_quant_conv", True):
        count.product(latent, latent, area)
    count.product(latent, before, area, kernel=3)
    _middle(count, config, before, area)
    for level, width in enumerate(channels):
        for _ in range(int(config.get("layers_per_block", 1)) + 1):
            _residual(count, before, width, area)
            before = width
        if level < len(channels) - 1:
            area *= 4
            count.keep(width * area, wanted=False)
            count.product(width, width, area, kernel=3)
    count.norm(before)
    count.product(before, int(config.get("out_channels", 3)), area, kernel=3)


def _middle(count: Counter, config: Mapping[str, Any], width: int, area: int) -> None:
    _residual(count, width, width, area)
    if config.get("mid_block_add_attention", True):
        count.norm(width)
        for _ in range(4):
            count.product(width, width, area)
        count.attention(area, area, width, 1)
    _residual(count, width, width, area)


def _residual(count: Counter, inside: int, outside: int, area: int) -> None:
    count.norm(inside)
    count.keep(max(inside, outside) * area, wanted=False)
    count.product(inside, outside, area, kernel=3)
    count.norm(outside)
    count.product(outside, outside, area, kernel=3)
    if inside != outside:
        count.product(inside, outside, area)
