"""The generated pages on what users write and read: the keys of configs, the findings about kits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_CONFIG_HEAD = """# Training configs

Written by `make docs` from the code that reads them; `make check` fails when it is out of date.
A config is a YAML file such as [configs/avatar/dot_kairo.yaml](../configs/avatar/dot_kairo.yaml);
`talent train CONFIG` trains it. A key that is not in these tables is refused, and the error names the nearest
one.

A `*` marks keys that change no number of the training: a stopped run may go on with other values of them. A
change of any other key is refused on resume, key by key.
"""

_LIPSYNC_HEAD = """# Lip-sync configs

Written by `make docs` from the code that reads them; `make check` fails when it is out of date.
`talent lipsync train --config FOLDER` reads four files in FOLDER, such as those in
[configs/lipsync](../configs/lipsync): `data.yaml`, `train.yaml`, `model.yaml` and `optimizer.yaml`. All four
must be there; every key may be left out. Without `--config`, and where there is no `configs/lipsync`, all
keys are at their defaults. A key that is not in these tables is refused, and the error names the nearest one
or the file it belongs into. `--set KEY=VALUE` changes one key, also written `FILE.KEY=VALUE`, as in
`--set train.seed=3`.

A `*` marks keys that `talent lipsync resume` may write differently: they move no number, or what they mean is
compared itself, as the samples of a step (`train_batch_size` times `gradient_accumulation_steps`), the codec
and the mask are. A change of any other key is refused.
"""

_LIPSYNC_FILES = {
    "data": "Where the clips lie and where the run goes.",
    "train": "How long, how exactly, and what is minimised. Lengths are in frames of 40 ms, weights of "
    "losses have no unit.",
    "model": "Which network, which codec, and where the weights start.",
    "optimizer": "AdamW and the course of its rate; the schedule counts optimizer steps.",
}

_FINDINGS_HEAD = """# Findings about Talent Kits

Written by `make docs` from the validator's own table; `make check` fails when it is out of date.
`talent kit validate` names one of these codes in each finding. An error makes a kit invalid, a warning does
not; the severity of a code can depend on the case, so it stands in the finding.

| code | meaning |
| --- | --- |
"""


def config_page() -> str:
    """All keys of a training config as Markdown tables, the required ones first."""
    from talent_factory.training.config import NEUTRAL_KEYS, TrainConfig

    schema = TrainConfig.model_json_schema()
    needed = set(schema["required"])
    parts = [_CONFIG_HEAD, "## Required\n", "| key | value | meaning |", "| --- | --- | --- |"]
    parts += [
        f"| {_key(name, NEUTRAL_KEYS)} | {_value(field)} | {_meaning(field)} |"
        for name, field in schema["properties"].items()
        if name in needed
    ]
    optional = {
        name: _explained(field, schema["$defs"])
        for name, field in schema["properties"].items()
        if name not in needed
    }
    parts += ["", "## Optional\n", *_table(optional, NEUTRAL_KEYS)]
    for name, field in optional.items():
        if "$ref" in field:
            group = schema["$defs"][field["$ref"].rpartition("/")[2]]
            parts += ["", f"## Group `{name}`\n", f"{_meaning(field)} Written `{name}: {{key: value}}`.\n"]
            parts += _table(group["properties"], frozenset())
    return "\n".join(parts) + "\n"


def lipsync_config_page() -> str:
    """All keys of the four files of a lip-sync training as Markdown tables."""
    from talent_factory.lipsync.config import FREE_KEYS
    from talent_factory.lipsync.config_files import PARTS

    pages = [_LIPSYNC_HEAD]
    for part, about in _LIPSYNC_FILES.items():
        schema = PARTS[part].model_json_schema()
        aliases = {name: field.alias or name for name, field in PARTS[part].model_fields.items()}
        free = frozenset(aliases[name] for name in FREE_KEYS[part])
        pages += [f"## {part}.yaml\n", f"{about}\n", *_table(schema["properties"], free), ""]
        for name, field in schema["properties"].items():
            if "$ref" in field:
                group = schema["$defs"][field["$ref"].rpartition("/")[2]]
                pages += [f"### Group `{name}`\n", f"{_meaning(field)} Written `{name}: {{key: value}}`.\n"]
                pages += [*_table(group["properties"], frozenset()), ""]
    return "\n".join(pages)


def _table(fields: Mapping[str, Any], neutral: frozenset[str]) -> list[str]:
    """Keys that need not be given, one a row."""
    return [
        "| key | value | default | meaning |",
        "| --- | --- | --- | --- |",
        *(
            f"| {_key(name, neutral)} | {_value(field)} | {_default(field)} | {_meaning(field)} |"
            for name, field in fields.items()
        ),
    ]


def findings_page() -> str:
    """Every code of the kit validator with its meaning, as a Markdown table."""
    from talent_factory.kits.findings import CODES

    return _FINDINGS_HEAD + "".join(f"| `{code}` | {meaning} |\n" for code, meaning in CODES.items())


def _key(name: str, neutral: frozenset[str]) -> str:
    return f"`{name}`" + (" *" if name in neutral else "")


def _explained(field: Mapping[str, Any], groups: Mapping[str, Any]) -> Mapping[str, Any]:
    """A field with its meaning: pydantic leaves out what the group says of itself in the same words."""
    if "$ref" not in field or "description" in field:
        return field
    return {**field, "description": groups[field["$ref"].rpartition("/")[2]]["description"]}


def _meaning(field: Mapping[str, Any]) -> str:
    return " ".join(str(field.get("description", "")).split()).replace("|", "\\|")


def _default(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return "see below"
    value = field["default"]
    if value is None:
        return "unset"
    if value in ("", []):
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _value(field: Mapping[str, Any]) -> str:
    """What may stand there, in words: `whole number, 1 to 128`."""
    choices = [choice for choice in field.get("anyOf", ()) if choice.get("type") != "null"]
    if choices:
        return " or ".join(_value(choice) for choice in choices)
    if "$ref" in field:
        return "group of keys"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        kind = "numbers" if field.get("items", {}).get("type") == "number" else "text"
        return f"list of {kind}" + (f", at most {field['maxItems']}" if "maxItems" in field else "")
    word = {"boolean": "`true` or `false`", "integer": "whole number", "number": "number", "string": "text"}
    return ", ".join([word[field["type"]], *_limits(field)])


def _limits(field: Mapping[str, Any]) -> Iterator[str]:
    if "maxLength" in field:
        yield f"at most {field['maxLength']} letters"
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        yield f"{low:g} to {high:g}" if high < 1e6 else f"{low:g} to {high:,.0f}"
    elif low is not None:
        yield f"{low:g} or more"
    if "exclusiveMinimum" in field:
        yield f"above {field['exclusiveMinimum']:g}"
    below = field.get("exclusiveMaximum")
    if below is not None and below < 1e6:
        yield f"below {below:g}"
    if high is not None and low is None:
        yield f"at most {high:g}"
    if "multipleOf" in field:
        yield f"a multiple of {field['multipleOf']}"
