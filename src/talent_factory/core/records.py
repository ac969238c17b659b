"""Frozen, versioned records that stages hand to each other as JSON on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from talent_factory.core.errors import FileError
from talent_factory.core.files import read_json, write_json


class Record(BaseModel):
    """A frozen model that refuses unknown fields and numbers that JSON cannot hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


RecordT = TypeVar("RecordT", bound=BaseModel)


def read_record(path: Path, model: type[RecordT]) -> RecordT:
    """Read one record from a JSON file.

    Raises:
        FileError: the file is missing, is not JSON, or does not fit the model; all misfits are named at once.
    """
    from talent_factory.core.config import problems_of

    data = read_json(path)
    if not isinstance(data, Mapping):
        raise FileError(f"{path} holds no JSON object", remedy="restore it or make it anew")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        text = "; ".join(problems_of(error, model))
        raise FileError(
            f"{path} does not fit {model.__name__}: {text}", remedy="restore it or make it anew"
        ) from None


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record atomically; equal records become equal bytes."""
    write_json(path, record.model_dump(mode="json"))
