"""Strict reading of what strangers wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from talent_factory.kits.strict import StrictJsonError, parse_json, parse_object, read_regular


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": {"b": 1, "b": 1}}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "out of range"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{\x00}", "not JSON"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"[" * 100_000, "deep"),
        (b"9" * 5000, "not JSON"),
        (b"", "not JSON"),
        (b"{} {}", "not JSON"),
    ],
)
def test_what_readers_could_take_differently_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(StrictJsonError, match=words):
        parse_json(raw)


def test_an_object_is_needed_and_not_a_deep_one() -> None:
    assert parse_object(b'{"a": [1, {"b": 2.5}]}') == {"a": [1, {"b": 2.5}]}
    with pytest.raises(StrictJsonError, match="list"):
        parse_object(b"[]")
    with pytest.raises(StrictJsonError, match="levels"):
        parse_object(b'{"a":' + b"[" * 80 + b"]" * 80 + b"}")


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", limit=5) == b"12345"
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    for name, limit in (("file", 4), ("link", 5), ("pipe", 5), (".", 5)):
        with pytest.raises(OSError):
            read_regular(tmp_path / name, limit=limit)
