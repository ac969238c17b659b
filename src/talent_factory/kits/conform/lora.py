"""A LoRA file as readers see it: names, shapes and header words, without the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from talent_factory.core.errors import KitError
from talent_factory.kits.header import HeaderError, parse_header
from talent_factory.kits.keys import ModuleShape

MAX_NAMES = 5

Part = Literal["down", "up", "mid", "alpha", "dora"]
Find = Callable[[str], ModuleShape | None]
Split = Callable[[str], tuple[str, Part] | None]

KOHYA_PARTS: Mapping[str, Part] = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    "alpha": "alpha",
    "dora_scale": "dora",
}


@dataclass(frozen=True)
class LoraFile:
    """What the header of a safetensors file says."""

    path: Path
    words: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def stem(self) -> str:
        """The file's name without its ending: what most programs call it."""
        return self.path.stem

    @property
    def family(self) -> Literal["sd15", "sdxl", ""]:
        """The base that widths and names point to; "" when they point to none that is known here."""
        for name, shape in self.shapes.items():
            crossed = "attn2_to_k" in name or "attn2.to_k" in name
            if crossed and name.endswith(("lora_down.weight", "lora_A.weight")) and len(shape) == 2:
                return {768: "sd15", 2048: "sdxl"}.get(shape[1], "")  # type: ignore[return-value]
        names = " ".join(self.shapes)
        if "lora_te2_" in names or "lora_unet_input_blocks_" in names:
            return "sdxl"
        widths = {
            shape[-1] for name, shape in self.shapes.items() if name.endswith("q_proj.lora_down.weight")
        }
        return "sd15" if "lora_te_" in names and widths == {768} else ""

    @property
    def dora(self) -> Literal["", "input", "output"]:
        """The axis of W that DoRA's lengths belong to: columns (kohya's form), rows (PEFT's), or no DoRA."""
        for name, shape in self.shapes.items():
            if name.endswith(".dora_scale"):
                return "input" if len(shape) > 1 and shape[0] == 1 else "output"
        return ""


@dataclass
class Matches:
    """Which modules of a program's model the file reaches, and which of its tensors reach nothing."""

    modules: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)


def open_lora(path: Path) -> LoraFile:
    """Return the header of a LoRA file. Raises KitError when it is missing or no safetensors file."""
    if path.suffix.lower() != ".safetensors":
        raise KitError(
            f"{path} is no .safetensors file; other forms can run code when they are loaded",
            remedy="convert it with the program that made it",
        )
    try:
        header = parse_header(path.read_bytes())
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}", remedy="talent kit list shows the kits") from error
    except HeaderError as error:
        raise KitError(f"{path}: {error.message}", remedy=error.remedy) from error
    return LoraFile(path, header.metadata, {entry.name: entry.shape for entry in header.tensors})


def split_at_first_dot(name: str) -> tuple[str, Part] | None:
    """Split kohya's way, where a module's name has no dots; None for what is no part of a LoRA."""
    module, _, part = name.partition(".")
    return (module, KOHYA_PARTS[part]) if part in KOHYA_PARTS else None


def match(file: LoraFile, *, split: Split, find: Find) -> Matches:
    """Sort the tensors of `file`: `split` cuts a name, `find` looks the module up in the program's model."""
    parts: dict[str, dict[Part, str]] = {}
    found = Matches()
    for name in file.shapes:
        cut = split(name)
        if cut is None:
            found.unmatched.append(name)
        else:
            parts.setdefault(cut[0], {})[cut[1]] = name
    for module, names in parts.items():
        slot = find(module)
        if slot is None or not {"down", "up"} <= names.keys():
            found.unmatched.extend(names.values())
        elif not _fits(file, names, slot):
            found.misfits.append(module)
            found.unmatched.extend(names.values())
        else:
            found.modules.append(module)
    return found


def first_names(names: Iterable[str]) -> tuple[str, ...]:
    """The first few names, each short enough to print."""
    return tuple(name[:160] for name in list(names)[:MAX_NAMES])


def _fits(file: LoraFile, names: Mapping[Part, str], slot: ModuleShape) -> bool:
    """Whether up @ down has as many rows and numbers as the module's weight: readers reshape the rest."""
    down, up = file.shapes[names["down"]], file.shapes[names["up"]]
    if len(down) < 2 or len(up) < 2:
        return False
    if "mid" in names:
        return up[0] == slot.out_features
    columns = slot.in_features * (slot.kernel or 1) ** 2
    size = 1
    for side in down[1:]:
        size *= side
    return up[0] == slot.out_features and size == columns and up[1] == down[0]
