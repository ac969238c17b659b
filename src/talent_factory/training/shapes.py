"""The shape of a base without its weights: which architecture, how many weights, what a picture costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from talent_factory.core.errors import BaseError
from talent_factory.core.files import read_json
from talent_factory.core.records import Record
from talent_factory.training.arithmetic import BASE_ALONE, Adaption, Work, text_work, unet_work
from talent_factory.training.checkpoint_header import embedded_shapes, read_header
from talent_factory.training.families.shapes import PARTS, Config
from talent_factory.training.picture_arithmetic import PictureWork, picture_work
from talent_factory.training.resolve import FoundBase, resolve_base


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

    Where the base is not on this machine, it has the dimensions of its generation. Raises BaseError when its
    configuration cannot be understood.
    """
    try:
        found = resolve_base(base_model)
        parts = _parts(found)
    except BaseError:
        return _shape(PARTS["sdxl" if sdx_version == "xl" else "sd15"], family=_family(sdx_version))
    family = "mini" if found.form == "mini" else found.family
    try:
        shape = _shape(parts, family=family)
        side = 8 * shape.pixels_per_latent
        shape.unet_work(height=side, width=side)
        shape.picture_work(height=side, width=side)
        shape.text_work()
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BaseError(
            f"the base in {found.path} has parts of an unknown shape: {error}",
            remedy="use a Stable Diffusion 1.5 or SDXL model in diffusers form",
        ) from None
    return shape


def _parts(found: FoundBase) -> Mapping[str, Config]:
    """The configuration of each part, as the base itself or its family states it."""
    if found.form == "checkpoint":
        return embedded_shapes(read_header(found.path)) or PARTS[found.family]
    names = ("unet", "vae", "text_encoder", "text_encoder_2")
    files = {name: found.path / name / "config.json" for name in names}
    return {name: read_json(path) for name, path in files.items() if path.is_file()}


def _shape(parts: Mapping[str, Config], *, family: Literal["mini", "sd15", "sdxl"]) -> BaseShape:
    texts = [dict(parts[name]) for name in ("text_encoder", "text_encoder_2") if name in parts]
    if len(texts) > 1:
        texts[1]["projects"] = True  # SDXL reads the projected summary of its second encoder
    return BaseShape(family=family, unet=dict(parts["unet"]), texts=tuple(texts), vae=dict(parts["vae"]))


def _family(sdx_version: str) -> Literal["sd15", "sdxl"]:
    return "sdxl" if sdx_version == "xl" else "sd15"
