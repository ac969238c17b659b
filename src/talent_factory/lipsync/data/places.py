"""Where the files of clips are read: a local folder first, then the cache on the disk, then far away.

Far reads run in threads ahead of their use. A place that does not answer is waited for, with growing pauses,
as long as the user's patience lasts; a file that is not there is remembered, so that nobody asks twice.
"""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from talent_factory.core.errors import Cancelled, FileError, StorageError, UsageError
from talent_factory.lipsync.data.cache import DiskCache
from talent_factory.storage.reader import FolderReader, Reader, StorageAway, open_reader

if TYPE_CHECKING:
    from talent_factory.core.events import Reporter
    from talent_factory.core.stop import StopSignal

T = TypeVar("T")

MEMORY = 256 << 20
_MISSING_S = 60.0
_TELL_AFTER = 4


def read_address(
    address: str, *, limit: int, patience_s: float = 30.0, environ: Mapping[str, str] | None = None
) -> bytes:
    """The bytes at an s3:// or https:// address.

    Raises:
        FileError: nothing is there, or more than `limit` bytes. UsageError: no plain address.
        StorageError: the place refuses, or does not answer for `patience_s` seconds.
    """
    folder, _, name = address.rpartition("/")
    if not name or folder.endswith("/"):
        raise FileError(f"{_shown(address)} names no file", remedy="give the address of the file itself")
    if not address.startswith("s3:") and set(name) & set("?#"):
        # signed addresses end soon, and what signs them would be kept in files and logs
        raise UsageError(
            f"the address {_shown(address)} holds a query or a fragment",
            remedy="give a plain https address, or use s3:// with keys",
        )
    reader = open_reader(folder, environ=environ)
    data = patiently(lambda: reader.get(name), key=name, patience_s=patience_s)
    if data is None:
        raise FileError(f"{_shown(address)} is not there", remedy="check the address")
    if len(data) > limit:
        raise FileError(f"{_shown(address)} is larger than {limit >> 20} MiB", remedy="check the address")
    return data


def patiently(
    ask: Callable[[], T],
    *,
    key: str,
    patience_s: float,
    stop: StopSignal | None = None,
    tell: Callable[[str], None] | None = None,
) -> T:
    """What `ask` gives, asked again while the place does not answer, for up to `patience_s` seconds.

    Pauses double from 0.1 s to 10 s and vary, so that many readers do not come back at once. `tell` hears one
    line when waiting begins and one when it ends. Raises StorageError at the end, Cancelled on `stop`.
    """
    begun, pause = time.monotonic(), 0.1
    # how long to wait is no part of the data: any source of chance will do
    chance = random.Random(f"{key}{threading.get_ident()}")
    asked = 0
    while True:
        if stop is not None and stop.requested:
            raise Cancelled("stopped while reading clips", remedy="run the same command again to go on")
        try:
            answer = ask()
        except StorageAway as away:
            asked += 1
            left = patience_s - (time.monotonic() - begun)
            if left <= 0:
                raise StorageError(
                    f"{away.message}; waited {patience_s:.0f} s",
                    remedy="when it answers again, run the same command: training goes on where it stopped",
                ) from None
            if tell is not None and asked == _TELL_AFTER:
                tell(f"{away.message}; waiting for up to {patience_s:.0f} s")
            _sleep(min(left, pause * (0.5 + chance.random())), stop)
            pause = min(10.0, pause * 2)
            continue
        if asked >= _TELL_AFTER and tell is not None:
            tell(f"it answers again after {time.monotonic() - begun:.0f} s")
        return answer


