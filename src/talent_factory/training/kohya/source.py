"""Open a file of the kohya world, whatever its form, and gather every option that it sets."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from talent_factory.core.errors import ConfigError
from talent_factory.training.kohya.gui import from_gui, looks_like_gui
from talent_factory.training.kohya.notes import Note, note
from talent_factory.training.kohya.sheet import as_number
from talent_factory.training.kohya.shell import find_command

Family = Literal["1.5", "xl"]

_MOST = 4 << 20
_SCRIPTS: dict[str, Family] = {"train_network": "1.5", "sdxl_train_network": "xl"}
_OTHER_MODELS = ("flux", "sd3", "lumina", "hunyuan", "anima", "leco")


@dataclass(frozen=True, slots=True)
class Subset:
    """One image folder of a dataset config; `options` are those that hold for it, by sd-scripts' names."""

    image_dir: str
    options: Mapping[str, Any]
    repeats: int = 1
    class_tokens: str = ""
    regular: bool = False
    """Whether it holds images of the class in general (`is_reg`), which keep the base as it was."""


@dataclass
class Asked:
    """What a kohya training was told: options by name, unset ones left out, and its image folders."""

    form: str
    values: dict[str, Any] = field(default_factory=dict)
    family: Family | None = None
    subsets: list[Subset] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def read_asked(path: Path) -> Asked:
    """Everything that the file at `path` tells; files that it names (config, dataset) are read too.

    A TOML of sd-scripts, a dataset TOML or JSON, a JSON of the kohya_ss window, or any text that holds a
    command line. Nothing is run. Raises ConfigError for a file that is missing, damaged or of another model.
    """
    text = _text(path)
    suffix = path.suffix.lower()
    if suffix == ".toml":
        asked = _from_mapping(_toml(text, path), path)
    elif suffix == ".json":
        asked = _from_mapping(_json(text, path), path)
    else:
        asked = _from_shell(text, path)
    dataset = asked.values.pop("dataset_config", None)
    if dataset:
        _add_dataset(asked, _near(str(dataset), path, what="dataset config"))
    return asked


def _from_shell(text: str, path: Path) -> Asked:
    script, options, launcher = find_command(text, source=str(path))
    family = _family_of(script, path)
    asked = Asked(form="command line", family=family)
    config = options.pop("config_file", None)
    if config:
        inner = _near(str(config), path, what="config file", suffix=".toml")
        asked.values = _from_mapping(_toml(_text(inner), inner), inner).values
    asked.values |= options
    # accelerate hands its own choice on to the script where that says nothing
    if "mixed_precision" in launcher:
        asked.values.setdefault("mixed_precision", launcher["mixed_precision"])
    return asked


def _family_of(script: str, path: Path) -> Family | None:
    if script in _SCRIPTS:
        return _SCRIPTS[script]
    if script.startswith(_OTHER_MODELS):
        raise ConfigError(
            f"{path} runs {script}.py, which trains another kind of model",
            remedy="import a training of SD 1.5 (train_network.py) or SDXL (sdxl_train_network.py)",
        )
    if script and "network" not in script:
        raise ConfigError(
            f"{path} runs {script}.py, which trains no LoRA",
            remedy="import a command of train_network.py or sdxl_train_network.py",
        )
    return None


def _from_mapping(data: Mapping[str, Any], path: Path) -> Asked:
    if "datasets" in data:
        asked = Asked(form="dataset config")
        _add_datasets(asked, data)
        return asked
    if looks_like_gui(data):
        return _from_window(data, path)
    values: dict[str, Any] = {}
    for key, value in data.items():
        # sections of a training config are only for the eye
        values |= value if isinstance(value, Mapping) else {key: value}
    off = (None, "", False)
    return Asked(form="config TOML", values={key: value for key, value in values.items() if value not in off})


