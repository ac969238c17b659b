"""The trained actor as a folder: the network, and what else must agree with it to make it speak."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field

from talent_factory.core.errors import FileError
from talent_factory.core.files import atomic_path, read_json, sha256_file, write_json
from talent_factory.core.records import Record, read_record, write_record
from talent_factory.lipsync.masks import FaceMask

if TYPE_CHECKING:
    from torch import nn

CARD = "lipsync.json"
UNET = "unet"
WEIGHTS = "diffusion_pytorch_model.safetensors"
TEMPORAL = "temporal.safetensors"
LATEST = "latest"
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,12})")
# What diffusers writes of itself into a config and needs not to build the network.
_OWN_WORDS = ("_name_or_path", "_use_default_values", "_class_name", "_diffusers_version", "dtype")


class ActorCard(Record):
    """What must be the same in training and in use; kept as `lipsync.json` beside `unet/`.

    `codec` and `extractor` are the names or folders that `open_codec` and `open_extractor` take; `codec_id`
    and `extractor_id` are what the opened ones must call themselves. `mask` is what training covered,
    `residual` says that the network adds to the reference there, `length` the frames that a network with
    attention over time sees at once (1 without it).
    `unet_sha256` is of the weights file, filled in by `save_actor`.
    """

    format_version: Literal[1] = 1
    image_size: int = Field(ge=8, le=2048)
    codec: str
    codec_id: str
    extractor: str
    extractor_id: str
    audio_left: int = Field(ge=0, le=50)
    audio_right: int = Field(ge=0, le=50)
    mask: FaceMask = FaceMask()
    feed_mask: bool = False
    residual: bool = False
    length: int = Field(default=1, ge=1, le=256)
    preset: str = ""
    step: int = Field(default=0, ge=0)
    dataset_sha256: str = ""
    unet_sha256: str = ""


@dataclass(frozen=True)
class Actor:
    """A card and its network (eval mode, no gradients), and the folder they came from."""

    card: ActorCard
    unet: nn.Module
    folder: Path
    temporal: Mapping[str, torch.Tensor] | None = None
    """Weights of the attention over time, where it was trained."""


def save_actor(
    folder: Path,
    unet: nn.Module,
    card: ActorCard,
    *,
    state: Mapping[str, torch.Tensor] | None = None,
    temporal: Mapping[str, torch.Tensor] | None = None,
) -> ActorCard:
    """Write `unet/config.json`, its weights as safetensors (as diffusers reads them), and the card, last.

    `unet` is a diffusers UNet2DConditionModel; `state` are other weights for it, such as an average.
    Other files of `folder` stay; each file is written atomically. Returns the card with the weights' hash.
    Raises DiskFull when there is no room.
    """
    from safetensors.torch import save_file

    target = Path(folder) / UNET
    words: Any = unet.config
    config = {key: value for key, value in words.items() if key not in _OWN_WORDS}
    write_json(target / "config.json", {"_class_name": "UNet2DConditionModel", **config})
    with atomic_path(target / WEIGHTS) as temporary:
        save_file(_plain(state or unet.state_dict()), temporary, metadata={"format": "pt"})
    if temporal is not None:
        with atomic_path(Path(folder) / TEMPORAL) as temporary:
            save_file(_plain(temporal), temporary, metadata={"format": "pt"})
    written = card.model_copy(update={"unet_sha256": sha256_file(target / WEIGHTS)})
    write_record(Path(folder) / CARD, written)
    return written


def find_actor(path: Path) -> Path:
    """The folder with the card: `path` itself, the checkpoint its `latest` names, or its newest checkpoint.

    Raises FileError where there is none.
    """
    path = Path(path)
    for folder in _candidates(path):
        if (folder / CARD).is_file():
            return folder
    raise FileError(
        f"{path} holds no speaking actor: there is no {CARD} in it or in a checkpoint-N of it",
        remedy="name the output_dir of a training or one of its checkpoints: talent lipsync train --help",
    )


def read_card(path: Path) -> ActorCard:
    """The card of a run, checkpoint or actor folder, without its network; raises FileError."""
    return read_record(find_actor(path) / CARD, ActorCard)


def load_actor(
    path: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Actor:
    """The actor of a run, checkpoint or actor folder.

    Raises FileError when a file is missing, damaged or does not fit the others; nothing of it is executed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = find_actor(path)
    card = read_record(folder / CARD, ActorCard)
    weights = folder / UNET / WEIGHTS
    _check_weights(weights, card)
    unet = _empty_unet(folder / UNET / "config.json")
    try:
        state = load_file(weights)
        fitted = {name: tensor.to(device=device, dtype=dtype) for name, tensor in state.items()}
        unet.load_state_dict(fitted, strict=True, assign=True)
        temporal = load_file(folder / TEMPORAL) if (folder / TEMPORAL).is_file() else None
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FileError(
            f"{weights} does not fit its config.json: {reason}", remedy="take another checkpoint"
        ) from None
    unet.eval().requires_grad_(False)
    return Actor(card=card, unet=unet, folder=folder, temporal=temporal)


def _candidates(path: Path) -> list[Path]:
    """Where the card may be, best first."""
    found = [path, path / "actor"]
    latest = path / LATEST
    if latest.is_file():
        name = latest.read_text("utf-8", errors="replace").strip()
        # a pointer names a neighbour, never a path
        if _CHECKPOINT.fullmatch(name):
            found += [path / name, path / name / "actor"]
    elif latest.is_dir():
        found += [latest, latest / "actor"]
    if path.is_dir():
        numbered = [(int(m[1]), p) for p in path.iterdir() if (m := _CHECKPOINT.fullmatch(p.name))]
        for _, folder in sorted(numbered, reverse=True):
            found += [folder, folder / "actor"]
    return found


def _check_weights(weights: Path, card: ActorCard) -> None:
    if not weights.is_file():
        raise FileError(f"{weights} is missing", remedy="restore it or take another checkpoint")
    if card.unet_sha256 and sha256_file(weights) != card.unet_sha256:
        raise FileError(
            f"{weights} is not the file that its {CARD} names", remedy="restore it or take another checkpoint"
        )


def _empty_unet(config: Path) -> Any:
    """The network of a config on the meta device: its weights follow."""
    from diffusers import UNet2DConditionModel

    document = read_json(config)
    words = {key: value for key, value in document.items() if key not in _OWN_WORDS}
    try:
        with torch.device("meta"):
            return UNet2DConditionModel(**words)
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FileError(
            f"{config} describes no UNet2DConditionModel: {reason}", remedy="take another checkpoint"
        ) from None


def _plain(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as a file wants them: on the CPU and dense in memory."""
    return {name: tensor.detach().to("cpu").contiguous() for name, tensor in state.items()}