class Files:
    """The files of a dataset by key, whichever place has them; safe from several threads."""

    def __init__(
        self,
        *,
        local: Path | None = None,
        far: Reader | None = None,
        cache: DiskCache | None = None,
        workers: int = 16,
        patience_s: float = 600.0,
        stop: StopSignal | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        """Read `local` first, then `far` through `cache`; at least one of the two places is needed."""
        self._near = FolderReader(local) if local is not None else None
        self._far, self._cache = far, cache
        self._patience_s, self._stop, self._reporter = patience_s, stop, reporter
        self._pool = ThreadPoolExecutor(workers, "clips") if far is not None else None
        # a fetch may be over before its end is waited for: then the same thread comes here twice
        self._lock = threading.RLock()
        self._under_way: dict[str, Future[bytes | None]] = {}
        self._missing: dict[str, float] = {}
        self._memory = Recent(MEMORY)
        self._waiting = 0
        self.fetched = 0
        self.fetched_bytes = 0

    @property
    def where(self) -> str:
        """All places in the order in which they are asked."""
        return ", then ".join(place.where for place in (self._near, self._far) if place is not None)

    @property
    def only_near(self) -> bool:
        """Whether every file lies on this machine's disks."""
        return self._far is None

    @property
    def keeps(self) -> bool:
        """Whether far files are kept on this machine's disk."""
        return self._cache is not None

    def read(self, key: str) -> bytes | None:
        """The bytes of a file, None where no place has it; StorageError where that cannot be known."""
        if self._near is not None:
            found = self._near.get(key)
            if found is not None or self._far is None:
                return found
        kept = self._memory.get(key)
        return kept if kept is not None else self._wait(self._ask(key))

    def piece(self, key: str, start: int, end: int) -> bytes | None:
        """Some bytes of a file; far ones are read as a range, past the cache."""
        if self._near is not None:
            found = self._near.get_range(key, start, end)
            if found is not None or self._far is None:
                return found
        far = self._far
        assert far is not None
        return self._patient(lambda: far.get_range(key, start, end), key)

    def kept_file(self, key: str) -> Path | None:
        """A file as a path on this machine, fetched into the cache when it is far; None when nowhere."""
        if self._near is not None and self._near.stamp(key) is not None:
            return self._near.path(key)
        if self._far is None or self._cache is None:
            return None
        found = self._cache.path(key)
        if found is None and self._wait(self._ask(key, keep_in_memory=False)) is not None:
            found = self._cache.path(key)
        return found

    def ahead(self, keys: Iterable[str], *, keep_in_memory: bool = True) -> None:
        """Begin to fetch far files that will be asked for; errors come when they are."""
        if self._far is None:
            return
        for key in keys:
            if key in self._memory or (self._near is not None and self._near.stamp(key) is not None):
                continue
            if keep_in_memory or self._cache is None or self._cache.path(key) is None:
                self._ask(key, keep_in_memory=keep_in_memory)

    def stamp(self, key: str) -> str | None:
        """Changes when the file is replaced; None where no place has it."""
        if self._near is not None:
            found = self._near.stamp(key)
            if found is not None or self._far is None:
                return found
        far = self._far
        assert far is not None
        return self._patient(lambda: far.stamp(key), key)

    def close(self) -> None:
        """End the threads; what is under way is given up."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, key: str, *, keep_in_memory: bool = True) -> Future[bytes | None]:
        assert self._pool is not None
        with self._lock:
            going = self._under_way.get(key)
            if going is None:
                going = self._under_way[key] = self._pool.submit(self._fetch, key, keep_in_memory)
                going.add_done_callback(lambda _: self._arrived(key))
        return going

    def _arrived(self, key: str) -> None:
        with self._lock:
            self._under_way.pop(key, None)

    def _wait(self, going: Future[bytes | None]) -> bytes | None:
        # a short wait at a time, so that Ctrl-C is heard on every system
        while True:
            try:
                return going.result(timeout=1.0)
            except TimeoutError:
                if going.done():
                    raise

    def _fetch(self, key: str, keep_in_memory: bool) -> bytes | None:
        far = self._far
        assert far is not None
        if time.monotonic() - self._missing.get(key, -_MISSING_S) < _MISSING_S:
            return None
        # it may have come while this was on its way here
        data = self._memory.get(key)
        if data is None and self._cache is not None:
            data = self._cache.get(key)
        if data is None:
            data = self._patient(lambda: far.get(key), key)
            if data is None:
                self._missing[key] = time.monotonic()
                return None
            if self._cache is not None:
                self._cache.put(key, data)
            with self._lock:
                self.fetched += 1
                self.fetched_bytes += len(data)
        if keep_in_memory:
            self._memory.put(key, data)
        return data

    def _patient(self, ask: Callable[[], T], key: str) -> T:
        return patiently(ask, key=key, patience_s=self._patience_s, stop=self._stop, tell=self._tell)

    def _tell(self, text: str) -> None:
        """Many threads wait for one place: the first one's words are enough."""
        with self._lock:
            begins = "waiting" in text
            self._waiting += 1 if begins else -1
            heard = self._waiting == (1 if begins else 0)
        if heard and self._reporter is not None:
            self._reporter.message(text)


class Recent:
    """The bytes that were used last, up to a limit, in memory."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._items: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def get(self, key: str) -> bytes | None:
        """The bytes, which now were used last."""
        with self._lock:
            found = self._items.get(key)
            if found is not None:
                self._items.move_to_end(key)
            return found

    def put(self, key: str, data: bytes) -> None:
        """Keep them, and forget what was not used for longest."""
        with self._lock:
            self._held += len(data) - len(self._items.pop(key, b""))
            self._items[key] = data
            while self._held > self._limit and self._items:
                self._held -= len(self._items.popitem(last=False)[1])


def _sleep(seconds: float, stop: StopSignal | None) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not (stop is not None and stop.requested):
        time.sleep(min(left, 0.2))


def _shown(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"[:200]
