"""Let a picture steer what is drawn: a pose or a depth map, through a ControlNet from a local folder.

Source: Zhang et al. 2023 (arXiv:2302.05543); the order of the parts is that of diffusers' pipelines.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from talent_factory.core.errors import BaseError, UsageError
from talent_factory.core.files import sha256_bytes, sha256_file
from talent_factory.foundry.recipe import Control, ControlUse
from talent_factory.training.families.parts import assemble, broken, read_part, weight_files

if TYPE_CHECKING:
    from talent_factory.training.families.port import Base, TextStates

_MAX_PIXELS = 64_000_000


class Steering:
    """An open ControlNet with its picture; gives the sampler's hook its residuals."""

    def __init__(self, control: Control, base: Base, *, size: tuple[int, int]) -> None:
        """`size` is (width, height) in pixels. Raises BaseError or UsageError for what cannot be used."""
        self._control = control
        self._base = base
        self._picture = read_picture(Path(control.image), size=size).to(base.device, base.dtype)
        self._model = open_control_net(control.model, base.device, base.dtype)
        self._acts = True
        wanted, own = self._width(base.unet), self._width(self._model)
        if wanted != own:
            raise BaseError(
                f"the ControlNet in {control.model} reads texts {own} wide, {Path(base.name).name} {wanted}",
                remedy="give a ControlNet of this base's family with --control-model",
            )

    def before_step(self, index: int, steps: int) -> None:
        """Decide whether step `index` of `steps` is one to steer, as diffusers decides it."""
        self._acts = index / steps >= self._control.begin and (index + 1) / steps <= self._control.end

    def residuals(self, scaled_BCHW: Tensor, timesteps_B: Tensor, text: TextStates) -> dict[str, Any]:
        """What the ControlNet adds to the levels of the UNet, as its arguments."""
        if not self._acts:
            return {}
        base = self._base
        latents = scaled_BCHW.to(base.dtype)
        down, mid = self._model(
            latents,
            timesteps_B,
            encoder_hidden_states=text.context_BTC,
            controlnet_cond=self._picture.expand(len(latents), -1, -1, -1),
            conditioning_scale=self._control.strength,
            return_dict=False,
            **base.reader.conditions(base, scaled_BCHW, text),
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}

    @staticmethod
    def _width(model: nn.Module) -> int:
        known: Any = model.config
        return int(known.cross_attention_dim)


@lru_cache(maxsize=1)
def open_control_net(folder: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The ControlNet in `folder` (config.json and safetensors, as diffusers saves it), frozen.

    Raises BaseError when it is missing, a pickle, or unreadable.
    """
    place = _folder(folder)
    config, tensors = read_part(place.parent, place.name)
    if config.get("_class_name") != "ControlNetModel":
        raise broken(place, f"it is a {config.get('_class_name', 'nameless model')}, no ControlNetModel")
    model = assemble("controlnet", config, tensors, dtype=dtype, where=place)
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def use_of(control: Control) -> ControlUse:
    """How a recipe names a control: by the bytes of picture and model. Raises as opening them does."""
    read_picture(Path(control.image), size=(8, 8))
    digests = [_sha256(path, path.stat().st_mtime_ns) for path in weight_files(_folder(control.model))]
    return ControlUse(
        model=Path(control.model).name,
        model_sha256=digests[0] if len(digests) == 1 else sha256_bytes("".join(digests).encode()),
        image_sha256=sha256_file(Path(control.image)),
        strength=control.strength,
        begin=control.begin,
        end=control.end,
    )


@lru_cache(maxsize=16)
def _sha256(path: Path, changed: int) -> str:
    del changed
    return sha256_file(path)


def _folder(name: str) -> Path:
    place = Path(name).resolve()
    if not (place / "config.json").is_file():
        raise BaseError(
            f"{name} holds no ControlNet: there is no config.json",
            remedy="give the folder of one in diffusers form with --control-model",
        )
    return place


def read_picture(path: Path, *, size: tuple[int, int]) -> Tensor:
    """The picture at `path` as (1, 3, height, width) in 0..1, resized to `size` = (width, height).

    Raises UsageError when it cannot be read or is larger than 64 megapixels.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                raise UsageError(f"{path} has more than {_MAX_PIXELS} pixels", remedy="make it smaller")
            picture = opened.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(
            f"the control picture {path} cannot be read: {error}", remedy="give a PNG, JPEG or WebP"
        ) from error
    array = np.asarray(picture, dtype=np.float32) / 255.0
    return torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0).contiguous()
