"""Know every module that a LoRA of a base may touch, with its shape, without loading the base.

Names are kohya's: `lora_unet_` or `lora_te…_` and the module path with dots turned to underscores. They
follow by rule from the model's configuration, as diffusers' UNet2DConditionModel and transformers'
CLIPTextModel build it. SDXL's UNet carries the names of Stability's own code (`input_blocks_4_1`), because
that is what every reader expects.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from talent_factory.core.errors import KitError
from talent_factory.core.unet_names import SHAPES_WORD, stability_names
from talent_factory.kits.header import MAX_HEADER_BYTES
from talent_factory.kits.strict import MAX_TEXT_BYTES, StrictJsonError, parse_object, read_regular

MINI_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "mini"


class ModuleShape(NamedTuple):
    """What a LoRA of one module must fit; `kernel` is 0 for a linear layer, else a convolution's side."""

    in_features: int
    out_features: int
    kernel: int

    def down(self, rank: int) -> tuple[int, ...]:
        """Return the shape of lora_down: (rank, in) or (rank, in, k, k)."""
        return (rank, self.in_features) + (self.kernel,) * (2 if self.kernel else 0)

    def up(self, rank: int) -> tuple[int, ...]:
        """Return the shape of lora_up: (out, rank) or (out, rank, 1, 1)."""
        return (self.out_features, rank) + ((1, 1) if self.kernel else ())


class _Transformer(NamedTuple):
    path: str
    channels: int
    depth: int
    cross: int


Modules = Mapping[str, ModuleShape]

_SD15_UNET: Mapping[str, Any] = {
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 768,
}
_SDXL_UNET: Mapping[str, Any] = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
}
_CLIP_L: Mapping[str, Any] = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
_CLIP_G: Mapping[str, Any] = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32}


def expected_modules(base: str | Path) -> Modules:
    """Return name -> shape of each module that a LoRA of `base` may hold.

    `base` is "mini", "sd15", "sdxl", the folder of a model in diffusers form, or a checkpoint file that
    carries its configurations. Raises KitError when they cannot be used.
    """
    if base == "sd15":
        return _sd15()
    if base == "sdxl":
        return _sdxl()
    if base == "mini":
        return folder_modules(MINI_FOLDER)
    if isinstance(base, Path):
        return folder_modules(base)
    raise KitError(
        f"no base called {base[:60]!r}", remedy="use mini, sd15, sdxl or a folder in diffusers form"
    )


def base_of(base_model: str, sdx_version: str) -> str:
    """Return the name of the base that a manifest means: mini by its name, else by the version field."""
    if base_model == "mini":
        return "mini"
    return "sdxl" if sdx_version == "xl" else "sd15"


def cross_attention_width(modules: Modules) -> int:
    """Return the width of the text states that the base's cross-attention reads, 0 when it has none."""
    return next((shape.in_features for name, shape in modules.items() if name.endswith("_attn2_to_k")), 0)


