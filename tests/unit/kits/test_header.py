"""The header check: what the reference reader writes is taken, everything else is refused with its code."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from kit_maker import raw_file
from talent_factory.kits import header
from talent_factory.kits.header import HeaderError, parse_header

ONE = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def file_with(tensors: Any, size: int = 8) -> bytes:
    return raw_file(json.dumps(tensors).encode(), bytes(size))


def test_a_file_of_the_reference_writer_is_taken() -> None:
    arrays = {"x.alpha": np.array(4, np.float32), "y": np.ones((2, 3), np.float16)}
    raw = save(arrays, metadata={"ss_v2": "False"})
    found = parse_header(raw)
    assert found.metadata == {"ss_v2": "False"}
    assert {name: entry.shape for name, entry in found.by_name().items()} == {"x.alpha": (), "y": (2, 3)}
    entry = found.by_name()["y"]
    assert entry.numbers == 6
    assert raw[found.data_start :][entry.start : entry.end] == arrays["y"].tobytes()


def test_tensors_come_in_the_order_of_their_bytes() -> None:
    tensors = {
        "b": {"dtype": "F16", "shape": [1], "data_offsets": [2, 4]},
        "a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]},
    }
    assert [entry.name for entry in parse_header(file_with(tensors, 4)).tensors] == ["a", "b"]


@pytest.mark.parametrize("last", [False, True])
def test_metadata_may_stand_first_or_last(last: bool) -> None:
    parts = [("__metadata__", {"x": "y"}), *ONE.items()]
    found = parse_header(file_with(dict(parts[::-1] if last else parts)))
    assert found.metadata == {"x": "y"}
    assert [entry.name for entry in found.tensors] == ["a"]
    found.metadata["x"] = "changed"
    assert parse_header(file_with(dict(parts[::-1] if last else parts))).metadata == {"x": "y"}


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "weights-truncated"),
    "nine bytes": (b"123456789", "weights-truncated"),
    "text": (b"# Mock weights file\n", "weights-header"),
    "pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.", "weights-header"),
    "zip as torch writes": (b"PK\x03\x04" + bytes(60), "weights-header"),
    "giant length": (b"\xff" * 8 + b"{}", "weights-header"),
    "header past the end": ((100).to_bytes(8, "little") + b"{}", "weights-truncated"),
    "array": (raw_file(b"[1]"), "weights-header"),
    "spaces first": (raw_file(b"  {}"), "weights-header"),
    "not JSON": (raw_file(b"{'a': 1}"), "weights-header"),
    "not UTF-8": (raw_file(b'{"\xff": 1}'), "weights-header"),
    "deep": (raw_file(b'{"a":' * 100_000), "weights-header"),
    "name twice": (
        raw_file(b'{"a":%s,"a":%s}' % ((json.dumps(ONE["a"]).encode(),) * 2), bytes(8)),
        "weights-duplicate",
    ),
    "field twice": (
        raw_file(b'{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "weights-duplicate",
    ),
    "no tensors": (raw_file(b'{"__metadata__":{}}'), "weights-empty"),
    "metadata with a number": (file_with({"__metadata__": {"a": 1}, **ONE}), "weights-header"),
    "metadata twice": (
        raw_file(
            b'{"__metadata__": {"x": "y"}, "a": %s, "__metadata__": {}}' % json.dumps(ONE["a"]).encode(),
            bytes(8),
        ),
        "weights-duplicate",
    ),
    "metadata without end": (raw_file(b'{"__metadata__": {"x": "y"'), "weights-header"),
    "metadata and no more": (raw_file(b'{"__metadata__": {"x": "y"} "a"'), "weights-header"),
    "deep metadata": (raw_file(b'{"__metadata__":' + b"[" * 100_000), "weights-header"),
    "metadata as list": (file_with({"__metadata__": [], **ONE}), "weights-header"),
    "tensor as number": (file_with({"a": 1}), "weights-header"),
    "field missing": (file_with({"a": {"dtype": "F32", "shape": [2]}}), "weights-header"),
    "field more": (file_with({"a": {**ONE["a"], "more": 1}}), "weights-header"),
    "field other": (file_with({"a": {"dtype": "F32", "shape": [2], "offsets": [0, 8]}}), "weights-header"),
    "double": (file_with({"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}), "weights-dtype"),
    "dtype as list": (file_with({"a": {**ONE["a"], "dtype": []}}), "weights-dtype"),
    "I64 pair": (
        file_with({"a": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]}}, 16),
        "weights-dtype",
    ),
    "zero dimension": (
        file_with({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}, 0),
        "weights-header",
    ),
    "negative dimension": (file_with({"a": {**ONE["a"], "shape": [-2]}}), "weights-header"),
    "true as dimension": (file_with({"a": {**ONE["a"], "shape": [True, 2]}}), "weights-header"),
    "half a dimension": (file_with({"a": {**ONE["a"], "shape": [2.0]}}), "weights-header"),
    "nine dimensions": (file_with({"a": {**ONE["a"], "shape": [1] * 8 + [2]}}), "weights-header"),
    "shape as text": (file_with({"a": {**ONE["a"], "shape": "2"}}), "weights-header"),
    "huge dimension": (file_with({"a": {**ONE["a"], "shape": [10**30]}}), "weights-header"),
    "huge product": (file_with({"a": {**ONE["a"], "shape": [2**61] * 8}}), "weights-layout"),
    "offsets backwards": (file_with({"a": {**ONE["a"], "data_offsets": [8, 0]}}), "weights-header"),
    "one offset": (file_with({"a": {**ONE["a"], "data_offsets": [0]}}), "weights-header"),
    "huge offset": (file_with({"a": {**ONE["a"], "data_offsets": [0, 10**4200]}}), "weights-header"),
    "digits without end": (raw_file(b'{"a":' + b"9" * 5000 + b"}"), "weights-header"),
    "shape and bytes differ": (file_with({"a": {**ONE["a"], "shape": [3]}}), "weights-layout"),
    "hole": (file_with({"a": {**ONE["a"], "data_offsets": [4, 12]}}, 12), "weights-layout"),
    "overlap": (file_with({**ONE, "b": {**ONE["a"], "data_offsets": [4, 12]}}, 12), "weights-layout"),
    "same bytes twice": (file_with({**ONE, "b": ONE["a"]}), "weights-layout"),
    "bytes left over": (file_with(ONE, 9), "weights-layout"),
    "bytes missing": (file_with(ONE, 7), "weights-truncated"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_with_their_code(case: str) -> None:
    raw, code = BAD[case]
    with pytest.raises(HeaderError) as caught:
        parse_header(raw)
    assert caught.value.code == code
    assert caught.value.remedy


def test_too_many_tensors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "MAX_TENSORS", 1)
    with pytest.raises(HeaderError, match="2 tensors"):
        parse_header(file_with({**ONE, "b": {**ONE["a"], "data_offsets": [8, 16]}}, 16))


def test_a_long_header_is_refused_before_it_is_read() -> None:
    raw = (header.MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{" + b" " * 20
    with pytest.raises(HeaderError, match="more than"):
        parse_header(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
tensor_like = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F16", "F32", "I64", "F64"]) | json_values,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | json_values,
    }
)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_else_happens(raw: bytes) -> None:
    with pytest.raises(HeaderError):
        parse_header(raw)


@given(st.dictionaries(st.text(max_size=6), tensor_like | json_values, max_size=4), st.binary(max_size=64))
def test_a_random_header_is_taken_only_when_it_covers_the_file(document: dict[str, Any], data: bytes) -> None:
    raw = raw_file(json.dumps(document).encode(), data)
    try:
        found = parse_header(raw)
    except HeaderError:
        return
    assert sum(entry.end - entry.start for entry in found.tensors) == len(data)
    assert found.data_start + found.tensors[-1].end == len(raw)
