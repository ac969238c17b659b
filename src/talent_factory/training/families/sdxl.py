"""SDXL: two text encoders, a pooled text vector and the picture's size as further conditions.

Source: Podell et al. 2023 (arXiv:2307.01952); diffusers' StableDiffusionXLPipeline for the order of parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from talent_factory.core.unet_names import stability_names
from talent_factory.training.families.port import Base, TextStates
from talent_factory.training.families.sd15 import CLASS_PROMPTS, load_parts
from talent_factory.training.lora.names import UNET_PREFIX, kohya_name

if TYPE_CHECKING:
    from talent_factory.training.families.source import Source

_ENCODERS = (("lora_te1", "text_encoder"), ("lora_te2", "text_encoder_2"))
# The second tokenizer fills up with "!", whose number is 0; the first with its end mark.
_SECOND_PADDING = 0


def load(
    source: Source,
    *,
    name: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    class_prompts: tuple[str, ...] = CLASS_PROMPTS,
) -> Base:
    """UNet in `dtype`, VAE and both text encoders in float32 (SDXL's VAE overflows in fp16).

    Raises BaseError when a part is missing or unreadable.
    """
    base = load_parts(
        source,
        name=name,
        device=device,
        dtype=dtype,
        class_prompts=class_prompts,
        encoders=_ENCODERS,
        reader=SdxlReader(),
    )
    rename = stability_names(source.config("unet"))

    def lora_name(path: str, prefix: str) -> str:
        return kohya_name(rename(path) if prefix == UNET_PREFIX else path, prefix)

    base.lora_name = lora_name
    return base


class SdxlReader:
    """The states before the last layer of both encoders side by side; the pooled vector of the second."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, torch.device], Tensor] = {}

    def read(self, base: Base, ids_BT: Tensor) -> TextStates:
        """Context (B, 77, 2048) and pooled (B, 1280) of SDXL proper, float32."""
        (_, first), (_, second) = base.text_encoders
        one = first(ids_BT, output_hidden_states=True).hidden_states[-2]
        answer = second(
            after_end(ids_BT, base.tokenizer.eos_token_id, _SECOND_PADDING), output_hidden_states=True
        )
        context = torch.cat([one, answer.hidden_states[-2]], dim=-1)
        return TextStates(context.float(), answer.text_embeds.float())

    def conditions(self, base: Base, latents_BCHW: Tensor, text: TextStates) -> dict[str, Any]:
        """The pooled text, and six numbers: original size, crop corner and wanted size, in pixels.

        A training image counts as uncropped and of its own size, which is what a picture shall look like.
        """
        assert text.pooled_BD is not None
        height, width = (side * base.pixels_per_latent for side in latents_BCHW.shape[-2:])
        return {
            "added_cond_kwargs": {
                "text_embeds": text.pooled_BD.to(base.dtype),
                "time_ids": self._sizes(base, height, width).expand(len(latents_BCHW), -1),
            }
        }

    def _sizes(self, base: Base, height: int, width: int) -> Tensor:
        """(1, 6) float32, kept on the UNet's device so that a captured step copies nothing to it."""
        key = (height, width, base.device)
        if key not in self._known:
            numbers = [height, width, 0, 0, height, width]
            self._known[key] = torch.tensor([numbers], device=base.device, dtype=torch.float32)
        return self._known[key]


def after_end(ids_BT: Tensor, end: int, padding: int) -> Tensor:
    """The ids with `padding` behind the first end mark of each row."""
    ended = (ids_BT == end).cumsum(dim=1)
    behind = (ended - (ids_BT == end).long()) > 0
    return torch.where(behind, padding, ids_BT)