@functools.lru_cache(maxsize=16)
def folder_modules(folder: Path) -> Modules:
    """Return the modules of a model in diffusers form from its unet/config.json and text_encoder/config.json.

    Of a checkpoint file of unusual size, the header holds the same. A second text encoder makes it an SDXL,
    with that family's names. Raises KitError when a file is missing, is no JSON object or describes blocks
    that are not known here.
    """
    try:
        found = _model_modules(_configs(folder))
    except (OSError, StrictJsonError, KeyError, TypeError, IndexError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        raise KitError(
            f"the base in {folder} cannot be read: {reason}", remedy="talent doctor checks the embedded base"
        ) from error
    return MappingProxyType(found)


def _model_modules(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, ModuleShape]:
    unet, first = parts["unet"], parts["text_encoder"]
    if "text_encoder_2" not in parts:
        return {**unet_modules(unet), **text_modules(first, prefix="lora_te")}
    return {
        **unet_modules(unet, rename=stability_names(unet)),
        **text_modules(first, prefix="lora_te1"),
        **text_modules(parts["text_encoder_2"], prefix="lora_te2"),
    }


def _configs(base: Path) -> dict[str, dict[str, Any]]:
    """The configurations of UNet and text encoders."""
    if base.is_file():
        with base.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = parse_object(file.read(min(length, MAX_HEADER_BYTES)))
        return parse_object(header["__metadata__"][SHAPES_WORD].encode())
    parts = ["unet", "text_encoder"]
    parts += ["text_encoder_2"] if (base / "text_encoder_2").is_dir() else []
    return {
        part: parse_object(read_regular(base / part / "config.json", limit=MAX_TEXT_BYTES)) for part in parts
    }


@functools.cache
def _sd15() -> Modules:
    return MappingProxyType({**unet_modules(_SD15_UNET), **text_modules(_CLIP_L, prefix="lora_te")})


@functools.cache
def _sdxl() -> Modules:
    return MappingProxyType(
        {
            **unet_modules(_SDXL_UNET, rename=stability_names(_SDXL_UNET)),
            **text_modules(_CLIP_L, prefix="lora_te1"),
            **text_modules(_CLIP_G, prefix="lora_te2"),
        }
    )


def base_configs(base: str | Path) -> Mapping[str, Mapping[str, Any]]:
    """Return the configurations that decide the modules of a base: `unet`, `text_encoder`, `text_encoder_2`.

    `base` is as in `expected_modules`; raises OSError, KeyError or StrictJsonError when a folder has none.
    """
    if base in ("sd15", "sdxl"):
        parts = ("unet", "text_encoder", "text_encoder_2")
        return dict(zip(parts, (unet_config(str(base)), *text_configs(str(base))), strict=False))
    return _configs(MINI_FOLDER if base == "mini" else Path(base))


def unet_config(base: str | Path) -> Mapping[str, Any]:
    """Return the UNet configuration that decides the modules of "sd15", "sdxl" or a model's folder.

    Raises KeyError for other names and KitError for a folder that holds none.
    """
    if isinstance(base, Path):
        folder_modules(base)
        return _configs(base)["unet"]
    return {"sd15": _SD15_UNET, "sdxl": _SDXL_UNET}[base]


def text_configs(base: str) -> tuple[Mapping[str, Any], ...]:
    """Return the configurations of the text encoders of "sd15" or "sdxl", in the order of their prefixes."""
    return {"sd15": (_CLIP_L,), "sdxl": (_CLIP_L, _CLIP_G)}[base]


def unet_paths(config: Mapping[str, Any]) -> Iterator[tuple[str, ModuleShape]]:
    """Yield the dotted diffusers path and the shape of each module that `unet_modules` names."""
    yield from _transformer_modules(config)
    yield from _residual_modules(config)


def unet_modules(config: Mapping[str, Any], *, rename: Callable[[str], str] = str) -> dict[str, ModuleShape]:
    """Return the modules of a UNet2DConditionModel configuration that LoRAs adapt.

    These are attention, feed-forward and projections of each transformer (kohya's default choice) and the
    convolutions and time embeddings of each residual block (LoCon). `rename` maps a diffusers path such as
    `down_blocks.1.attentions.0.proj_in` to the path in the names.
    """
    found: dict[str, ModuleShape] = {}
    for path, shape in (*_transformer_modules(config), *_residual_modules(config)):
        found["lora_unet_" + rename(path).replace(".", "_")] = shape
    return found


def _transformer_modules(config: Mapping[str, Any]) -> Iterator[tuple[str, ModuleShape]]:
    kernel = 0 if config.get("use_linear_projection") else 1
    for path, width, depth, cross in _transformers(config):
        square = ModuleShape(width, width, 0)
        yield f"{path}.proj_in", ModuleShape(width, width, kernel)
        yield f"{path}.proj_out", ModuleShape(width, width, kernel)
        for index in range(depth):
            block = f"{path}.transformer_blocks.{index}"
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                crossed = part in ("to_k", "to_v")
                yield f"{block}.attn1.{part}", square
                yield f"{block}.attn2.{part}", ModuleShape(cross, width, 0) if crossed else square
            # GEGLU: the first layer makes value and gate, four times the width each.
            yield f"{block}.ff.net.0.proj", ModuleShape(width, 8 * width, 0)
            yield f"{block}.ff.net.2", ModuleShape(4 * width, width, 0)


def _residual_modules(config: Mapping[str, Any]) -> Iterator[tuple[str, ModuleShape]]:
    channels = [int(width) for width in config["block_out_channels"]]
    time = int(config.get("time_embedding_dim") or 4 * channels[0])
    for path, inside, outside in _residuals(
        channels, _each(config.get("layers_per_block"), 2, len(channels))
    ):
        yield f"{path}.conv1", ModuleShape(inside, outside, 3)
        yield f"{path}.conv2", ModuleShape(outside, outside, 3)
        yield f"{path}.time_emb_proj", ModuleShape(time, outside, 0)
        if inside != outside:
            yield f"{path}.conv_shortcut", ModuleShape(inside, outside, 1)
    for level in range(len(channels) - 1):
        yield f"down_blocks.{level}.downsamplers.0.conv", ModuleShape(channels[level], channels[level], 3)
        width = channels[-1 - level]
        yield f"up_blocks.{level}.upsamplers.0.conv", ModuleShape(width, width, 3)


def _residuals(channels: list[int], layers: list[int]) -> Iterator[tuple[str, int, int]]:
    """Yield path, input and output channels of each residual block; going up, a skip joins the input."""
    before = channels[0]
    skips = [before]
    for level, width in enumerate(channels):
        for index in range(layers[level]):
            yield f"down_blocks.{level}.resnets.{index}", before, width
            before = width
            skips.append(width)
        if level < len(channels) - 1:
            skips.append(width)
    yield "mid_block.resnets.0", before, before
    yield "mid_block.resnets.1", before, before
    for position, width in enumerate(reversed(channels)):
        for index in range(layers[-1 - position] + 1):
            yield f"up_blocks.{position}.resnets.{index}", before + skips.pop(), width
            before = width


def text_modules(config: Mapping[str, Any], *, prefix: str) -> dict[str, ModuleShape]:
    """Return the attention and MLP modules of a CLIPTextModel configuration, six a layer.

    The names keep `text_model_` whatever version of transformers trained them: readers look for it.
    """
    width, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    found: dict[str, ModuleShape] = {}
    for layer in range(int(config["num_hidden_layers"])):
        name = f"{prefix}_text_model_encoder_layers_{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found[f"{name}_self_attn_{part}"] = ModuleShape(width, width, 0)
        found[f"{name}_mlp_fc1"] = ModuleShape(width, inner, 0)
        found[f"{name}_mlp_fc2"] = ModuleShape(inner, width, 0)
    return found


def _transformers(config: Mapping[str, Any]) -> Iterator[_Transformer]:
    channels = [int(width) for width in config["block_out_channels"]]
    levels = len(channels)
    cross = _each(config.get("cross_attention_dim"), 1280, levels)
    depth = _each(config.get("transformer_layers_per_block"), 1, levels)
    layers = _each(config.get("layers_per_block"), 2, levels)
    for level, kind in enumerate(config["down_block_types"]):
        if _has_attention(kind):
            for index in range(layers[level]):
                yield _Transformer(
                    f"down_blocks.{level}.attentions.{index}", channels[level], depth[level], cross[level]
                )
    if _has_attention(config.get("mid_block_type", "UNetMidBlock2DCrossAttn") or "UNetMidBlock2D"):
        yield _Transformer("mid_block.attentions.0", channels[-1], depth[-1], cross[-1])
    for position, kind in enumerate(config["up_block_types"]):
        level = levels - 1 - position
        if _has_attention(kind):
            for index in range(layers[level] + 1):
                yield _Transformer(
                    f"up_blocks.{position}.attentions.{index}", channels[level], depth[level], cross[level]
                )


def _each(value: Any, default: int, count: int) -> list[int]:
    value = default if value is None else value
    return [int(item) for item in value] if isinstance(value, (list, tuple)) else [int(value)] * count


def _has_attention(kind: str) -> bool:
    if kind in ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D", "UNetMidBlock2DCrossAttn"):
        return True
    if kind in ("DownBlock2D", "UpBlock2D", "UNetMidBlock2D"):
        return False
    raise KeyError(f"unknown block type {kind}")
