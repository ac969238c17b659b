"""The manifest of a Talent Kit (talent.json), its prompt set, and the JSON schema made from them.

The top level is version 1 of the format and closed: readers of old kits and old readers of new kits both go
on working. Whatever is newer stands under `metadata` and `training_config`, which version 1 leaves open.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)

from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.files import json_text
from talent_factory.core.records import Record
from talent_factory.core.workspace import check_id
from talent_factory.kits.strict import MAX_TEXT_BYTES, StrictJsonError, parse_object, read_regular

MANIFEST_FILE = "talent.json"
WEIGHTS_FILE = "weights.safetensors"
BASE_FILE = "base.txt"
PROMPTS_FILE = "prompts.json"
LICENSE_FILE = "LICENSE.txt"
PREVIEW_FILE = "preview.png"
EXAMPLES_FOLDER = "examples"
CONTROLS_FOLDER = "controls"

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)")
# `$` of many regular expression engines also matches before a trailing newline; this end does not
_END = r"(?![\s\S])"


def _talent_id(text: str) -> str:
    try:
        return check_id(text)
    except UsageError as error:
        raise ValueError(f"{error.message}: {error.remedy}") from None


def _written_time(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    if isinstance(value, str) and _TIME.fullmatch(value):
        # the strict mode takes no text behind a validator, so it is read here
        return datetime.fromisoformat(value)
    raise ValueError("a time such as 2026-01-31T12:00:00Z is needed, with its time zone")


TalentId = Annotated[
    str,
    AfterValidator(_talent_id),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 100,
            "pattern": rf"^avatar\.(identity|style)\.[a-z0-9_]+(\.[a-z0-9_]+)*{_END}",
        }
    ),
]
# Reading allows the capitals that version 1 allowed; writing (KitSpec) is stricter.
Token = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_]+$", max_length=64),
    WithJsonSchema({"type": "string", "maxLength": 64, "pattern": rf"^[A-Za-z0-9_]+{_END}"}),
]
Moment = Annotated[
    datetime, BeforeValidator(_written_time), WithJsonSchema({"type": "string", "format": "date-time"})
]
Digest = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{64}$"),
    WithJsonSchema({"type": "string", "pattern": rf"^[0-9a-f]{{64}}{_END}"}),
]
Line = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class Subject(Record):
    """Whom the kit shows: a real person needs consent, and a real minor is never allowed."""

    real_person: bool = False
    consent: Literal["none", "self", "written"] = "none"
    evidence_sha256: Digest | None = None
    minor: bool = False


class TrainingFacts(Record):
    """How the weights were trained; bounds are version 1's, further fields are welcome."""

    model_config = ConfigDict(extra="allow")

    resolution: int | None = Field(default=None, ge=256, le=1024)
    max_train_steps: int | None = Field(default=None, ge=100)
    learning_rate: float | None = Field(default=None, ge=1e-6, le=1e-2)
    batch_size: int | None = Field(default=None, ge=1)


class Metadata(Record):
    """Everything about the kit that version 1 had no name for; unknown fields are kept as they are."""

    model_config = ConfigDict(extra="allow")

    description: str | None = Field(default=None, max_length=20_000)
    tags: tuple[Line, ...] | None = None
    author: str | None = Field(default=None, max_length=2000)
    license: str | None = Field(default=None, max_length=2000)
    digests: dict[str, Digest] | None = Field(default=None, description="sha256 of each file but talent.json")
    triggers: tuple[Line, ...] | None = Field(
        default=None, description="words that wake the LoRA, the first the best"
    )
    base_revision: Digest | None = Field(default=None, description="sha256 over the weight files of the base")
    alpha: float | None = Field(
        default=None, gt=0, description="alpha of every module; scale is alpha / rank"
    )
    conv_rank: int | None = Field(
        default=None, ge=1, le=128, description="rank of 3 x 3 convolutions where it is not lora_rank"
    )
    conv_alpha: float | None = Field(default=None, gt=0, description="their alpha")
    text_encoder: bool | None = Field(default=None, description="whether the text encoder was trained too")
    subject: Subject | None = None
    eval: dict[str, Any] | None = Field(default=None, description="measured quality, with prompts and seeds")
    provenance: dict[str, Any] | None = Field(
        default=None, description="what made the kit: inputs, versions, seeds"
    )
    training: dict[str, Any] | None = Field(
        default=None, description="training values outside version 1's bounds, under their own names"
    )


