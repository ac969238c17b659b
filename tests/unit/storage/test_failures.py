"""What goes wrong in a store ends in one line that says what to do, and shows no secret."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import talent_factory
from servers.loopback import Exchange, Loopback
from servers.s3 import ACCESS, SECRET, S3Server, moto_server, rclone_server
from talent_factory.core.errors import StorageError
from talent_factory.storage.local import LocalStore
from talent_factory.storage.objects import ObjectStore
from talent_factory.storage.port import Store
from talent_factory.storage.s3 import open_s3
from talent_factory.storage.settings import s3_settings

KEY = "u/custom-actors/ada/training_data/actor_ada_td_01.jpg"


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest) -> S3Server:
    chosen = request.getfixturevalue(request.param)
    assert isinstance(chosen, S3Server)
    return chosen


def opened(server: S3Server, **changes: str) -> ObjectStore:
    return open_s3(s3_settings(environ=server.environ(**changes), dotenv=Path(os.devnull)), patience_s=2)


def calls(store: Store) -> list[Callable[[], object]]:
    return [
        lambda: store.put(KEY, b"x"),
        lambda: store.put(KEY, b"x", replace=True),
        lambda: store.get(KEY),
        lambda: store.head(KEY),
        lambda: store.list(),
        lambda: store.delete(KEY),
        lambda: store.check(),
    ]


def complaint(call: Callable[[], object]) -> StorageError:
    with pytest.raises(StorageError) as caught:
        call()
    error = caught.value
    assert "\n" not in error.message
    assert error.remedy
    assert error.__cause__ is None
    for word in (SECRET, "Signature=", "<", "Debug"):
        assert word not in str(error)
    return error


def test_a_bucket_that_is_not_there(server: S3Server) -> None:
    for call in calls(opened(server, AWS_USER_FILES_BUCKET="nobodys-bucket")):
        error = complaint(call)
        assert "nobodys-bucket" in error.message
        assert "does not exist" in error.message
        assert "AWS_USER_FILES_BUCKET" in error.remedy


def test_a_wrong_secret(rclone: S3Server) -> None:
    for call in calls(opened(rclone, AWS_ACCESS_SECRET="another-secret-0123456789")):
        error = complaint(call)
        assert "another-secret" not in str(error)
        assert "keys" in error.remedy or "AWS_ACCESS_SECRET" in error.remedy
    assert (
        "SignatureDoesNotMatch"
        in complaint(
            lambda: opened(rclone, AWS_ACCESS_SECRET="another-secret-0123456789").put(KEY, b"x")
        ).message
    )


def test_a_wrong_access_key(rclone: S3Server) -> None:
    error = complaint(lambda: opened(rclone, AWS_ACCESS_KEY="UNKNOWNACCESSKEY").check())
    assert "AWS_ACCESS_KEY" in error.remedy


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        port = taken.getsockname()[1]
        store = opened(S3Server("none", f"http://127.0.0.1:{port}"))
        for call in calls(store)[:2]:
            assert "cannot be reached" in complaint(call).message


def refusing(status: int, code: str = "") -> Callable[[Exchange], None]:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else b""

    def answer(exchange: Exchange) -> None:
        exchange.send(status, b"" if exchange.method == "HEAD" else body, "application/xml")

    return answer


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "denies"),
        (403, "ExpiredToken", "expired"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "AuthorizationHeaderMalformed", "region"),
        (301, "PermanentRedirect", "region"),
        (400, "", "400"),
        (503, "SlowDown", "SlowDown"),
        (418, "", "418"),
    ],
)
def test_refusals_say_what_to_do(status: int, code: str, words: str) -> None:
    with Loopback(refusing(status, code)) as fake:
        store = opened(S3Server("fake", fake.url))
        assert words in complaint(lambda: store.check()).message
        # a look is answered without a body: the status must do
        assert complaint(lambda: store.head(KEY)).message


def test_a_server_that_is_no_store() -> None:
    with Loopback(lambda exchange: exchange.page()) as fake:
        store = opened(S3Server("fake", fake.url))
        assert "does not answer as S3 does" in complaint(lambda: store.check()).message


def test_an_answer_cut_short_is_never_taken_as_whole() -> None:
    def answer(exchange: Exchange) -> None:
        exchange.send(200, b"x" * 5000, "image/jpeg", {"Last-Modified": LAST, "ETag": '"1"'}, cut=100)

    with Loopback(answer) as fake:
        complaint(lambda: opened(S3Server("fake", fake.url)).get(KEY))


LAST = "Fri, 20 Nov 2026 10:00:00 GMT"


class Bucket:
    """A minimal bucket for one object, with the rights and the knowledge it is told to have."""

    def __init__(self, *, may_look: bool = True, conditions: bool = True, reset_first: bool = False) -> None:
        self.may_look, self.conditions, self.reset_first = may_look, conditions, reset_first
        self.kept: bytes | None = None
        self.headers: dict[str, str] = {}
        self.puts = 0

    def __call__(self, exchange: Exchange) -> None:
        if exchange.method != "PUT":
            self.look(exchange)
            return
        self.puts += 1
        conditional = "if-none-match" in exchange.headers
        if conditional and not self.conditions:
            refusing(501, "NotImplemented")(exchange)
        elif conditional and self.kept is not None:
            refusing(412, "PreconditionFailed")(exchange)
        else:
            self.kept, self.headers = exchange.body, exchange.headers
            if self.reset_first:
                self.reset_first = False
                exchange.reset()
            else:
                exchange.send(200, b"", "application/xml", {"ETag": '"1"'})

    def look(self, exchange: Exchange) -> None:
        if not self.may_look:
            refusing(403, "AccessDenied")(exchange)
        elif self.kept is None:
            refusing(404, "NoSuchKey")(exchange)
        else:
            extra = {
                "Last-Modified": LAST,
                "ETag": '"1"',
                "x-amz-meta-sha256": self.headers["x-amz-meta-sha256"],
            }
            exchange.send(
                200, self.kept, "image/jpeg", extra, cut=len(self.kept) * (exchange.method == "HEAD")
            )


def test_who_may_write_but_not_look_can_store() -> None:
    bucket = Bucket(may_look=False)
    with Loopback(bucket) as fake:
        assert not opened(S3Server("fake", fake.url)).put(KEY, b"picture").existed
    assert bucket.kept == b"picture"
    assert bucket.headers["content-type"] == "image/jpeg"


def test_a_server_without_conditions_is_asked_once() -> None:
    bucket = Bucket(conditions=False)
    with Loopback(bucket) as fake:
        store = opened(S3Server("fake", fake.url))
        store.put(KEY, b"picture")
        asked, bucket.kept = bucket.puts, None
        store.put(KEY, b"picture")
        assert bucket.puts == asked + 1


def test_a_lost_answer_does_not_store_twice_nor_fail() -> None:
    bucket = Bucket(reset_first=True)
    with Loopback(bucket) as fake:
        stored = opened(S3Server("fake", fake.url)).put(KEY, b"picture")
    assert bucket.kept == b"picture"
    assert stored.bytes == 7


def test_another_writer_who_was_quicker_is_noticed(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = opened(moto), opened(moto)
    key = "race/a.jpg"
    # what a store sees that looks before the other one writes
    monkeypatch.setattr(store, "_known_before", lambda _: None)
    other.put(key, b"theirs")
    with pytest.raises(StorageError, match="another object"):
        store.put(key, b"ours")
    assert store.put(key, b"theirs").existed
    assert other.get(key) == b"theirs"


def test_bytes_that_changed_in_the_store_are_noticed(moto: S3Server, tmp_path: Path) -> None:
    at_moto, local = opened(moto), LocalStore(tmp_path)
    digest = at_moto.put("rot/a.jpg", b"picture").sha256
    local.put("rot/a.jpg", b"picture")
    at_moto._inner.put("rot/a.jpg", b"rotten!", attributes={"sha256": digest})
    (tmp_path / "rot" / "a.jpg").write_bytes(b"rotten!")
    for store in (at_moto, local):
        error = complaint(lambda store=store: store.get("rot/a.jpg"))  # type: ignore[misc]
        assert "rot/a.jpg" in error.message
        store.put("rot/a.jpg", b"mended", replace=True)
        assert store.get("rot/a.jpg") == b"mended"


def test_objects_put_there_by_others_are_compared_by_content(moto: S3Server, tmp_path: Path) -> None:
    at_moto, local = opened(moto), LocalStore(tmp_path)
    at_moto._inner.put("hand/a.jpg", b"by hand")
    (tmp_path / "hand").mkdir()
    (tmp_path / "hand" / "a.jpg").write_bytes(b"by hand")
    for store in (at_moto, local):
        entry = store.head("hand/a.jpg")
        assert entry is not None
        assert entry.sha256 is None
        assert store.get("hand/a.jpg") == b"by hand"
        assert store.put("hand/a.jpg", b"by hand").existed
        with pytest.raises(StorageError, match="another object"):
            store.put("hand/a.jpg", b"my hand")


def test_signed_addresses_open_and_others_do_not(rclone: S3Server) -> None:
    store = opened(rclone)
    store.put("signed/ada 1.jpg", b"picture")
    signed = store.url("signed/ada 1.jpg", expires_s=60)
    with urllib.request.urlopen(signed, timeout=30) as answer:
        assert answer.read() == b"picture"
    assert SECRET not in signed
    assert ACCESS in signed  # the public half of the pair
    for wrong in (signed[:-1] + ("0" if signed[-1] != "0" else "1"), store.url("signed/ada 1.jpg")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(wrong, timeout=30)
        assert caught.value.code in (400, 403)
        caught.value.close()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.jpg").write_bytes(b"private")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "u").symlink_to(tmp_path / "outside")
    store = LocalStore(tmp_path / "kept")
    for call in (lambda: store.get("u/a.jpg"), lambda: store.put("u/b.jpg", b"x"), lambda: store.list("u")):
        with pytest.raises(StorageError, match="link"):
            call()
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["a.jpg"]


def test_a_folder_that_is_a_file_or_read_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for call in calls(LocalStore(tmp_path / "file"))[:2]:
        with pytest.raises(StorageError, match="file"):
            call()
    with pytest.raises(StorageError):
        LocalStore(tmp_path / "file").check()


def test_keys_that_are_in_each_others_way(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a/b", b"x")
    for call in (lambda: store.put("a/b/c", b"x"), lambda: store.put("a", b"x"), lambda: store.get("a")):
        with pytest.raises(StorageError):
            call()
    assert store.get("a/b") == b"x"


_FULL = """
import resource, signal, sys
from pathlib import Path
from talent_factory.core.errors import DiskFull
from talent_factory.storage.local import LocalStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = LocalStore(Path(sys.argv[1]))
store.put("a/small.jpg", b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    store.put("a/large.jpg", bytes(100_000))
except DiskFull as error:
    assert store.head("a/large.jpg") is None
    assert store.get("a/small.jpg") == b"small"
    assert [entry.key for entry in store.list()] == ["a/small.jpg"]
    print("full", error.exit_code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit to file sizes there")
def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(talent_factory.__file__).parent.parent)},
    )
    assert done.stdout == "full 1\n", done.stderr


def test_a_kill_between_file_and_label_is_healed_by_the_next_put(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a/b.jpg", b"picture")
    for path in (tmp_path / ".store").rglob("*.json"):
        path.unlink()  # what a kill right after the file leaves
    assert store.get("a/b.jpg") == b"picture"
    assert store.put("a/b.jpg", b"picture").existed
    entry = store.head("a/b.jpg")
    assert entry is not None
    assert entry.sha256 is not None