def _from_window(data: Mapping[str, Any], path: Path) -> Asked:
    other = next(
        (name for name in ("flux1", "sd3", "lumina", "anima", "hunyuan") if data.get(f"{name}_checkbox")),
        None,
    )
    if other:
        raise ConfigError(
            f"{path} trains {other}, another kind of model", remedy="import a training of SD 1.5 or SDXL"
        )
    asked = Asked(form="kohya_ss JSON", values=from_gui(data), family="xl" if data.get("sdxl") else "1.5")
    if data.get("v2"):
        asked.values["v2"] = True
    extra = str(data.get("additional_parameters") or "").strip()
    if extra:
        asked.notes.append(
            note("differs", "additional_parameters", extra, "free text for the command line: not read")
        )
    return asked


def _add_dataset(asked: Asked, path: Path) -> None:
    text = _text(path)
    data = _json(text, path) if path.suffix.lower() == ".json" else _toml(text, path)
    if "datasets" not in data:
        raise ConfigError(f"{path} has no [[datasets]]", remedy="give the dataset config of sd-scripts")
    for key in ("train_data_dir", "reg_data_dir", "in_json"):
        asked.values.pop(key, None)  # sd-scripts passes over them beside a dataset config
    _add_datasets(asked, data)


def _add_datasets(asked: Asked, data: Mapping[str, Any]) -> None:
    """Fold the dataset tree in: what stands lower outranks what stands above it, as in sd-scripts."""
    general = _mapping(data.get("general"))
    for number, dataset in enumerate(_list(data["datasets"])):
        own = general | {key: value for key, value in dataset.items() if key != "subsets"}
        if number and own.get("resolution") != asked.values.get("resolution"):
            asked.notes.append(
                note(
                    "differs",
                    f"datasets[{number}].resolution",
                    own.get("resolution"),
                    "one training has one resolution here: that of the first dataset",
                )
            )
        if not number:
            asked.values |= {_plain(key): value for key, value in own.items()}
        for subset in _list(dataset.get("subsets")):
            _add_subset(asked, own | subset)


def _add_subset(asked: Asked, told: Mapping[str, Any]) -> None:
    if told.get("metadata_file"):
        asked.notes.append(
            note("differs", "metadata_file", told["metadata_file"], "captions come from .txt files here")
        )
    if not told.get("image_dir"):
        return
    subset = Subset(
        image_dir=str(told["image_dir"]),
        options=told,
        repeats=max(1, int(as_number("num_repeats", told.get("num_repeats") or 1))),
        class_tokens=str(told.get("class_tokens") or ""),
        regular=bool(told.get("is_reg")),
    )
    asked.subsets.append(subset)
    structural = {"image_dir", "num_repeats", "class_tokens", "is_reg", "conditioning_data_dir"}
    if subset.regular:
        return
    for key, value in told.items():
        name = _plain(key)
        if key in structural:
            continue
        if asked.values.setdefault(name, value) != value:
            asked.notes.append(
                note(
                    "differs",
                    key,
                    value,
                    f"only for {subset.image_dir}; here it holds for all folders: {asked.values[name]}",
                )
            )


def _plain(key: str) -> str:
    return "train_batch_size" if key == "batch_size" else key


def _near(name: str, source: Path, *, what: str, suffix: str = "") -> Path:
    """A file that another one names: from here, else beside the one that names it."""
    for given in (Path(name), Path(name + suffix), source.parent / name, source.parent / (name + suffix)):
        if given.is_file():
            return given
    raise ConfigError(
        f"{source} names the {what} {name}, which does not exist",
        remedy=f"run this where {name} can be found, or put it beside {source.name}",
    )


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST:
            raise ConfigError(f"{path} is larger than 4 MiB", remedy="give a config or a script, not data")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist", remedy="check the path") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder", remedy="name the .toml, .json or script in it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", remedy="check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", remedy="save it as UTF-8") from None


def _toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", remedy="correct that line") from None


def _json(text: str, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}", remedy="correct that line") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds no JSON object", remedy="give the file that kohya_ss saved")
    return data


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[dict[str, Any]]:
    return [dict(item) for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
