"""The two names that each layer of a Stable Diffusion UNet has: diffusers' and those of Stability's own code.

Source: the module trees of diffusers' UNet2DConditionModel and of `openaimodel.UNetModel` in
CompVis/stable-diffusion and Stability-AI/generative-models, which single-file checkpoints are named by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SHAPES_WORD = "talent_factory.shapes"
"""The header word under which a checkpoint of unusual size carries the configurations of its parts."""

_TOP: Mapping[str, str] = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESIDUAL: Mapping[str, str] = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def stability_names(config: Mapping[str, Any]) -> Callable[[str], str]:
    """Return the function from a diffusers path to Stability's, for a UNet2DConditionModel configuration.

    It takes module paths and tensor names alike (`down_blocks.0.resnets.0.conv1.weight`); a path that names
    no layer of such a UNet comes back as it is. Raises KeyError when the configuration lacks its blocks.
    """
    blocks = _blocks(config)

    def rename(path: str) -> str:
        parts = path.split(".")
        depth = 3 if parts[0] == "mid_block" else 4
        place = blocks.get(".".join(parts[:depth]))
        if place is not None:
            return ".".join([place, *_tail(parts[depth - 2], parts[depth:])])
        for count in (1, 2):
            top = _TOP.get(".".join(parts[:count]))
            if top is not None:
                return ".".join([top, *parts[count:]])
        return path

    return rename


def diffusers_names(config: Mapping[str, Any]) -> Callable[[str], str]:
    """Return the function back: from Stability's path or tensor name to diffusers'; see `stability_names`."""
    places = {place: block for block, place in _blocks(config).items()}
    tops = {new: old for old, new in _TOP.items()}
    residual = {new: old for old, new in _RESIDUAL.items()}

    def rename(path: str) -> str:
        parts = path.split(".")
        for count in (3, 2):
            top = tops.get(".".join(parts[:count]))
            if top is not None:
                return ".".join([top, *parts[count:]])
        depth = 2 if parts[0] == "middle_block" else 3
        block = places.get(".".join(parts[:depth]))
        if block is None:
            return path
        rest = parts[depth:]
        if "resnets" in block:
            for count in (2, 1):
                known = residual.get(".".join(rest[:count]))
                if known is not None:
                    return ".".join([block, known, *rest[count:]])
        if "downsamplers" in block and rest[:1] == ["op"]:
            rest[0] = "conv"
        return ".".join([block, *rest])

    return rename


def _tail(kind: str, rest: list[str]) -> list[str]:
    """The end of a path inside its block; transformers are named alike on both sides."""
    if kind == "resnets" and rest:
        return [_RESIDUAL.get(rest[0], rest[0]), *rest[1:]]
    if kind == "downsamplers" and rest:
        return ["op", *rest[1:]]
    return rest


def _blocks(config: Mapping[str, Any]) -> dict[str, str]:
    """Each residual block, transformer and resampler with its place in the flat lists of Stability's code."""
    levels = len(config["block_out_channels"])
    layers = config.get("layers_per_block", 2)
    counts = [int(layers)] * levels if isinstance(layers, int) else [int(count) for count in layers]
    found: dict[str, str] = {}
    number = 1  # input block 0 is the first convolution
    for level, kind in enumerate(config["down_block_types"]):
        for index in range(counts[level]):
            found[f"down_blocks.{level}.resnets.{index}"] = f"input_blocks.{number}.0"
            if "CrossAttn" in kind:
                found[f"down_blocks.{level}.attentions.{index}"] = f"input_blocks.{number}.1"
            number += 1
        if level < levels - 1:
            found[f"down_blocks.{level}.downsamplers.0"] = f"input_blocks.{number}.0"
            number += 1
    # residual block, transformer, residual block
    found["mid_block.resnets.0"] = "middle_block.0"
    found["mid_block.attentions.0"] = "middle_block.1"
    found["mid_block.resnets.1"] = "middle_block.2"
    number = 0
    for level, kind in enumerate(config["up_block_types"]):
        attends = "CrossAttn" in kind
        for index in range(counts[-1 - level] + 1):
            found[f"up_blocks.{level}.resnets.{index}"] = f"output_blocks.{number}.0"
            if attends:
                found[f"up_blocks.{level}.attentions.{index}"] = f"output_blocks.{number}.1"
            number += 1
        if level < levels - 1:
            # it stands behind what the level's last block already holds
            found[f"up_blocks.{level}.upsamplers.0"] = f"output_blocks.{number - 1}.{2 if attends else 1}"
    return found
