"""What every store promises: subclass `StoreContract` and give it a store."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from talent_factory.core.errors import StorageError, UsageError
from talent_factory.storage.keys import training_image_key
from talent_factory.storage.port import Store

KEY = "user-1/custom-actors/ada/training_data/actor_ada_td_01.jpg"
PICTURE = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40


class StoreContract:
    """Fixture to override: `store`, fresh and empty for every test."""

    @pytest.fixture
    def store(self) -> Store:
        pytest.fail("a subclass gives the store")

    def test_what_is_put_comes_back_with_its_digest(self, store: Store) -> None:
        stored = store.put(KEY, PICTURE)
        assert stored.sha256 == hashlib.sha256(PICTURE).hexdigest()
        assert (stored.key, stored.bytes, stored.existed) == (KEY, len(PICTURE), False)
        assert stored.url == store.url(KEY)
        assert store.get(KEY) == PICTURE

    def test_head_knows_size_type_and_digest(self, store: Store) -> None:
        assert store.head(KEY) is None
        stored = store.put(KEY, PICTURE)
        entry = store.head(KEY)
        assert entry is not None
        assert (entry.key, entry.bytes) == (KEY, len(PICTURE))
        assert (entry.content_type, entry.sha256) == ("image/jpeg", stored.sha256)

    def test_the_content_type_can_be_named(self, store: Store) -> None:
        store.put("a/b.bin", b"x", content_type="image/png")
        entry = store.head("a/b.bin")
        assert entry is not None
        assert entry.content_type == "image/png"

    def test_the_same_bytes_again_are_no_second_object(self, store: Store) -> None:
        store.put(KEY, PICTURE)
        again = store.put(KEY, PICTURE)
        assert again.existed
        assert len(store.list()) == 1
        assert store.put(KEY, PICTURE, replace=True).existed

    def test_other_bytes_need_leave_to_replace(self, store: Store) -> None:
        store.put(KEY, PICTURE)
        for other in (PICTURE + b"!", bytes(len(PICTURE))):
            with pytest.raises(StorageError, match="actor_ada_td_01"):
                store.put(KEY, other)
            assert store.get(KEY) == PICTURE
        replaced = store.put(KEY, b"new", replace=True)
        assert not replaced.existed
        assert store.get(KEY) == b"new"
        entry = store.head(KEY)
        assert entry is not None
        assert entry.sha256 == hashlib.sha256(b"new").hexdigest()

    def test_nothing_and_much_are_kept_whole(self, store: Store) -> None:
        much = os.urandom(12 << 20)
        store.put("a/nothing.bin", b"")
        store.put("a/much.bin", much)
        assert store.get("a/nothing.bin") == b""
        assert store.get("a/much.bin") == much

    def test_a_list_is_of_a_folder_and_below(self, store: Store) -> None:
        keys = [training_image_key("u", actor, number) for actor in ("ada", "ada2") for number in (2, 1)]
        for key in keys:
            store.put(key, key.encode())
        everything = store.list()
        assert [entry.key for entry in everything] == sorted(keys)
        assert [entry.bytes for entry in everything] == [len(key) for key in sorted(keys)]
        # a folder, not the beginning of a name: ada is not ada2
        assert {entry.key for entry in store.list("u/custom-actors/ada")} == {k for k in keys if "/ada/" in k}
        assert store.list("u/custom-actors/ada/") == store.list("u/custom-actors/ada")
        assert store.list("nobody") == ()

    def test_what_is_deleted_is_gone_and_deleting_again_is_no_error(self, store: Store) -> None:
        store.put(KEY, PICTURE)
        store.delete(KEY)
        store.delete(KEY)
        assert store.head(KEY) is None
        assert store.list() == ()
        assert not store.put(KEY, b"another").existed

    def test_what_is_not_there_is_a_storage_error(self, store: Store) -> None:
        with pytest.raises(StorageError, match="nobody"):
            store.get("nobody/none.jpg")

    @pytest.mark.parametrize(
        "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\\b", "a\nb", "a\0b", ".h/a", "a" * 2000]
    )
    def test_what_is_no_key_reaches_no_place(self, store: Store, key: str) -> None:
        for call in (store.get, store.head, store.delete, store.url):
            with pytest.raises(UsageError):
                call(key)
        with pytest.raises(UsageError):
            store.put(key, b"x")
        assert store.list() == ()

    def test_names_beyond_ascii_and_odd_signs_are_kept(self, store: Store) -> None:
        key = "ü s+er@x=1/Ada – 東京 & ~co(1).jpg"
        store.put(key, PICTURE)
        assert store.get(key) == PICTURE
        assert [entry.key for entry in store.list()] == [key]
        assert " " not in store.url(key)

    def test_a_check_leaves_nothing(self, store: Store) -> None:
        store.check()
        store.check("u/custom-actors/ada")
        assert store.list() == ()

    def test_many_threads_store_at_once(self, store: Store) -> None:
        keys = [training_image_key("u", "ada", number) for number in range(24)]
        with ThreadPoolExecutor(8) as threads:
            stored = list(threads.map(lambda key: store.put(key, key.encode() * 500), keys * 2))
        assert sorted(entry.key for entry in store.list()) == sorted(keys)
        assert {item.key for item in stored} == set(keys)
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(store.get, keys)) == [key.encode() * 500 for key in keys]

    def test_names_fit_a_manifest(self, store: Store) -> None:
        assert store.name.isalnum()
        assert store.where
