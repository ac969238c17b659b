"""Read the four YAML files and what the command line changes in them, and refuse what cannot be meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from talent_factory.core.config import load_yaml, nearest, parse, parse_yaml
from talent_factory.core.errors import ConfigError
from talent_factory.lipsync.config import (
    DataConfig,
    LipsyncConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)

PARTS: Mapping[str, type[BaseModel]] = {
    "data": DataConfig,
    "train": TrainConfig,
    "model": ModelConfig,
    "optimizer": OptimizerConfig,
}
HIGHEST_SCALED_RATE = 1e-3


def read_config(folder: Path | None, changes: Mapping[str, Any] | None = None) -> LipsyncConfig:
    """The config of `folder`/{data,train,model,optimizer}.yaml, with `changes` (key or part.key) on top.

    Without a folder every key is what it is by default.

    Raises:
        ConfigError: a file is missing, a key is unknown (the nearest one is named), a value is impossible,
            or `scale_lr` leads to an absurd rate.
    """
    found: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        if folder is None:
            found[part] = {}
            continue
        path = folder / f"{part}.yaml"
        if not path.is_file():
            raise ConfigError(
                f"{folder} holds no {part}.yaml",
                remedy="name a folder with data.yaml, train.yaml, model.yaml and optimizer.yaml",
            )
        found[part] = load_yaml(path)
        parse_keys(found[part], part, source=str(path))
    for key, value in (changes or {}).items():
        part, name = place_of(key)
        # a field with two names may stand in the file under the other one
        for other in _names_of(part, name):
            found[part].pop(other, None)
        found[part][name] = value
    return make_config(found, source="the config" if folder is None else str(folder))


def make_config(parts: Mapping[str, Mapping[str, Any]], *, source: str) -> LipsyncConfig:
    """The config of four mappings; `source` names them in errors. Raises ConfigError as `read_config`."""
    config = parse(
        LipsyncConfig, dict(parts), source=source, remedy=f"correct the files in {source}, or the --set"
    )
    learning_rate(config)
    return config


def parse_keys(found: Mapping[str, Any], part: str, *, source: str) -> None:
    """Raise ConfigError for a key that belongs into another file, or that nobody knows."""
    for key in found:
        if key in _keys(part):
            continue
        home = next((other for other in PARTS if key in _keys(other)), None)
        if home is not None:
            raise ConfigError(f"{source}: '{key}' belongs into {home}.yaml", remedy=f"move it to {home}.yaml")
        guess = nearest(key, _keys(part))
        raise ConfigError(
            f"{source}: unknown key '{key}' (nearest valid key: '{guess}')",
            remedy=f"edit {source} and run the same command again",
        )


def parse_changes(lines: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts as a mapping; values are read as YAML reads them. Raises ConfigError."""
    changes: dict[str, Any] = {}
    for line in lines:
        key, sign, text = line.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set {line}: not of the form key=value", remedy="write --set key=value")
        place_of(key.strip())
        changes[key.strip()] = parse_yaml(f"value: {text}", source=f"--set {key}")["value"]
    return changes


def place_of(key: str) -> tuple[str, str]:
    """The file and the key that `key` or `file.key` means. Raises ConfigError with the nearest one."""
    part, dot, name = key.partition(".")
    if dot and part in PARTS and name in _keys(part):
        return part, name
    for candidate in PARTS:
        if not dot and key in _keys(candidate):
            return candidate, key
    known = [name for part in PARTS for name in _keys(part)]
    raise ConfigError(
        f"--set: unknown key '{key}' (nearest valid key: '{nearest(key.rpartition('.')[2], known)}')",
        remedy="see the keys in configs/lipsync/",
    )


def learning_rate(config: LipsyncConfig) -> float:
    """The rate at the top of the schedule. Raises ConfigError when `scale_lr` makes it absurd."""
    optimizer = config.optimizer
    if not optimizer.scale_lr:
        return optimizer.learning_rate
    scaled = optimizer.learning_rate * config.train.effective_batch
    if scaled > HIGHEST_SCALED_RATE:
        raise ConfigError(
            f"scale_lr multiplies learning_rate {optimizer.learning_rate:g} by the "
            f"{config.train.effective_batch} samples of a step: {scaled:.2g} would destroy the network",
            remedy=f"write scale_lr: false, or a learning_rate of at most "
            f"{HIGHEST_SCALED_RATE / config.train.effective_batch:.1g}",
        )
    return scaled


def _keys(part: str) -> list[str]:
    fields = PARTS[part].model_fields
    return [field.alias or name for name, field in fields.items()] + [
        name for name, field in fields.items() if field.alias
    ]


def _names_of(part: str, key: str) -> list[str]:
    for name, field in PARTS[part].model_fields.items():
        if key in (name, field.alias):
            return [name, field.alias or name]
    return [key]


def change_config(config: LipsyncConfig, changes: Mapping[str, Any]) -> LipsyncConfig:
    """`config` with some keys changed. Raises ConfigError as `read_config`."""
    parts = {part: getattr(config, part).model_dump(mode="json") for part in PARTS}
    for key, value in changes.items():
        part, name = place_of(key)
        field = next(iter(_names_of(part, name)))
        parts[part][field] = value
    return make_config(parts, source="the config of the run")
