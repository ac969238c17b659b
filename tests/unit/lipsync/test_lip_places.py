"""Reading from far away: waiting for a place that is down, never asking twice for what is not there."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lip_clips import make_clips
from servers.loopback import Exchange, Loopback
from servers.s3 import BUCKET, S3Server, moto_server, rclone_server
from talent_factory.core.errors import Cancelled, ClipError, ConfigError, StorageError, UsageError
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.data.cache import DiskCache
from talent_factory.lipsync.data.places import Files, Recent
from talent_factory.storage.catalog import open_store
from talent_factory.storage.reader import Reader, StorageAway, open_reader


class Web:
    """Files of a folder over HTTP with ranges, and faults on order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: Counter[str] = Counter()
        self.faults: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            self.asked[exchange.path.lstrip("/")] += 1
            fault = self.faults.pop(0) if self.faults else ""
        path = self.root / exchange.path.lstrip("/")
        if fault == "reset":
            exchange.reset()
        elif fault.isdecimal():
            exchange.send(int(fault), b"no", "text/plain")
        elif not path.is_file():
            exchange.send(404, b"", "text/plain")
        else:
            data, wanted = path.read_bytes(), exchange.headers.get("range", "")
            if fault == "cut":
                exchange.send(200, data, "application/octet-stream", cut=5)
            elif wanted:
                first, last = wanted.removeprefix("bytes=").split("-")
                part = data[int(first) : int(last) + 1]
                where = {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"}
                exchange.send(206, part, "application/octet-stream", where)
            else:
                body = b"" if exchange.method == "HEAD" else data
                exchange.send(200, body, "application/octet-stream", {"ETag": '"v1"'})


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Web, str]]:
    root = tmp_path / "served"
    root.mkdir()
    (root / "a.bin").write_bytes(bytes(range(200)))
    answer = Web(root)
    with Loopback(answer) as server:
        yield answer, server.url


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(params=["folder", "web", "moto", "rclone"])
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reader]:
    if request.param == "folder":
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "a.bin").write_bytes(bytes(range(200)))
        yield open_reader(tmp_path / "kept")
    elif request.param == "web":
        _, url = request.getfixturevalue("web")
        yield open_reader(url)
    else:
        server: S3Server = request.getfixturevalue(request.param)
        environ = server.environ()
        open_store("s3", environ=environ, dotenv=tmp_path / "none").put("clips/a.bin", bytes(range(200)))
        yield open_reader(f"s3://{BUCKET}/clips", environ=environ, dotenv=tmp_path / "none")


def test_every_reader_keeps_the_same_promises(reader: Reader) -> None:
    assert reader.get("a.bin") == bytes(range(200))
    assert reader.get("b.bin") is None
    assert reader.get("c/d.bin") is None
    assert reader.stamp("a.bin") == reader.stamp("a.bin") is not None
    assert reader.stamp("b.bin") is None
    assert "200" not in reader.where
    assert reader.where


def test_pieces_are_read_where_the_server_knows_ranges(reader: Reader) -> None:
    try:
        assert reader.get_range("a.bin", 10, 20) == bytes(range(10, 20))
    except StorageError:
        # rclone answers a range with the whole object and calls it that
        assert "127.0.0.1" in reader.where
        assert reader.where.startswith("bucket")
        return
    assert reader.get_range("b.bin", 0, 5) is None


def test_addresses_that_no_reader_takes() -> None:
    for bad in ("http://example.invalid/x", "ftp://example.invalid", "https://u:p@example.invalid/x"):
        with pytest.raises(UsageError) as caught:
            open_reader(bad)
        assert "u:p" not in str(caught.value)
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY"):
        open_reader("s3://bucket/x", environ={}, dotenv=Path("none.env"))


def test_a_denied_bucket_is_an_error_at_once(rclone: S3Server, tmp_path: Path) -> None:
    environ = rclone.environ(AWS_ACCESS_SECRET="not-the-secret-0123456789")
    files = Files(far=open_reader(f"s3://{BUCKET}", environ=environ, dotenv=tmp_path / "none"), patience_s=60)
    with pytest.raises(StorageError) as caught:
        files.read("a.bin")
    assert not isinstance(caught.value, StorageAway)
    assert "not-the-secret" not in str(caught.value)
    missing = open_reader("s3://no-such-bucket", environ=rclone.environ(), dotenv=tmp_path / "none")
    with pytest.raises(StorageError, match="no-such-bucket"):
        Files(far=missing, patience_s=60).read("a.bin")
    files.close()


