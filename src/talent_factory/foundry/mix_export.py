"""Ship a mix as one kit: the exact sum as a single LoRA that every program loads."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from talent_factory.core.errors import KitError
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient
from talent_factory.foundry.mix import combine
from talent_factory.foundry.ways import uses_of
from talent_factory.kits.manifest import PromptSet, Subject
from talent_factory.kits.pack import KitSpec, pack_kit

MAX_RANK = 128
_CONSENT = ("none", "written", "self")


def export_mix(
    mix: Mix,
    *,
    talent_id: str,
    root: Path,
    base_folder: Path | None = None,
    precision: Literal["fp16", "fp32"] = "fp16",
) -> Path:
    """Write the kit `root/<talent_id>` whose weights are the mix itself, and return its folder.

    The ranks of the kits add up; at weight 1 the kit does what the mix did. The same mix gives the same
    bytes. Raises KitError when the mix changes from step to step, has a kit trained with DoRA, or has more
    than 128 ranks, and what `pack_kit` raises.
    """
    tensors = combine(mix)
    if not tensors:
        raise KitError("the mix changes nothing", remedy="give its kits weights other than 0")
    rank = max(len(tensor) for name, tensor in tensors.items() if name.endswith("lora_down.weight"))
    if rank > MAX_RANK:
        raise KitError(
            f"the ranks add up to {rank}, a kit may have {MAX_RANK}", remedy="mix fewer kits, or of less rank"
        )
    with tempfile.TemporaryDirectory(prefix="talent-mix-") as folder:
        path = Path(folder) / "mix.safetensors"
        save_file(padded(tensors, rank), path)
        spec = _spec(mix, talent_id=talent_id, rank=rank, precision=precision)
        return pack_kit(spec, lora=path, examples=(), root=root, base_folder=base_folder)


def padded(tensors: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The same LoRA with all modules of one rank: rows and columns of zeros change no product."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(".alpha"):
            found[name] = torch.tensor(float(rank))
            continue
        axis = 0 if name.endswith("lora_down.weight") else 1
        shape = list(tensor.shape)
        shape[axis] = rank - shape[axis]
        found[name] = torch.cat([tensor, tensor.new_zeros(shape)], dim=axis).contiguous()
    return found


def _spec(mix: Mix, *, talent_id: str, rank: int, precision: Literal["fp16", "fp32"]) -> KitSpec:
    uses = mix.ingredients
    first = uses[0].kit.manifest
    told = [use.kit.manifest.metadata for use in uses]
    tokens = tuple(dict.fromkeys(use.kit.manifest.token for use in uses if use.kit.manifest.token))
    made = {"kits": [use.model_dump(mode="json") for use in uses_of(mix)], "projection": mix.projection}
    names = ", ".join(f"{use.kit.id} at {use.weight:g}" for use in uses)
    return KitSpec(
        id=talent_id,
        base_model=first.base_model,
        sdx_version=first.sdx_version,
        base_revision=next(
            (kit.base_revision for kit in (use.kit for use in uses) if kit.base_revision), None
        ),
        rank=rank,
        alpha=float(rank),
        default_weight=1.0,
        # no clock: the same mix is the same kit
        created_at=max(use.kit.manifest.created_at for use in uses if use.kit.manifest.created_at),
        token=_token(uses),
        triggers=tokens,
        prompts=_prompts(uses),
        negatives=", ".join(dict.fromkeys(use.kit.manifest.negatives or "" for use in uses)).strip(", "),
        description=f"The exact sum of {names}.",
        tags=("mix",),
        license=_license([one.license if one else None for one in told]),
        subject=mixed_subject(
            [
                (one.subject if one else None) or (None if use.kit.manifest.is_identity else Subject())
                for one, use in zip(told, uses, strict=True)
            ]
        ),
        provenance={"mix": made},
        precision=precision,
    )


def _token(uses: Sequence[Ingredient]) -> str | None:
    """The identity's word, else the first there is."""
    ordered = sorted(uses, key=lambda use: not use.kit.id.startswith("avatar.identity."))
    return next((use.kit.manifest.token for use in ordered if use.kit.manifest.token), None)


def _prompts(uses: Sequence[Ingredient]) -> PromptSet:
    """Every kit's prompts; those of the first come first."""

    def gathered(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text for use in uses for text in getattr(use.kit.prompts, name)))

    return PromptSet(
        positive_prompts=gathered("positive_prompts"),
        negative_prompts=gathered("negative_prompts"),
        style_prompts=gathered("style_prompts"),
    )


def _license(licenses: Sequence[str | None]) -> str:
    """The one licence of all, or all of them: whoever ships the mix has to keep each."""
    different = list(dict.fromkeys(text or "unknown" for text in licenses))
    return different[0] if len(different) == 1 else "all of: " + "; ".join(different)


def mixed_subject(subjects: Sequence[Subject | None]) -> Subject | None:
    """A real person in one kit is a real person in the mix, with the weakest consent of those shown.

    None, when an identity does not say whom it shows and the others show nobody who did not agree.
    """
    stated = [one for one in subjects if one is not None]
    shown = [one for one in stated if one.real_person]
    minor = any(one.minor for one in stated)
    if len(stated) < len(subjects) and not minor and all(one.consent != "none" for one in shown):
        return None
    if not shown:
        return Subject(minor=minor)
    weakest = min(shown, key=lambda one: _CONSENT.index(one.consent))
    return weakest.model_copy(update={"minor": minor})
