"""Search by words, and which kits a listing lets through."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit_maker import edit_manifest, make_base, make_kit
from talent_factory.core.errors import KitError, UsageError
from talent_factory.kits import keys
from talent_factory.kits.catalog.catalog import Catalog
from talent_factory.kits.catalog.choice import Wish, base_named, wish
from talent_factory.kits.catalog.database import open_database
from talent_factory.kits.catalog.words import distance, find
from talent_factory.kits.manifest import PromptSet

KAIRO, NOVA, INK = "avatar.identity.dot_kairo", "avatar.identity.nova", "avatar.style.inkwash"


def made(root: Path, base: Path, **fields: Any) -> None:
    make_kit(root, base, work=root.parent / "work", **fields)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """Three kits with words of their own, and a broken one."""
    home = tmp_path_factory.mktemp("words")
    base = make_base(home / "base")
    patch = pytest.MonkeyPatch()
    patch.setattr(keys, "MINI_FOLDER", base)
    root = home / "kits"
    made(
        root, base, id=KAIRO, token="dot_kairo", description="A brave robot courier", tags=("Robot", "hero"),
        default_weight=0.7, prompts=PromptSet(positive_prompts=("dot_kairo on a rooftop in the rain",)),
    )  # fmt: skip
    made(root, base, id=NOVA, token="nova", description="A captain of starships, no robot", tags=("hero",))
    made(
        root,
        base,
        id=INK,
        token=None,
        description="Café scenes in ink, ROBOTS too",
        tags=("line art",),
        rank=8,
    )
    made(root, base, id="avatar.style.broken", token=None, description="A robot that is broken")
    edit_manifest(root / "avatar.style.broken", lambda manifest: manifest.update(lora_rank=5))
    with Catalog(root) as catalog:
        catalog.update()
        yield catalog
    patch.undo()


def ids(catalog: Catalog, text: str, **fields: Any) -> list[str]:
    return [hit.id for hit in catalog.search(text, wish=Wish(valid=True, **fields))]


def test_a_word_in_the_tags_weighs_more_than_one_in_the_description(catalog: Catalog) -> None:
    assert ids(catalog, "robot") == [KAIRO, NOVA, INK]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kairo", [KAIRO]),
        ("dot_kairo", [KAIRO]),
        (KAIRO, [KAIRO]),
        ("KAIRO!", [KAIRO]),
        ("cafe", [INK]),
        ("rooftop rain", [KAIRO]),
        ("starsh", [NOVA]),
        ("hero captain", [NOVA]),
        ("ink -café* NOT (robot)", [INK]),
        ('"; DROP TABLE kits; --', []),
        ("zzzzzzzz", []),
        ("", []),
        ("  \0 \n", []),
        ("identity", [KAIRO, NOVA]),
    ],
)
def test_words_are_found(catalog: Catalog, text: str, expected: list[str]) -> None:
    assert sorted(ids(catalog, text)) == sorted(expected)
    assert catalog.kits()


@pytest.mark.parametrize(
    ("asked", "meant", "first"),
    [
        ("kiaro", "kairo", KAIRO),
        ("kairro", "kairo", KAIRO),
        ("kario", "kairo", KAIRO),
        ("starhsips", "starships", NOVA),
        ("captn", "captain", None),
        ("coureir", "courier", KAIRO),
        ("wash", "inkwash", INK),
    ],
)
def test_a_mistyped_word_finds_what_was_meant_and_says_so(
    catalog: Catalog, asked: str, meant: str, first: str | None
) -> None:
    hits = catalog.search(asked)
    if first is None:
        assert hits == []  # five letters may differ by one, no more
        return
    assert [hit.id for hit in hits] == [first]
    assert hits[0].instead == ((asked, meant),)


def test_when_no_kit_holds_all_words_those_that_hold_some_are_found(catalog: Catalog) -> None:
    assert set(ids(catalog, "rooftop captain")) == {KAIRO, NOVA}
    assert ids(catalog, "rooftop qqqqqqqq") == [KAIRO]


def test_a_broken_kit_is_found_when_invalid_ones_may_be(catalog: Catalog) -> None:
    hits = find(catalog.connection(), "broken", wish=Wish(), limit=5)
    assert [hit.id for hit in hits] == ["avatar.style.broken"]
    assert ids(catalog, "broken") == []


def test_limits_and_filters_apply_to_a_search(catalog: Catalog) -> None:
    assert len(catalog.search("robot", limit=2)) == 2
    assert ids(catalog, "robot", kind="style") == [INK]
    assert ids(catalog, "robot", tags=("HERO",)) == [KAIRO, NOVA]
    assert ids(catalog, "robot", base="sdxl") == []


def test_a_listing_lets_through_what_is_wished_in_the_order_wished(catalog: Catalog) -> None:
    def listed(**fields: Any) -> list[str]:
        return [kit.id for kit in catalog.kits(Wish(**fields))]

    assert listed(kind="identity") == [KAIRO, NOVA]
    assert listed(tags=("robot", "hero")) == [KAIRO]
    assert listed(tags=("rob",)) == []
    assert listed(valid=False) == ["avatar.style.broken"]
    assert listed(valid=True, sort="rank") == [INK, KAIRO, NOVA]
    assert listed(valid=True, sort="weight") == [NOVA, INK, KAIRO]
    assert listed(valid=True, sort="token") == [KAIRO, NOVA, INK]
    assert listed(base="mini", valid=True) == [KAIRO, NOVA, INK]
    assert listed(base="0" * 64) == []
    kit = catalog.kits(Wish(kind="identity"))[0]
    assert (kit.token, kit.weight, kit.base, kit.tags) == ("dot_kairo", 0.7, "mini", ("robot", "hero"))
    assert catalog.by_folder([KAIRO, "nothing"]) == {KAIRO: kit}


def test_a_base_is_known_by_name_revision_or_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MINI_FOLDER", make_base(tmp_path / "mini"))
    assert base_named("sdxl") == "sdxl"
    assert base_named("ab" * 32) == "ab" * 32
    assert base_named(str(make_base(tmp_path / "copy"))) == "mini"
    with pytest.raises(UsageError, match="no base"):
        base_named("sd16")
    other = make_base(tmp_path / "other")
    config = other / "unet" / "config.json"
    config.write_text(config.read_text().replace("[32, 64]", "[32, 96]"))
    with pytest.raises(KitError, match="other modules"):
        base_named(str(other))


@pytest.mark.parametrize("fields", [{"kind": "clip"}, {"sort": "colour"}])
def test_unknown_words_are_usage(fields: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="is none"):
        wish(**fields)


@given(st.text(max_size=60))
def test_no_text_makes_the_search_fail(text: str) -> None:
    database = open_database(None)
    database.execute("INSERT INTO words (rowid, name, prompts) VALUES (1, ?, 'one two')", (text,))
    find(database, text, wish=Wish(), limit=3)
    database.close()


@pytest.mark.parametrize(
    ("first", "second", "edits"),
    [("", "", 0), ("ink", "ink", 0), ("ink", "nik", 1), ("kairo", "kario", 1), ("abc", "", 3),
     ("ab", "ba", 1), ("robot", "rabbit", 3), ("flaw", "lawn", 2)],
)  # fmt: skip
def test_distance_counts_edits_and_swaps(first: str, second: str, edits: int) -> None:
    assert distance(first, second, limit=5) == distance(second, first, limit=5) == edits
    assert distance(first, second, limit=0) == (0 if edits == 0 else 1)


def test_words_stay_true_when_a_kit_changes_and_goes(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MINI_FOLDER", base)
    root = tmp_path / "kits"
    made(root, base, id=KAIRO, description="a courier")
    with Catalog(root) as catalog:
        catalog.update()
        assert ids(catalog, "courier") == [KAIRO]
        made(root, base, id=KAIRO, description="a pilot")
        catalog.update()
        assert ids(catalog, "courier") == []
        assert ids(catalog, "pilot") == [KAIRO]
        shutil.rmtree(root / KAIRO)
        catalog.update()
        assert ids(catalog, "pilot") == []
        assert catalog.connection().execute("SELECT count(*) FROM words").fetchone() == (0,)
