"""YAML means what it says, and one message names every mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.core.config import load_yaml, nearest, parse, parse_yaml
from talent_factory.core.errors import ConfigError, FileError
from talent_factory.core.records import Record, read_record, write_record


class Inner(Record):
    """A nested part."""

    caption_dropout: float = 0.1


class Config(Record):
    """A config as stages have it."""

    id: str
    learning_rate: float
    lora_rank: int = 8
    parts: tuple[Inner, ...] = ()
    sampling: Inner | None = None


def _value(text: str) -> object:
    return parse_yaml(f"key: {text}", source="test")["key"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        ("-2.5e+2", -250.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("1_000", 1000),
        ("010", 10),
        ("-7", -7),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", float("inf")),
        ("no", "no"),
        ("on", "on"),
        ("2026-01-01", "2026-01-01"),
        ("1:30", "1:30"),
        ("1.5", 1.5),
        ("'1.5'", "1.5"),
        ("1e", "1e"),
        ("v1.5", "v1.5"),
    ],
)
def test_plain_values(text: str, value: object) -> None:
    found = _value(text)
    assert found == value
    assert type(found) is type(value)


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_as_python_writes_them(number: float) -> None:
    assert _value(repr(number)) == number


# YAML takes only printable characters, and JSON writes those beyond 16 bits in a way of its own
plain_text = st.text(st.characters(max_codepoint=0xD7FF, exclude_characters="\x7f"), max_size=40)


@given(data=st.dictionaries(plain_text, plain_text | st.integers() | st.none() | st.booleans()))
def test_json_is_yaml(data: dict[str, Any]) -> None:
    assert parse_yaml(json.dumps(data), source="test") == data


def test_anchors_and_merges_work() -> None:
    text = "base: &b {x: 1, y: 2}\nmore: &m\n  <<: *b\n  x: 3\nlast:\n  <<: *m\n"
    data = parse_yaml(text, source="test")
    assert data["last"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice"),
        ("x: {b: 1, b: 2}", "'b' stands twice"),
        ("- 1", "not a mapping"),
        ("a: [1", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("1: a", "not text"),
        ("a: &x [*x]", "contains itself"),
        ("a: " + "[" * 20_000, "nested too deeply"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("? {a: 1}\n: 2", "not valid YAML"),
    ],
)
def test_bad_yaml_is_one_clear_error(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match="test") as caught:
        parse_yaml(text, source="test")
    assert words in caught.value.message
    assert caught.value.remedy


def test_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="expand too far"):
        parse_yaml("\n".join(lines), source="test")


def test_load_reads_and_refuses_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfid: a\n")
    assert load_yaml(path) == {"id": "a"}
    path.write_bytes(b"")
    assert load_yaml(path) == {}
    for content, words in ((b"#" * (2 << 20), "1 MiB"), (b"a: \xff", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            load_yaml(path)
    with pytest.raises(ConfigError, match="does not exist"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path)


def test_parse_names_every_mistake_at_once() -> None:
    data = {
        "learning_rat": 1e-4,
        "lora_rank": "many",
        "parts": [{"caption_drop": 1}],
        "sampling": {"dropout": 0},
    }
    with pytest.raises(ConfigError) as caught:
        parse(Config, data, source="kairo.yaml")
    text = caught.value.message
    assert text.startswith("kairo.yaml: ")
    assert "unknown key 'learning_rat' (nearest valid key: 'learning_rate')" in text
    assert "missing key 'id'" in text
    assert "'lora_rank': " in text
    assert "got 'many'" in text
    assert "unknown key 'parts.0.caption_drop' (nearest valid key: 'caption_dropout')" in text
    assert "unknown key 'sampling.dropout' (nearest valid key: 'caption_dropout')" in text
    assert caught.value.exit_code == 2


def test_parse_reads_yaml_numbers() -> None:
    config = parse(Config, parse_yaml("id: a\nlearning_rate: 1e-4", source="t"), source="t")
    assert config.learning_rate == 1e-4


@given(word=st.text(max_size=20))
def test_nearest_always_answers(word: str) -> None:
    assert nearest(word, ["alpha", "beta"]) in {"alpha", "beta"}
    assert nearest(word, []) == ""


def test_records_survive_and_refuse(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config = Config(id="a", learning_rate=0.1, parts=(Inner(),))
    write_record(path, config)
    assert read_record(path, Config) == config
    with pytest.raises(ValueError):
        config.id = "b"  # type: ignore[misc]
    for content, words in (("[]", "no JSON object"), ('{"id": "a", "rank": 1}', "unknown key 'rank'")):
        path.write_text(content)
        with pytest.raises(FileError, match=words):
            read_record(path, Config)


def test_what_stands_in_no_file_has_a_remedy_of_its_own() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Config, {}, source="the options", remedy="talent run --help")
    assert caught.value.remedy == "talent run --help"
