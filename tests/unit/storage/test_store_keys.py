"""Keys are made of checked ids; nothing a user types reaches a path or an address as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.core.errors import UsageError
from talent_factory.storage.keys import (
    checked_id,
    checked_key,
    checked_prefix,
    content_type_of,
    quoted,
    training_folder,
    training_image_key,
)


def test_the_layout_that_users_know() -> None:
    assert training_folder("user_7", 42) == "user_7/custom-actors/42/training_data"
    assert training_image_key("user_7", 42, 3) == "user_7/custom-actors/42/training_data/actor_42_td_03.jpg"
    assert training_image_key("u", "ada", 120).endswith("/actor_ada_td_120.jpg")
    assert training_image_key("u", "ada", 0, suffix="png", kind="style").endswith("/style_ada_td_00.png")


@pytest.mark.parametrize("value", ["a", "0001", "3f2a-77", "ada@example.org", "a+b=c", "A.b_c", "x" * 128])
def test_ids_people_use(value: str) -> None:
    assert checked_id("user id", value) == value
    assert checked_key(training_image_key(value, value, 1))


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "..",
        "a..b",
        "../etc",
        "a/b",
        "a\\b",
        "a\nb",
        "a\0",
        "a\x7f",
        " a",
        "a b",
        ".hidden",
        "-rf",
        "a.",
        "é",
        "%2e%2e",
        "a?b",
        "a#b",
        "con",
        "nul.txt",
        "x" * 129,
        "\ud800",
        "a\u202eb",
        True,
        None,
        1.5,
    ],
)
def test_ids_that_are_refused_and_shown_on_one_line(value: object) -> None:
    with pytest.raises(UsageError) as caught:
        checked_id("user id", value)  # type: ignore[arg-type]
    assert "user id" in caught.value.message
    assert caught.value.message.isprintable()
    assert caught.value.exit_code == 2


_LETTERS = st.text("aZ0._@+=-/\\ \n\0é%~", max_size=12)


@given(_LETTERS, _LETTERS)
def test_whatever_the_ids_the_key_stays_in_its_folder(user: str, actor: str) -> None:
    try:
        key = training_image_key(user, actor, 1)
    except UsageError:
        return
    parts = key.split("/")
    assert len(parts) == 5
    assert (parts[0], parts[1], parts[2], parts[3]) == (user, "custom-actors", actor, "training_data")
    assert checked_key(key) == key
    assert key.isascii()


@pytest.mark.parametrize(
    ("number", "suffix", "kind"),
    [
        (-1, "jpg", "actor"),
        (True, "jpg", "actor"),
        (100_000, "jpg", "actor"),
        (1, ".jpg", "actor"),
        (1, "j/g", "actor"),
        (1, "jpg", "../actor"),
    ],
)
def test_other_parts_are_checked_as_well(number: int, suffix: str, kind: str) -> None:
    with pytest.raises(UsageError):
        training_image_key("u", "a", number, suffix=suffix, kind=kind)


def test_prefixes_and_addresses() -> None:
    assert checked_prefix("") == ""
    assert checked_prefix("a/b/") == "a/b"
    with pytest.raises(UsageError):
        checked_prefix("/")
    assert quoted("a b/ü+@.jpg") == "a%20b/%C3%BC%2B%40.jpg"


def test_types_follow_the_suffix() -> None:
    assert content_type_of("a/B.JPG") == "image/jpeg"
    assert content_type_of("a/b.png") == "image/png"
    assert content_type_of("a/jpg") == "application/octet-stream"
    assert content_type_of("a.b/strange.zzzz") == "application/octet-stream"
