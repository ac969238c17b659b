"""The network that paints the mouth: a UNet of diffusers that works in one pass, without diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from talent_factory.core.errors import ConfigError, FileError
from talent_factory.core.files import read_json
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.models.temporal import TemporalUNet
from talent_factory.lipsync.ports import Codec

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from talent_factory.lipsync.masks import FaceMask

Preset = Literal["full", "half", "quarter", "tiny", "demo"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "lipsync" / "unet"
_WIDTH = 384


@dataclass(frozen=True)
class Canvas:
    """What a network paints on, the same in training, validation and use.

    `kept` (1, 1, h, w) is 1 where a latent sees the face, for a network that is fed it. `covered`
    (1, 1, h, w) is 1 where a latent holds any covered pixel: there a network that was trained so adds to the
    reference, and everywhere else the frame stays as it is. None of a kind leaves it out.
    """

    kept: Tensor | None = None
    covered: Tensor | None = None


BLANK = Canvas()
"""The network is fed no mask and paints every latent anew."""


def canvas_of(
    mask: FaceMask, *, size: int, factor: int, fed: bool, residual: bool, like: Tensor | None = None
) -> Canvas:
    """The canvas for pictures of `size` pixels, `factor` to a latent; of the kind and device of `like`."""
    side = size // factor
    kept = mask.kept(side, side) if fed else None
    covered = mask.touched(size, size, factor) if residual else None
    if like is not None:
        kept, covered = (None if one is None else one.to(like) for one in (kept, covered))
    return Canvas(kept, covered)


def read_unet_config(path_or_preset: str | Path) -> dict[str, Any]:
    """The configuration of a UNet2DConditionModel: a preset, a JSON file, or a folder with config.json.

    Presets are "full" (850 M weights), "half" (215 M), "quarter" (79 M), "tiny" (9 M) and "demo" (7 M, for
    latents of few places). Raises ConfigError for a name that is neither, for another class, and for tokens
    of another width than 384.
    """
    text = str(path_or_preset)
    path = _FOLDER / f"{text}.json" if text in PRESETS else Path(text)
    path = path / "config.json" if path.is_dir() else path
    try:
        config = read_json(path)
    except FileError as error:
        raise ConfigError(
            f"unet_config_file {text}: {error.message}",
            remedy=f"name a JSON file or one of {', '.join(PRESETS)}",
        ) from None
    if not isinstance(config, Mapping) or config.get("_class_name", "UNet2DConditionModel") != (
        "UNet2DConditionModel"
    ):
        raise ConfigError(f"{path} describes no UNet2DConditionModel", remedy="start from the preset full")
    if config.get("cross_attention_dim") != _WIDTH:
        width = config.get("cross_attention_dim")
        raise ConfigError(
            f"{path} has cross_attention_dim {width}, but audio tokens have {_WIDTH}",
            remedy=f'write "cross_attention_dim": {_WIDTH}',
        )
    return {key: value for key, value in config.items() if not key.startswith("_diffusers")}


def build_unet(config: Mapping[str, Any], codec: Codec, *, feed_mask: bool = False) -> UNet2DConditionModel:
    """A UNet2DConditionModel with random weights that reads [masked, reference(, mask)] latents of `codec`.

    Channels in and out follow from the codec: 2C (one more with `feed_mask`) and C. Weights come from torch's
    generator: seed it before. Under `torch.device("meta")` nothing is allocated.
    """
    from diffusers import UNet2DConditionModel

    channels = codec.channels
    sides = {"in_channels": 2 * channels + int(feed_mask), "out_channels": channels}
    try:
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config({**config, **sides})
    except (ValueError, TypeError, RuntimeError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(f"the UNet cannot be built: {line}", remedy="start from a preset") from error
    return unet


def make_latents(
    unet: nn.Module,
    masked: Tensor,
    reference: Tensor,
    tokens: Tensor,
    *,
    canvas: Canvas = BLANK,
    length: int = 1,
) -> Tensor:
    """The latents (B, C, h, w) of frames that speak, in one pass; the order of the inputs matters.

    `masked` and `reference` are (B, C, h, w), `tokens` (B, N, 384). `canvas` says whether the mask is fed,
    and where the network adds to the reference. `length` frames that follow each other attend to each other
    where the network is a TemporalUNet, bare or wrapped for several processes. The time step is always 0:
    nothing is diffused.
    """
    parts = [masked, reference]
    if canvas.kept is not None:
        parts.append(canvas.kept.to(masked).expand(len(masked), -1, -1, -1))
    zero = torch.zeros((), dtype=torch.long, device=masked.device)
    inner = getattr(unet, "module", unet)
    further = {"length": length} if isinstance(inner, TemporalUNet) else {}
    answer: Tensor = unet(torch.cat(parts, dim=1), zero, tokens, return_dict=False, **further)[0]
    if canvas.covered is None:
        return answer
    covered = canvas.covered.to(masked)
    return torch.where(covered > 0, reference, masked) + covered * answer


def begin_at_reference(unet: nn.Module) -> None:
    """Let an untrained UNet add nothing, so that training begins at the reference."""
    last: Any = unet.conv_out
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def predict(unet: nn.Module, batch: Batch, *, canvas: Canvas = BLANK) -> Tensor:
    """What `unet` makes of a batch: latents of the shape of `batch.target`."""
    return make_latents(unet, batch.masked, batch.reference, batch.tokens, canvas=canvas, length=batch.length)
