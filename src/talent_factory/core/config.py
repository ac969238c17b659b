"""YAML that means what it says, and typed configs whose errors name every mistake at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from talent_factory.core.errors import ConfigError

_MAX_BYTES = 1 << 20
_MAX_NODES = 50_000  # after aliases are expanded: a few kilobytes of nested aliases can mean billions

ModelT = TypeVar("ModelT", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Safe YAML with the plain scalars of YAML 1.2: `1e-4` is a number, `no` and `2026-01-01` are text."""

    # the base class declares it on instances and fills it on the class
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    # PyYAML would read 010 as eight
    return int(str(loader.construct_scalar(node)).replace("_", ""))


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_RESOLVERS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9][0-9_]*", "-+0123456789"),
    "float": (
        (
            r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
        ),
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "merge": (r"<<", "<"),
}
for _tag, (_pattern, _first) in _RESOLVERS.items():
    _letters = [letter.replace("\0", "") for letter in _first]
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _letters)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of at most 1 MiB.

    Raises:
        ConfigError: the file is missing, too large, not UTF-8, not YAML, not a mapping with text keys, holds
            a key twice, or has aliases that expand without end.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"config {path} does not exist", remedy="check the path") from None
    except OSError as error:
        raise ConfigError(
            f"config {path} cannot be read: {error.strerror}", remedy="check the path"
        ) from None
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"config {path} is larger than 1 MiB", remedy="give a config, not data")
    try:
        return parse_yaml(data.decode("utf-8"), source=str(path))
    except UnicodeDecodeError:
        raise ConfigError(f"config {path} is not UTF-8 text", remedy="save it as UTF-8") from None


def parse_yaml(text: str, *, source: str) -> dict[str, Any]:
    """Read a YAML mapping from text; `source` names it in errors. Raises ConfigError like `load_yaml`."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                f"{source} is not a mapping of keys to values", remedy="write `key: value` lines"
            )
        _count_expanded(node, {}, set(), source)
        data = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{source} is not valid YAML: {_yaml_problem(error)}", remedy="correct that line"
        ) from None
    except RecursionError:
        raise ConfigError(f"{source} is nested too deeply", remedy="flatten it") from None
    except ValueError as error:
        raise ConfigError(
            f"{source} holds a value that cannot be read: {error}", remedy="correct it"
        ) from None
    finally:
        if loader is not None:
            loader.dispose()
    for key in data:
        if not isinstance(key, str):
            raise ConfigError(f"{source}: the key {key!r} is not text", remedy="put the key in quotes")
    return dict(data)


def parse(model: type[ModelT], data: Mapping[str, Any], *, source: str, remedy: str = "") -> ModelT:
    """Turn `data` into a typed config; `remedy` is for data that stands in no file called `source`.

    Raises:
        ConfigError: names each unknown key with the nearest valid one, each missing key and each bad value.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        text = "; ".join(problems_of(error, model))
        raise ConfigError(
            f"{source}: {text}", remedy=remedy or f"edit {source} and run the same command again"
        ) from None


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One short phrase for each problem that pydantic found in data for `model`."""
    return [_problem(dict(item), model) for item in error.errors(include_url=False)]


def nearest(word: str, choices: list[str]) -> str:
    """The choice that looks most like `word`, or an empty text when there is none to choose from."""
    matches = difflib.get_close_matches(word, choices, n=1, cutoff=0.0)
    return matches[0] if matches else ""


def _problem(item: dict[str, Any], model: type[BaseModel]) -> str:
    location = tuple(item["loc"])
    name = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        guess = nearest(str(location[-1]), _keys_at(model, location[:-1]))
        return f"unknown key '{name}'" + (f" (nearest valid key: '{guess}')" if guess else "")
    if item["type"] == "missing":
        return f"missing key '{name}'"
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not name:
        return message
    shown = repr(item.get("input"))
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"'{name}': {message} (got {shown})"


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the (nested) model that `location` leads to."""
    current = model
    for part in location:
        field = current.model_fields.get(str(part))
        if field is None:  # an index in a list, or a tag of a union: the model stays the one found before
            continue
        inner = next(_models_in(field.annotation), None)
        if inner is None:
            return []
        current = inner
    return [field.alias or name for name, field in current.model_fields.items()]


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _count_expanded(node: yaml.Node, known: dict[int, int], open_nodes: set[int], source: str) -> int:
    """Nodes below `node` with every alias expanded; refuses bombs and aliases that contain themselves."""
    if id(node) in open_nodes:
        raise ConfigError(f"{source} has an alias that contains itself", remedy="write the values out")
    if id(node) in known:
        return known[id(node)]
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _refuse_twice(node, source)
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = list(node.value)
    open_nodes.add(id(node))
    total = 1 + sum(_count_expanded(child, known, open_nodes, source) for child in children)
    open_nodes.discard(id(node))
    if total > _MAX_NODES:
        raise ConfigError(f"{source} has aliases that expand too far", remedy="write the values out")
    known[id(node)] = total
    return total


def _refuse_twice(node: yaml.MappingNode, source: str) -> None:
    seen: set[str] = set()
    for key in (pair[0] for pair in node.value):
        if isinstance(key, yaml.ScalarNode) and key.value in seen:
            line = key.start_mark.line + 1
            raise ConfigError(f"{source}, line {line}: the key '{key.value}' stands twice", remedy="keep one")
        seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")


def _yaml_problem(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(problem)
