"""Read what a single-file checkpoint says of itself, without torch and without its gigabytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from talent_factory.core.errors import BaseError
from talent_factory.core.unet_names import SHAPES_WORD

Family = Literal["sd15", "sdxl"]
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT_SD15 = "cond_stage_model.transformer."
TEXT_SDXL = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.")
# What the reader of safetensors allows, too.
_MAX_HEADER = 100_000_000
_COUNTS = ("layers_per_block", "transformer_layers_per_block", "num_hidden_layers")
_MOST_LAYERS = 128


@dataclass(frozen=True)
class CheckpointHeader:
    """Names, shapes and words of a safetensors file."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    words: Mapping[str, str]

    @property
    def prediction(self) -> Literal["epsilon", "v_prediction"]:
        """What the model estimates, by ModelSpec's word or by the mark `v_pred` that trainers leave."""
        said = self.words.get("modelspec.prediction_type", "")
        return "v_prediction" if said.startswith("v") or "v_pred" in self.shapes else "epsilon"

    @property
    def zero_terminal(self) -> bool:
        """Whether it was trained with a schedule that ends in pure noise, by the mark `ztsnr`."""
        return "ztsnr" in self.shapes

    def has(self, prefix: str) -> bool:
        """Whether any tensor's name begins so."""
        return any(name.startswith(prefix) for name in self.shapes)


def pickle_refused(path: Path) -> BaseError:
    """The error for a file whose loading could run code, with the way out."""
    return BaseError(
        f"{path} is a pickle: loading it could run code that is hidden in it",
        remedy="take the .safetensors form of this model, or convert it where nothing can be harmed: "
        "https://huggingface.co/spaces/safetensors/convert",
    )


def read_header(path: Path) -> CheckpointHeader:
    """The header of a safetensors file.

    Raises BaseError for a pickle, for a file that is no safetensors and for one that was cut short: its
    header promises more bytes than there are.
    """
    if path.suffix.lower() in PICKLES:
        raise pickle_refused(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
            if start[:2] == b"PK" or start[:1] == b"\x80":
                raise pickle_refused(path)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or not 2 <= length <= _MAX_HEADER:
                raise _damaged(path, "it is no safetensors file")
            if length > size - 8:
                raise _damaged(path, _short(size, length + 8))
            document = json.loads(stream.read(length))
        words = document.pop("__metadata__", {})
        shapes = {name: tuple(int(side) for side in entry["shape"]) for name, entry in document.items()}
        end = max((int(entry["data_offsets"][1]) for entry in document.values()), default=0)
    except OSError as error:
        raise _damaged(path, error.strerror or "it cannot be read") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read ({type(error).__name__})") from error
    if 8 + length + end > size:
        raise _damaged(path, _short(size, 8 + length + end))
    return CheckpointHeader(path=path, shapes=shapes, words={str(k): str(v) for k, v in words.items()})


def checkpoint_family(header: CheckpointHeader) -> Family:
    """Which of our families a checkpoint is of, by the names of its tensors.

    Raises BaseError that says what it is instead: a LoRA, a UNet alone, SD 2, the refiner of SDXL or a model
    for inpainting.
    """
    if not header.has(UNET):
        what = (
            "a LoRA, not a base" if any("lora_" in name for name in header.shapes) else "no checkpoint of SD"
        )
        raise _other(header, what)
    first = header.shapes.get(f"{UNET}input_blocks.0.0.weight", ())
    if len(first) == 4 and first[1] != 4:
        raise _other(header, f"a model with {first[1]} input channels, as for inpainting")
    if header.has(TEXT_SDXL[1]):
        return "sdxl"
    if header.has("conditioner.embedders.0.model."):
        raise _other(header, "the refiner of SDXL, not its base")
    if header.has("cond_stage_model.model."):
        raise _other(header, "a model of the SD 2 family")
    if header.has(TEXT_SD15):
        return "sd15"
    raise _other(header, "a UNet without its text encoder")


def embedded_shapes(header: CheckpointHeader) -> dict[str, dict[str, Any]]:
    """The configurations that a base of unusual size carries in its header; empty for all others."""
    try:
        shapes = json.loads(header.words.get(SHAPES_WORD, "{}"))
        found = {str(part): dict(config) for part, config in shapes.items()}
        for config in found.values():
            check_counts(config)
        return found
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(header.path, f"its word {SHAPES_WORD} cannot be read") from error


def check_counts(config: Mapping[str, Any]) -> None:
    """Raise ValueError when a stranger's configuration asks for more layers than any model has."""
    for key in _COUNTS:
        value = config.get(key, 1)
        for count in value if isinstance(value, list | tuple) else (value,):
            if not isinstance(count, int) or not 0 < count <= _MOST_LAYERS:
                raise ValueError(f"{key} is {str(count)[:40]}")


def _damaged(path: Path, reason: str) -> BaseError:
    return BaseError(
        f"the base model in {path} cannot be loaded: {reason}",
        remedy="download it again; talent base check tells whether it is whole",
    )


def _short(size: int, wanted: int) -> str:
    return f"it is cut short: {size} of {wanted} bytes are there"


def _other(header: CheckpointHeader, what: str) -> BaseError:
    return BaseError(
        f"{header.path} is {what}",
        remedy="use a full checkpoint of Stable Diffusion 1.5 or SDXL base, or its folder in diffusers form",
    )
