"""Make kits that fit a random base, for the tests of the foundry."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from kit_maker import CREATED, make_tensors, write_lora
from talent_factory.kits.keys import folder_modules
from talent_factory.kits.manifest import PromptSet
from talent_factory.kits.pack import KitSpec, pack_kit

IDENTITY = "avatar.identity.dot_test"
STYLE = "avatar.style.wobble"


def add_kit(
    root: Path,
    base_folder: Path,
    talent_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    rank: int = 2,
    seed: int = 0,
    dora: bool = False,
    version: Literal["1.5", "xl"] = "1.5",
) -> Path:
    """Pack a valid kit of random weights; the same arguments give the same kit.

    With `dora` every input's weights have the length 2.
    """
    tensors = make_tensors(base_folder, rank=rank, alpha=2.0, seed=seed)
    for name, shape in folder_modules(base_folder).items() if dora else ():
        tail = (1, 1) if shape.kernel else ()
        tensors[f"{name}.dora_scale"] = np.full((1, shape.in_features, *tail), 2.0, np.float32)
    lora = write_lora(root.parent / f"{talent_id}.safetensors", tensors)
    spec = KitSpec(
        id=talent_id,
        base_model=base_folder.name,
        base_revision=revision,
        sdx_version=version,
        rank=rank,
        alpha=2.0,
        created_at=CREATED,
        token=token,
        prompts=PromptSet(positive_prompts=("ink portrait", "flat portrait")),
        default_weight=0.8,
    )
    return pack_kit(spec, lora=lora, examples=(), root=root, base_folder=base_folder)
