"""The shape of a base without its weights: which architecture, how many weights, what a picture costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from talent_factory.core.errors import BaseError
from talent_factory.core.files import read_json
from talent_factory.core.records import Record
from talent_factory.training.arithmetic import BASE_ALONE, Adaption, Work, text_work, unet_work
from talent_factory.training.picture_arithmetic import PictureWork, picture_work

_MINI = Path(__file__).resolve().parents[1] / "assets" / "mini"

# The true dimensions of the public models, as their diffusers folders state them.
_CLIP_L: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 49408,
}
_CLIP_G: Mapping[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "vocab_size": 49408,
    "projection_dim": 1280,
    "projects": True,
}
_VAE: Mapping[str, Any] = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}
_SD15: Mapping[str, Any] = {
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
_SDXL: Mapping[str, Any] = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "projection_class_embeddings_input_dim": 2816,
}


class BaseShape(Record):
    """The configurations of a base's parts, as diffusers and transformers write them."""

    family: Literal["mini", "sd15", "sdxl"]
    unet: dict[str, Any]
    texts: tuple[dict[str, Any], ...]
    vae: dict[str, Any]

    @property
    def words(self) -> int:
        """Tokens in a prompt."""
        return int(self.texts[0].get("max_position_embeddings", 77))

    @property
    def pixels_per_latent(self) -> int:
        """Pixels of an image's side for one number of a latent's side."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    def unet_work(
        self, *, height: int, width: int, adaption: Adaption = BASE_ALONE, plain: bool = False
    ) -> Work:
        """The work of one image of `height` x `width` pixels in the UNet."""
        factor = self.pixels_per_latent
        return unet_work(
            self.unet,
            height=height // factor,
            width=width // factor,
            words=self.words,
            adaption=adaption,
            plain_attention=plain,
        )

    def text_work(self, adaption: Adaption = BASE_ALONE) -> tuple[Work, ...]:
        """The work of one prompt in each text encoder."""
        return tuple(text_work(config, words=self.words, adaption=adaption) for config in self.texts)

    def picture_work(self, *, height: int, width: int) -> PictureWork:
        """The work of encoding and decoding one image of `height` x `width` pixels."""
        return picture_work(self.vae, height=height, width=width)


def base_shape(base_model: str, sdx_version: str) -> BaseShape:
    """The shape of the base that a config names; nothing is downloaded, no weights are read.

    A folder in diffusers form states it; anything else has the dimensions of its generation. Raises BaseError
    when the folder's configuration cannot be understood.
    """
    folder = _MINI if base_model == "mini" else Path(base_model).expanduser()
    if (folder / "unet" / "config.json").is_file():
        return _folder_shape(folder, mini=base_model == "mini")
    if sdx_version == "xl":
        return BaseShape(
            family="sdxl", unet=dict(_SDXL), texts=(dict(_CLIP_L), dict(_CLIP_G)), vae=dict(_VAE)
        )
    return BaseShape(family="sd15", unet=dict(_SD15), texts=(dict(_CLIP_L),), vae=dict(_VAE))


def _folder_shape(folder: Path, *, mini: bool) -> BaseShape:
    parts = [name for name in ("text_encoder", "text_encoder_2") if (folder / name / "config.json").is_file()]
    unet = read_json(folder / "unet" / "config.json")
    texts = tuple(_text(read_json(folder / name / "config.json")) for name in parts)
    try:
        shape = BaseShape(
            family="mini" if mini else "sdxl" if len(texts) > 1 else "sd15",
            unet=unet,
            texts=texts,
            vae=read_json(folder / "vae" / "config.json"),
        )
        side = 8 * shape.pixels_per_latent
        shape.unet_work(height=side, width=side)
        shape.picture_work(height=side, width=side)
        shape.text_work()
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BaseError(
            f"the base in {folder} has parts of an unknown shape: {error}",
            remedy="use a Stable Diffusion 1.5 or SDXL model in diffusers form",
        ) from None
    return shape


def _text(config: dict[str, Any]) -> dict[str, Any]:
    classes = config.get("architectures") or ()
    return {**config, "projects": any("WithProjection" in str(name) for name in classes)}
