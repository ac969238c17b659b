"""Keep the state of a training on disk so that a crash at any moment leaves a whole one to go on from."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from talent_factory.core.errors import FileError, ResumeRefused
from talent_factory.core.files import atomic_folder, clear_leftovers, read_json, sha256_file, write_json

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

FORMAT = 1
TENSORS = "tensors.safetensors"
RECORD = "checkpoint.json"
# What 8-bit optimisers keep beside their moments: code books, and one scale a block of numbers.
_TABLES = frozenset({"qmap1", "qmap2", "absmax1", "absmax2"})
_NAME = re.compile(r"step_(\d{8})")


@dataclass(frozen=True)
class Checkpoint:
    """One whole state: what `save_checkpoint` was given, read back and verified."""

    step: int
    tensors: dict[str, Tensor]
    meta: dict[str, Json]
    path: Path
    skipped: tuple[str, ...] = ()
    """Newer checkpoints that were passed over, each with its reason, so that a caller can say so loudly."""


def save_checkpoint(
    root: Path, *, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Json], keep: int = 2
) -> Path:
    """Write `root/step_NNNNNNNN` as one atomic folder, then prune all but the newest `keep`.

    The record with the digest of the tensor file is part of the folder, and the folder appears by one
    rename, so a reader sees all of it or nothing. Pruning comes last: a crash never leaves fewer whole
    checkpoints than before. Raises DiskFull when the file system has no room.
    """
    if keep < 1:
        raise ValueError("keep must be at least 1")
    root.mkdir(parents=True, exist_ok=True)
    target = root / f"step_{step:08d}"
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_folder(target) as folder:
        save_file(plain, folder / TENSORS)
        record = {
            "format": FORMAT,
            "step": step,
            "sha256": sha256_file(folder / TENSORS),
            "bytes": (folder / TENSORS).stat().st_size,
            "meta": dict(meta),
        }
        write_json(folder / RECORD, record)
    _prune(root, keep=keep, newest=step)
    return target


def load_latest(root: Path) -> Checkpoint | None:
    """The newest checkpoint under `root` whose digest holds, or None when there is none.

    Newest means the highest step in the folder's name, never a file time: a copy or a touch must not
    choose the state. Broken ones are passed over and named in `Checkpoint.skipped`.
    """
    skipped: list[str] = []
    for _, path in reversed(_folders(root)):
        try:
            step, tensors, meta = _read(path)
        except _Broken as broken:
            skipped.append(f"{path.name}: {broken}")
            continue
        return Checkpoint(step=step, tensors=tensors, meta=meta, path=path, skipped=tuple(skipped))
    return None


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """Split an optimizer into named tensors (moments, step counters) and JSON (hyper-parameters).

    Parameters are numbered in the order of the groups: the caller must rebuild them in the same order.
    """
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Json] = {}
    groups: list[Json] = []
    for group_index, group in enumerate(optimizer.param_groups):
        groups.append({k: _jsonable(v) for k, v in group.items() if k != "params"})
        for index, parameter in enumerate(group["params"]):
            for key, value in optimizer.state.get(parameter, {}).items():
                name = f"optimizer.{group_index}.{index}.{key}"
                if isinstance(value, Tensor):
                    # A copy, so that a later step cannot change what is about to be written.
                    tensors[name] = value.detach().clone().cpu()
                else:
                    scalars[name] = _jsonable(value)
    sizes: list[Json] = [len(group["params"]) for group in optimizer.param_groups]
    return tensors, {"class": type(optimizer).__name__, "groups": groups, "sizes": sizes, "scalars": scalars}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], meta: Mapping[str, Json]
) -> None:
    """Put back exactly what `flatten_optimizer` took, step counters included.

    `Optimizer.load_state_dict` casts moments to the parameter's dtype; this does not, so fp32 moments of
    bf16 parameters come back bit for bit. Extra names in `tensors` are ignored: they may share a file.
    Raises ResumeRefused when the optimizer has another class, other groups or other shapes.
    """
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if meta["class"] != type(optimizer).__name__ or meta["sizes"] != sizes:
        raise ResumeRefused(
            f"the checkpoint holds {meta['class']} over {meta['sizes']} parameters, "
            f"this run has {type(optimizer).__name__} over {sizes}"
        )
    for group, saved in zip(
        optimizer.param_groups, cast("list[dict[str, Any]]", meta["groups"]), strict=True
    ):
        for key, value in saved.items():
            if isinstance(group.get(key), Tensor):
                group[key].fill_(value)  # in place: a captured graph reads this very tensor
            else:
                group[key] = tuple(value) if isinstance(group.get(key), tuple) else value
    entries = [*tensors.items(), *cast("dict[str, Any]", meta["scalars"]).items()]
    for name, value in entries:
        if not name.startswith("optimizer."):
            continue
        _, group_index, index, key = name.split(".", 3)
        group = optimizer.param_groups[int(group_index)]
        parameter: Tensor = group["params"][int(index)]
        if isinstance(value, Tensor):
            on_device = bool(group.get("fused") or group.get("capturable"))
            value = _placed(value, parameter, on_device=on_device, tabled=key in _TABLES)
        optimizer.state[parameter][key] = value


def _placed(value: Tensor, parameter: Tensor, *, on_device: bool, tabled: bool) -> Tensor:
    """A private copy of `value` with the parameter's device and memory layout, its own dtype kept."""
    if value.dim() == 0:
        return value.clone().to(parameter.device if on_device else "cpu")
    if tabled:
        return value.clone().to(parameter.device)
    if value.shape != parameter.shape:
        raise ResumeRefused(
            f"an optimizer moment has the shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}"
        )
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


class _Broken(Exception):
    """Why one folder cannot be used; the text goes to `Checkpoint.skipped`."""


def _read(path: Path) -> tuple[int, dict[str, Tensor], dict[str, Json]]:
    try:
        record = read_json(path / RECORD)
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise _Broken("its record has an unknown form")
        if sha256_file(path / TENSORS) != record["sha256"]:
            raise _Broken("its tensors do not match their digest")
        if path.name != f"step_{record['step']:08d}":
            raise _Broken("its folder was renamed")
        return int(record["step"]), load_file(path / TENSORS), dict(record["meta"])
    except (FileError, OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _Broken(f"it cannot be read ({error})") from error


def _folders(root: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders by rising step; half-written ones carry other names and do not show."""
    if not root.is_dir():
        return []
    found = [(match, path) for path in root.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def _prune(root: Path, *, keep: int, newest: int) -> None:
    """Drop old checkpoints and anything newer than the one just written.

    A newer one exists only when it was broken and the run fell back behind it: it must not win later.
    """
    known = _folders(root)
    older = [path for step, path in known if step <= newest]
    newer = [path for step, path in known if step > newest]
    for path in [*newer, *older[:-keep]]:
        shutil.rmtree(path)
    clear_leftovers(root)


def _jsonable(value: object) -> Json:
    if isinstance(value, Tensor):
        return cast("Json", value.item())
    if isinstance(value, tuple | list):
        return [_jsonable(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"an optimizer option of type {type(value).__name__} cannot be kept in JSON")
