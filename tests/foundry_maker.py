"""Make kits that fit a random base, for the tests of the foundry."""

from __future__ import annotations

from pathlib import Path

from kit_maker import CREATED, make_tensors, write_lora
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
) -> Path:
    """Pack a valid kit of random weights; the same arguments give the same kit."""
    tensors = make_tensors(base_folder, rank=rank, alpha=2.0, seed=seed)
    lora = write_lora(root.parent / f"{talent_id}.safetensors", tensors)
    spec = KitSpec(
        id=talent_id,
        base_model=base_folder.name,
        base_revision=revision,
        rank=rank,
        alpha=2.0,
        created_at=CREATED,
        token=token,
        prompts=PromptSet(positive_prompts=("ink portrait", "flat portrait")),
        default_weight=0.8,
    )
    return pack_kit(spec, lora=lora, examples=(), root=root, base_folder=base_folder)
