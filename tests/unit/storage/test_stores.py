"""Every store keeps the same promises: the local folder, memory, and two real S3 servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.store import StoreContract
from servers.s3 import S3Server, moto_server, rclone_server
from talent_factory.storage.catalog import open_store
from talent_factory.storage.local import LocalStore
from talent_factory.storage.objects import memory_store
from talent_factory.storage.port import Store


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


def _bucket(server: S3Server, tmp_path: Path) -> Iterator[Store]:
    store = open_store("s3", environ=server.environ(), dotenv=tmp_path / "none.env")
    yield store
    for entry in store.list():
        store.delete(entry.key)


class TestLocal(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "kept")


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return memory_store()


class TestMoto(StoreContract):
    @pytest.fixture
    def store(self, moto: S3Server, tmp_path: Path) -> Iterator[Store]:
        yield from _bucket(moto, tmp_path)


class TestRclone(StoreContract):
    @pytest.fixture
    def store(self, rclone: S3Server, tmp_path: Path) -> Iterator[Store]:
        yield from _bucket(rclone, tmp_path)