class Ear:
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def event(self, kind: str, **fields: object) -> None:
        """Nothing."""

    def progress(self, stage: str, done: int, total: int, *, unit: str = "", note: str = "") -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Remember."""
        self.said.append(text)


@pytest.mark.parametrize("fault", ["503", "429", "500", "reset", "cut"])
def test_a_place_that_is_down_for_a_moment_is_asked_again(web: tuple[Web, str], fault: str) -> None:
    answer, url = web
    answer.faults = [fault] * 3
    files = Files(far=open_reader(url), patience_s=30)
    assert files.read("a.bin") == bytes(range(200))
    assert answer.asked["a.bin"] == 4
    files.close()


def test_a_place_that_stays_down_is_told_and_ends_in_one_error(tmp_path: Path) -> None:
    with Loopback(lambda exchange: exchange.page(500)) as server:
        url = server.url
    ear = Ear()
    files = Files(far=open_reader(url), patience_s=2.5, reporter=ear)
    with pytest.raises(StorageError, match="waited") as caught:
        files.read("a.bin")
    assert "same command" in caught.value.remedy
    assert len(ear.said) == 1
    assert "waiting for up to" in ear.said[0]
    files.close()


def test_a_stop_ends_the_waiting(tmp_path: Path) -> None:
    with Loopback(lambda exchange: exchange.page(500)) as server:
        url = server.url
    stop = StopSignal()
    files = Files(far=open_reader(url), patience_s=600, stop=stop)
    timer = threading.Timer(0.5, stop.request)
    timer.start()
    with pytest.raises(Cancelled):
        files.read("a.bin")
    timer.join()
    files.close()


def test_what_is_not_there_is_asked_for_once(web: tuple[Web, str]) -> None:
    answer, url = web
    files = Files(far=open_reader(url))
    for _ in range(5):
        assert files.read("none.bin") is None
    assert answer.asked["none.bin"] == 1
    files.close()


def test_the_local_folder_comes_first_and_the_cache_second(web: tuple[Web, str], tmp_path: Path) -> None:
    answer, url = web
    (answer.root / "b.bin").write_bytes(b"far")
    local = tmp_path / "local"
    local.mkdir()
    (local / "a.bin").write_bytes(b"near")
    for _ in range(2):
        cache = DiskCache(tmp_path / "cache", source=url, limit=1 << 20)
        files = Files(local=local, far=open_reader(url), cache=cache)
        assert files.read("a.bin") == b"near"
        assert files.read("b.bin") == b"far"
        files.close()
    assert answer.asked == {"b.bin": 1}


def test_what_is_expected_is_fetched_once_by_many_threads(web: tuple[Web, str]) -> None:
    answer, url = web
    names = [f"{number}.bin" for number in range(30)]
    for name in names:
        (answer.root / name).write_bytes(name.encode() * 10)
    files = Files(far=open_reader(url), workers=8)
    files.ahead(names)
    threads = [threading.Thread(target=lambda: [files.read(n) for n in names]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(files.read(name) == name.encode() * 10 for name in names)
    assert set(answer.asked.values()) == {1}
    assert files.fetched == 30
    files.close()


def test_a_torn_or_changed_cache_file_is_fetched_anew(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, source="s", limit=1 << 20)
    cache.put("x/a.bin", b"0123456789")
    path = next(path for path in tmp_path.rglob("a.bin"))
    whole = path.read_bytes()
    assert cache.get("x/a.bin") == b"0123456789"
    assert cache.path("x/a.bin") == path
    for damaged in (whole[:-1], whole[:4], b"", b"9" + whole[1:]):
        path.write_bytes(damaged)
        assert cache.get("x/a.bin") is None
        cache.put("x/a.bin", b"0123456789")
    assert DiskCache(tmp_path, source="another", limit=1 << 20).get("x/a.bin") is None


def test_the_cache_stays_within_its_limit(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, source="s", limit=100_000)
    for number in range(60):
        cache.put(f"{number}.bin", bytes(4000))
    total = sum(path.stat().st_size for path in tmp_path.rglob("*.bin"))
    assert total < 110_000
    assert cache.get("59.bin") == bytes(4000)


def test_recent_bytes_stay_in_memory_up_to_the_limit() -> None:
    recent = Recent(100)
    for number in range(5):
        recent.put(str(number), bytes(30))
        recent.get("0")
    assert "0" in recent
    assert "4" in recent
    assert "1" not in recent
    recent.put("0", bytes(10))
    assert recent.get("0") == bytes(10)


def test_clips_far_away_lacking_a_file_are_named(web: tuple[Web, str]) -> None:
    from talent_factory.lipsync.data.open import ClipSettings, open_clips

    answer, url = web
    make_clips(answer.root)
    (answer.root / "audio" / "HDTF-0001" / "000003.npy").unlink()
    clips = open_clips(ClipSettings(far=url))
    clips.expect([(0, 0, 14), (1, 0, 9)])
    with pytest.raises(ClipError, match=r"lacks audio/HDTF-0001/000003\.npy \(http://127"):
        clips.audio(0, 1, 6)
    assert clips.audio(0, 4, 9).shape == (5, 10, 384)
    assert clips.audio(1, 0, 9).shape == (9, 10, 384), "the other spelling of the folder is not found"
    clips.close()
