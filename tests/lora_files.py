"""Small LoRA files of SD 1.5's and SDXL's full set of names, for the tests of who reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.kits.header_words import header_words
from talent_factory.kits.keys import ModuleShape, expected_modules
from talent_factory.kits.lora_file import lora_bytes

Arrays = dict[str, NDArray[Any]]


def is_transformer(name: str) -> bool:
    """Whether a module is among those that kohya adapts by default."""
    return not any(part in name for part in ("resnets", "samplers", "_layers_", "skip_", "_op", "_conv")) or (
        "text_model" in name
    )


def kohya_arrays(
    base: str | Path, *, rank: int = 2, alpha: float = 1.0, keep: Callable[[str], bool] = is_transformer
) -> Arrays:
    """Tensors of all modules of `base` that `keep` keeps, small and never zero."""
    rng = np.random.default_rng(7)
    arrays: Arrays = {}
    for name, shape in expected_modules(base).items():
        if keep(name):
            arrays.update(module_arrays(name, shape, rank=rank, alpha=alpha, rng=rng))
    return arrays


def module_arrays(
    name: str, shape: ModuleShape, *, rank: int, alpha: float, rng: np.random.Generator
) -> Arrays:
    """The three tensors of one module."""
    return {
        f"{name}.lora_down.weight": rng.normal(0, 0.05, shape.down(rank)).astype(np.float32),
        f"{name}.lora_up.weight": rng.normal(0, 0.05, shape.up(rank)).astype(np.float32),
        f"{name}.alpha": np.array(alpha, np.float32),
    }


def words_for(base: str, name: str = "avatar.identity.someone") -> dict[str, str]:
    """The header that a kit of ours for `base` carries."""
    return header_words(
        name=name,
        base=base,
        base_model="some/model",
        rank=2,
        alpha=1.0,
        triggers=("someone",),
        facts={},
        texts={},
    )


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], words: Mapping[str, str] | None = None
) -> Path:
    """Write a file in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lora_bytes(arrays, precision="fp16", words=words or {}))
    return path


def renamed(arrays: Arrays, change: Callable[[str], str]) -> Arrays:
    """The same tensors under other names."""
    return {change(name): array for name, array in arrays.items()}
