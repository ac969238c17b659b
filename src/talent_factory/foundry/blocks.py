"""Name the parts of a model that a kit may act in more or less: blocks, and the presets made of them.

Blocks are called as in diffusers, shortened: `down.1.attentions.0`, `mid`, `up.0`, `te` for the text encoders
(`te1`, `te2` where there are two), `all` for everything that no other name says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from talent_factory.core.errors import UsageError
from talent_factory.core.unet_names import diffusers_names
from talent_factory.kits.keys import unet_config

Blocks = tuple[tuple[str, float], ...]

# B-LoRA (arXiv 2403.14572): in SDXL one transformer block holds what is drawn, the next how it is drawn.
PRESETS: Mapping[str, Blocks] = {
    "content": (("all", 0.0), ("te", 1.0), ("up.0.attentions.0", 1.0)),
    "style": (("all", 0.0), ("up.0.attentions.1", 1.0)),
}
_KINDS = "attentions|resnets|downsamplers|upsamplers"
_NAME = re.compile(
    rf"all|te[12]?|(?:(?:down|up)(?:\.\d+)?|mid)|(?:(?:down|up)\.\d+|mid)\.(?:{_KINDS})(?:\.\d+)?"
)
_OWN = re.compile(rf"lora_unet_(?:(down|up)_blocks_(\d+)|(mid)_block)_({_KINDS})_(\d+)_")
_STABILITY = re.compile(r"lora_unet_(?:(input|output)_blocks_(\d+)_(\d+)|(middle)_block_(\d+))_")
_TEXT = re.compile(r"lora_(te[12]?)_")


def read_blocks(text: str, *, base: str) -> Blocks:
    """The factors that `down=0.5,up.1=0` or the name of a preset says, for a kit of `base`.

    Raises UsageError for what is neither, and for a preset on a base that is not SDXL.
    """
    if text in PRESETS:
        if not is_sdxl(base):
            raise UsageError(
                f"the blocks of B-LoRA are those of SDXL, {Path(base).name} has others",
                remedy="write factors, such as down=0.5,up.1=0",
            )
        return PRESETS[text]
    factors = []
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            factors.append((name.strip(), float(number)))
        except ValueError:
            raise UsageError(
                f"{part!r} is no factor of a block",
                remedy=f"write down=0.5,up.1=0, or {' or '.join(PRESETS)} for SDXL",
            ) from None
    return check_blocks(tuple(factors))


def check_blocks(blocks: Blocks) -> Blocks:
    """The same blocks. Raises UsageError for a name that is none, one said twice, or a wild factor."""
    names = [name for name, _ in blocks]
    for name, factor in blocks:
        if _NAME.fullmatch(name) is None or names.count(name) > 1:
            fault = "is said twice" if names.count(name) > 1 else "is no block"
            raise UsageError(
                f"{name!r} {fault}", remedy="blocks are down, mid, up, up.1, up.1.attentions.0, te and all"
            )
        if not -2.0 <= factor <= 2.0:
            raise UsageError(f"{factor:g} is no factor from -2 to 2 for {name}", remedy=f"write {name}=0.5")
    return blocks


def factor_of(block: str, blocks: Blocks) -> float:
    """The factor of a block such as `up.1.attentions.0`: that of the longest name that it begins with."""
    # `all` is the least exact of names, however long it is
    matches = [(name != "all", len(name), factor) for name, factor in blocks if _within(block, name)]
    return max(matches)[2] if matches else 1.0


def _within(block: str, name: str) -> bool:
    if name == "te":
        return block in ("te", "te1", "te2")
    return name == "all" or block == name or block.startswith(f"{name}.")


def is_sdxl(base: str) -> bool:
    """Whether a kit's `base` is SDXL, or the folder of a model with its two text encoders."""
    return base == "sdxl" or (Path(base) / "text_encoder_2").is_dir()


@lru_cache(maxsize=16)
def block_namer(base: str) -> Callable[[str], str]:
    """The function from a layer's name in a LoRA file of `base` to its block, "" where it is in none."""
    rename = diffusers_names(unet_config(base if base == "sdxl" else Path(base))) if is_sdxl(base) else None

    def block_of(layer: str) -> str:
        text = _TEXT.match(layer)
        if text is not None:
            return text[1]
        own = _OWN.match(layer)
        if own is not None:
            level = own[3] or f"{own[1]}.{own[2]}"
            return f"{level}.{own[4]}.{own[5]}"
        flat = _STABILITY.match(layer)
        if flat is None or rename is None:
            return ""
        place = f"middle_block.{flat[5]}" if flat[4] else f"{flat[1]}_blocks.{flat[2]}.{flat[3]}"
        return ".".join(_short(rename(f"{place}.layer").split(".")))

    return block_of


def _short(parts: list[str]) -> list[str]:
    if parts[0] == "mid_block":
        return ["mid", *parts[1:3]]
    return [parts[0].removesuffix("_blocks"), *parts[1:4]]
