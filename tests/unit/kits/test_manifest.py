"""The manifest: compatible with version 1, strict about types, and equal to the schema in the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from talent_factory.core.errors import KitError
from talent_factory.kits.manifest import (
    MANIFEST_FILE,
    PROMPTS_FILE,
    TalentManifest,
    manifest_schema,
    parse_manifest,
    read_manifest,
    read_prompts,
    schema_text,
)
from talent_factory.kits.strict import StrictJsonError

V1: dict[str, Any] = {
    "id": "avatar.style.anime_mecha",
    "category": "Presence/Avatar",
    "kind": "lora",
    "sdx_version": "1.5",
    "base_model": "runwayml/stable-diffusion-v1-5",
    "lora_rank": 16,
    "default_weight": 0.8,
    "size_mb": 13.6,
}
# What draft-07 knows; a newer word would be ignored by the readers of version 1.
DRAFT_07 = {
    *("$schema", "$ref", "definitions", "title", "description", "default", "type", "enum", "const", "format"),
    *("properties", "required", "additionalProperties", "items", "pattern", "minLength", "maxLength"),
    *("minimum", "maximum", "exclusiveMinimum"),
}


def test_the_required_fields_of_version_1_are_enough() -> None:
    manifest = parse_manifest(json.dumps(V1).encode())
    assert manifest.lora_rank == 16
    assert not manifest.is_identity


def test_everything_of_version_1_is_kept_and_open_parts_stay_open() -> None:
    whole = {
        **V1,
        "token": "Mecha_1",
        "intended_mix": ["avatar.identity.dot_kairo"],
        "negatives": "blurry",
        "created_at": "2026-01-31T13:00:00.5+01:00",
        "training_config": {
            "resolution": 512,
            "max_train_steps": 1500,
            "learning_rate": 1e-4,
            "optimizer": "x",
        },
        "metadata": {
            "description": "d",
            "tags": ["a"],
            "author": "b",
            "license": "MIT",
            "mood": {"any": [1]},
        },
    }
    manifest = parse_manifest(json.dumps(whole).encode())
    again = manifest.model_dump(mode="json", exclude_none=True)
    assert again["metadata"] == whole["metadata"]
    assert again["training_config"] == whole["training_config"]
    assert manifest.created_at is not None
    assert manifest.created_at.utcoffset() is not None
    assert parse_manifest(json.dumps(again).encode()) == manifest


@pytest.mark.parametrize("name", V1)
def test_every_field_of_version_1_is_required(name: str) -> None:
    with pytest.raises(ValidationError):
        parse_manifest(json.dumps({key: value for key, value in V1.items() if key != name}).encode())


def test_the_committed_schema_is_the_generated_one(repository: Path) -> None:
    committed = repository / "schemas" / "avatar_talent.json"
    assert committed.read_text() == schema_text(), (
        "run: talent kit schema --output schemas/avatar_talent.json"
    )


def test_the_schema_uses_the_words_of_draft_07_only() -> None:
    def words(schema: dict[str, Any]) -> set[str]:
        found = set(schema)
        for holder in ("properties", "definitions"):
            for part in schema.get(holder, {}).values():
                found |= words(part)
        for name in ("items", "additionalProperties"):
            if isinstance(schema.get(name), dict):
                found |= words(schema[name])
        return found

    schema = manifest_schema()
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert words(schema) <= DRAFT_07
    assert set(schema["required"]) == set(V1)
    assert schema["additionalProperties"] is False
    assert schema["definitions"]["Metadata"]["additionalProperties"] is True
    assert set(schema["properties"]) == set(TalentManifest.model_fields)
    references = [part["$ref"] for part in schema["properties"].values() if "$ref" in part]
    assert sorted(references) == ["#/definitions/Metadata", "#/definitions/TrainingFacts"]


def test_the_schema_of_the_id_refuses_a_newline_in_python_too() -> None:
    import re

    pattern = manifest_schema()["properties"]["id"]["pattern"]
    assert re.search(pattern, "avatar.style.ink")
    for wrong in (
        "avatar.style.ink\n",
        "avatar.style.",
        "avatar.style.Ink",
        "avatar.voice.x",
        "avatar.style.a..b",
    ):
        assert not re.search(pattern, wrong)


def test_reading_names_the_file_and_the_first_fault(kit: Path) -> None:
    assert read_manifest(kit).token == "dot_test"
    assert read_prompts(kit).negative_prompts == ("blurry",)
    (kit / MANIFEST_FILE).write_text(json.dumps({**V1, "lora_rank": 0}))
    with pytest.raises(KitError, match="lora_rank"):
        read_manifest(kit)
    (kit / PROMPTS_FILE).unlink()
    with pytest.raises(KitError, match="No such file"):
        read_prompts(kit)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(TalentManifest.model_fields)), json_values, max_size=4))
def test_any_values_are_taken_or_refused_in_words(changes: dict[str, Any]) -> None:
    try:
        manifest = parse_manifest(json.dumps({**V1, **changes}).encode())
    except (ValidationError, StrictJsonError):
        return
    assert 1 <= manifest.lora_rank <= 128
    assert 0 <= manifest.default_weight <= 2
