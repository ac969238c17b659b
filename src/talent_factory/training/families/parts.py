"""Build one part of a base (UNet, VAE or text encoder) from its configuration and its tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from talent_factory.core.errors import BaseError, FileError
from talent_factory.core.files import read_json
from talent_factory.training.checkpoint_header import PICKLES, check_counts, pickle_refused

_STEMS = ("diffusion_pytorch_model", "model")
# Attention of autoencoders as diffusers called it before version 0.15, in many folders to this day.
_OLD_VAE = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def assemble(
    part: str, config: Mapping[str, Any], tensors: dict[str, Tensor], *, dtype: torch.dtype, where: Path
) -> nn.Module:
    """The model `part` with these weights in `dtype`, frozen and in eval mode, on the CPU.

    Nothing is initialised first: the tensors become the weights and leave `tensors` one by one, so that no
    model is in memory twice. Raises BaseError that names the first
    weight which is missing or has another shape than the configuration says.
    """
    try:
        check_counts(config)
        with torch.device("meta"):
            model = empty_model(part, config)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise broken(where, f"the configuration of {part} is not usable: {_first_line(error)}") from error
    wanted = model.state_dict()
    state: dict[str, Tensor] = {}
    for name, expected in wanted.items():
        found = _find(name, tensors)
        if found is None:
            raise broken(where, f"{part} lacks the weights of {name}")
        if found.shape != expected.shape:
            found = _as_linear(found, expected)
        if found.shape != expected.shape:
            shapes = f"{tuple(found.shape)} and not {tuple(expected.shape)}"
            raise broken(where, f"{part} gives {name} the shape {shapes}")
        state[name] = found.to(dtype) if found.is_floating_point() else found
    model.load_state_dict(state, strict=True, assign=True)
    _fill_positions(model)
    return model.requires_grad_(False).eval()


def read_config(folder: Path, part: str) -> dict[str, Any]:
    """The configuration `folder/part/config.json`. Raises BaseError when it is missing or unreadable."""
    try:
        config = read_json(folder / part / "config.json")
    except FileError as error:
        raise broken(folder, error.message) from error
    if not isinstance(config, dict):
        raise broken(folder, f"{part}/config.json is no JSON object")
    return config


def read_part(folder: Path, part: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and tensors of `folder/part` in diffusers form; shards and fp16 variants are found.

    Raises BaseError when the part is missing, holds only pickles or cannot be read.
    """
    place, config = folder / part, read_config(folder, part)
    tensors: dict[str, Tensor] = {}
    for path in weight_files(place):
        tensors.update(read_tensors(path))
    if part == "vae":
        tensors = {_modern(name): tensor for name, tensor in tensors.items()}
    return config, tensors


def weight_files(place: Path) -> list[Path]:
    """The safetensors files that hold one part, whole or in shards; of two precisions the fuller one."""
    for stem in _STEMS:
        for variant in ("", ".fp16"):
            whole = place / f"{stem}{variant}.safetensors"
            if whole.is_file():
                return [whole]
            index = place / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                names = sorted(set(read_json(index).get("weight_map", {}).values()))
                return [place / Path(name).name for name in names]
    pickles = sorted(path for path in place.glob("*") if path.suffix in PICKLES)
    if pickles:
        raise pickle_refused(pickles[0])
    raise broken(place.parent, f"{place.name} has no weights")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU. Raises BaseError when it is damaged or cut short."""
    try:
        with safe_open(path, framework="pt") as stored:  # it looks at every word of the header
            names = list(stored.keys())
        return _read_in_order(path, names)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise broken(path, _first_line(error)) from error


def _read_in_order(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors by plain reads: a mapped file would be memory beside the copies that are made of it."""
    with open(path, "rb", buffering=0) as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        tensors = {}
        for name in sorted(names, key=lambda name: int(header[name]["data_offsets"][0])):
            entry = header[name]
            tensor = torch.empty(entry["shape"], dtype=_KINDS[entry["dtype"]])
            start, end = entry["data_offsets"]
            stream.seek(8 + length + start)
            if end > start:
                room: Any = tensor.reshape(-1).view(torch.uint8).numpy()
                _fill(stream, memoryview(room))
            tensors[name] = tensor
    return tensors


def _fill(stream: FileIO, room: memoryview) -> None:
    """Read until `room` is full: one call gives at most two gigabytes."""
    done = 0
    while done < len(room):
        count = stream.readinto(room[done:])
        if not count:
            raise OSError("the file ended while it was read")
        done += count


_KINDS: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def broken(where: Path, reason: str) -> BaseError:
    """The error for a base that is there and cannot be used."""
    return BaseError(
        f"the base model in {where} cannot be loaded: {reason}",
        remedy=f"download it again; talent base check {where} tells whether it is whole",
    )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars of transformers: a load takes a moment, and the reporter owns the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def empty_model(part: str, config: Mapping[str, Any]) -> nn.Module:
    """The model that a configuration describes; within torch.device("meta") it costs nothing."""
    # Imported here: diffusers and transformers take seconds, and a wrong folder should fail at once.
    if part == "controlnet":
        from diffusers import ControlNetModel

        net: nn.Module = ControlNetModel.from_config(dict(config))
        return net
    if part in ("unet", "vae"):
        from diffusers import AutoencoderKL, UNet2DConditionModel

        kind: Any = UNet2DConditionModel if part == "unet" else AutoencoderKL
        made: nn.Module = kind.from_config(dict(config))
        return made
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    text = CLIPTextConfig(**{key: value for key, value in config.items() if key not in _TEXT_IGNORED})
    model: nn.Module = CLIPTextModelWithProjection(text) if part == "text_encoder_2" else CLIPTextModel(text)
    return model


# Words about the file, not about the model.
_TEXT_IGNORED = frozenset(
    {"architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "_name_or_path"}
)


def _find(name: str, tensors: dict[str, Tensor]) -> Tensor | None:
    """Take a tensor under its name, with or without the level `text_model.`, which depends on the version."""
    for candidate in (name, f"text_model.{name}", name.removeprefix("text_model.")):
        if candidate in tensors:
            return tensors.pop(candidate)
    return None


def _as_linear(found: Tensor, expected: Tensor) -> Tensor:
    """A 1 x 1 convolution as the linear layer it is, or the other way round."""
    if found.numel() == expected.numel() and found.shape[0] == expected.shape[0]:
        longer = max(found.shape, expected.shape, key=len)
        if len(longer) == 4 and tuple(longer[2:]) == (1, 1) and {found.dim(), expected.dim()} == {2, 4}:
            return found.reshape(expected.shape)
    return found


def _modern(name: str) -> str:
    match = re.fullmatch(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn)(\..*)", name)
    return f"{match[1]}{_OLD_VAE[match[2]]}{match[3]}" if match else name


def _fill_positions(model: nn.Module) -> None:
    """Give buffers that no file holds their content: the positions 0, 1, ... of a text encoder."""
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                module.register_buffer(
                    name, torch.arange(buffer.shape[-1]).expand(buffer.shape).clone(), persistent=False
                )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
