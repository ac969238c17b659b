"""The modules that a program's own model of SD 1.5 or SDXL has, under diffusers' and Stability's names."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from talent_factory.core.unet_names import stability_names
from talent_factory.kits.keys import ModuleShape, text_configs, text_modules, unet_config, unet_paths

FamilyName = Literal["sd15", "sdxl"]

# Modules that our LoRAs leave alone and that other people's may hold.
_EDGES: tuple[tuple[str, ModuleShape], ...] = (
    ("conv_in", ModuleShape(4, 320, 3)),
    ("conv_out", ModuleShape(320, 4, 3)),
    ("time_embedding.linear_1", ModuleShape(320, 1280, 0)),
    ("time_embedding.linear_2", ModuleShape(1280, 1280, 0)),
)
_SDXL_EDGES: tuple[tuple[str, ModuleShape], ...] = (
    ("add_embedding.linear_1", ModuleShape(2816, 1280, 0)),
    ("add_embedding.linear_2", ModuleShape(1280, 1280, 0)),
)


@dataclass(frozen=True)
class Family:
    """One generation of models; the names are flat, with underscores for dots."""

    name: FamilyName
    unet: Mapping[str, ModuleShape]
    """By diffusers' names: down_blocks_0_attentions_0_proj_in."""
    stability: Mapping[str, ModuleShape]
    """By Stability's names: input_blocks_1_1_proj_in."""
    to_diffusers: Mapping[str, str]
    """Stability's name -> diffusers' name."""
    texts: tuple[Mapping[str, ModuleShape], ...]
    """Of each text encoder: text_model_encoder_layers_0_self_attn_q_proj."""
    dotted: Mapping[str, ModuleShape]
    """By diffusers' names with their dots: down_blocks.0.attentions.0.proj_in."""


@functools.cache
def family(name: FamilyName) -> Family:
    """Return the modules of "sd15" or "sdxl"."""
    config = unet_config(name)
    rename = stability_names(config)
    modules = [*unet_paths(config), *_EDGES, *(_SDXL_EDGES if name == "sdxl" else ())]
    table = [(path, rename(path), shape) for path, shape in modules]
    texts = []
    for text in text_configs(name):
        own = text_modules(text, prefix="te")
        texts.append({flat.removeprefix("te_"): shape for flat, shape in own.items()})
    return Family(
        name=name,
        unet={_flat(path): shape for path, _, shape in table},
        stability={_flat(other): shape for _, other, shape in table},
        to_diffusers={_flat(other): _flat(path) for path, other, _ in table},
        texts=tuple(texts),
        dotted={path: shape for path, _, shape in table},
    )


def _flat(path: str) -> str:
    return path.replace(".", "_")