class TalentManifest(Record):
    """talent.json: what a reader must know before it opens the weights."""

    model_config = ConfigDict(title="Avatar talent")

    id: TalentId
    category: Literal["Presence/Avatar"]
    kind: Literal["lora"]
    sdx_version: Literal["1.5", "xl"]
    base_model: str = Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")
    lora_rank: int = Field(ge=1, le=128)
    default_weight: float = Field(ge=0, le=2)
    size_mb: float = Field(ge=0.1, description="size of weights.safetensors in MiB, at least 0.1")
    token: Token | None = None
    intended_mix: tuple[Line, ...] | None = None
    negatives: str | None = Field(default=None, max_length=20_000)
    created_at: Moment | None = None
    training_config: TrainingFacts | None = None
    metadata: Metadata | None = None

    @property
    def is_identity(self) -> bool:
        """Whether the kit is about a person, who then needs a token."""
        return self.id.startswith("avatar.identity.")


class PromptSet(Record):
    """prompts.json: what to render with the kit; `{token}` does not occur, prompts are ready to use."""

    positive_prompts: tuple[Line, ...] = Field(min_length=1, max_length=1000)
    negative_prompts: tuple[Line, ...] = Field(default=(), max_length=1000)
    style_prompts: tuple[Line, ...] = Field(default=(), max_length=1000)


def parse_manifest(raw: bytes) -> TalentManifest:
    """Return the manifest in the bytes of a talent.json.

    Raises StrictJsonError for what is no plain JSON object and pydantic's ValidationError for wrong fields;
    types are taken literally: "4" is no number and 1 is no true.
    """
    parse_object(raw)
    return TalentManifest.model_validate_json(raw, strict=True)


def parse_prompts(raw: bytes) -> PromptSet:
    """Return the prompt set in the bytes of a prompts.json; raises as `parse_manifest` does."""
    parse_object(raw)
    return PromptSet.model_validate_json(raw, strict=True)


def read_manifest(kit: Path) -> TalentManifest:
    """Return the manifest of a kit folder, or raise KitError with the first reason why not."""
    try:
        return parse_manifest(read_regular(kit / MANIFEST_FILE, limit=MAX_TEXT_BYTES))
    except (OSError, StrictJsonError, ValidationError) as error:
        raise KitError(
            f"{kit / MANIFEST_FILE}: {reason(error)}", remedy="talent kit validate --verbose"
        ) from error


def read_prompts(kit: Path) -> PromptSet:
    """Return the prompts of a kit folder, or raise KitError with the first reason why not."""
    try:
        return parse_prompts(read_regular(kit / PROMPTS_FILE, limit=MAX_TEXT_BYTES))
    except (OSError, StrictJsonError, ValidationError) as error:
        raise KitError(
            f"{kit / PROMPTS_FILE}: {reason(error)}", remedy="talent kit validate --verbose"
        ) from error


def reason(error: OSError | StrictJsonError | ValidationError) -> str:
    """Return one line that says what is wrong, for the first problem."""
    if isinstance(error, ValidationError):
        return field_problems(error)[0]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def field_problems(error: ValidationError) -> list[str]:
    """Return one line for each wrong field: its path and what is wrong, never the whole value."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part)[:60] for part in problem["loc"]) or "document"
        lines.append(f"{where}: {problem['msg'][:300]}")
    return lines


def manifest_schema() -> dict[str, Any]:
    """Return the JSON schema of talent.json in the words of draft-07, which readers of version 1 use."""
    schema = _without_null(_draft07(TalentManifest.model_json_schema(mode="validation")))
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}


def schema_text() -> str:
    """Return the schema as the bytes that stand in the repository."""
    return json_text(manifest_schema())


def _draft07(node: Any) -> Any:
    """Rename what draft 2020-12 moved: `$defs` was `definitions`."""
    if isinstance(node, dict):
        renamed = {("definitions" if key == "$defs" else key): _draft07(value) for key, value in node.items()}
        if isinstance(renamed.get("$ref"), str):
            # draft-07 ignores what stands beside a reference
            reference = renamed["$ref"].replace("#/$defs/", "#/definitions/")
            return {"$ref": reference}
        return renamed
    return [_draft07(item) for item in node] if isinstance(node, list) else node


def _without_null(node: Any) -> Any:
    """Drop the `null` of optional fields at every level: kits leave a field out instead."""
    if isinstance(node, list):
        return [_without_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    cleaned = {
        key: _without_null(value) for key, value in node.items() if not (key == "default" and value is None)
    }
    choices = cleaned.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        if len(rest) == 1:
            del cleaned["anyOf"]
            cleaned = rest[0] if "$ref" in rest[0] else {**rest[0], **cleaned}
    return cleaned
