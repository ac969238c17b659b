"""A threaded HTTP server on loopback that can also misbehave: reset, hang, cut an answer short."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

PAGE = b"<!doctype html><title>Bad gateway</title><p>A page where JSON was due."


class Exchange:
    """One request and the ways to answer it. Header names are in lower case."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: bytes, server: Loopback) -> None:
        parts = urlsplit(handler.path)
        self.method = handler.command
        self.path = parts.path
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = body
        self._handler = handler
        self._server = server

    def data(self) -> dict[str, object]:
        """The body as a JSON object, or {}."""
        try:
            read = json.loads(self.body)
        except ValueError:
            return {}
        return read if isinstance(read, dict) else {}

    def json(self, status: int, data: object, headers: Mapping[str, str] | None = None) -> None:
        """Answer JSON."""
        self.send(status, json.dumps(data).encode(), "application/json", headers)

    def send(
        self, status: int, data: bytes, kind: str, headers: Mapping[str, str] | None = None, *, cut: int = 0
    ) -> None:
        """Answer bytes; with `cut` the last so many are missing and the connection ends."""
        handler = self._handler
        handler.send_response_only(status)
        handler.send_header("Date", formatdate(self._server.clock(), usegmt=True))
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data[: len(data) - cut])
        if cut:
            handler.close_connection = True

    def page(self, status: int = 200) -> None:
        """Answer a web page where JSON is due."""
        self.send(status, PAGE, "text/html; charset=utf-8")

    def reset(self) -> None:
        """Break the connection at once (TCP reset): the client learns nothing."""
        handler = self._handler
        handler.close_connection = True
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(handler.connection.detach())

    def hang(self) -> None:
        """Say nothing until the server stops, then break the connection."""
        self._server.stopping.wait()
        self.reset()


@dataclass
class Faults:
    """What goes wrong, by kind of request: planned ones in order first, then by chance.

    `rates` are {"kind:fault": probability}; draws follow from `seed` and the number of the request.
    """

    seed: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    _planned: dict[str, deque[str]] = field(default_factory=dict)
    _count: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, kind: str, *faults: str) -> None:
        """Let the next requests of a kind meet these faults, one each; "ok" is none."""
        with self._lock:
            self._planned.setdefault(kind, deque()).extend(faults)

    def take(self, kind: str) -> str:
        """The fault of this request, or "ok"."""
        with self._lock:
            self._count[kind] = number = self._count.get(kind, 0) + 1
            if self._planned.get(kind):
                return self._planned[kind].popleft()
        draw = random.Random(f"{self.seed}/{kind}/{number}").random()
        for name, rate in self.rates.items():
            whose, _, fault = name.partition(":")
            if whose == kind:
                if draw < rate:
                    return fault
                draw -= rate
        return "ok"


class Loopback:
    """A server on 127.0.0.1 (port 0: any free one) whose requests all go to `answer`; a context manager.

    Requests of different connections run at the same time.
    """

    def __init__(self, answer: Callable[[Exchange], None], *, port: int = 0, skew_s: float = 0.0) -> None:
        self.stopping = threading.Event()
        self.skew_s = skew_s
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", port), _handler(self, answer))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def clock(self) -> float:
        """Seconds since the epoch by the server's own, perhaps wrong, clock."""
        return time.time() + self.skew_s

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more: hanging requests are broken off, threads have ended when this returns."""
        self.stopping.set()
        self._http.shutdown()
        with self._lock:
            for connection in self._sockets:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def hold(self, connection: socket.socket, *, here: bool) -> None:
        """Note a connection as open or gone."""
        with self._lock:
            (self._sockets.add if here else self._sockets.discard)(connection)


class _Server(ThreadingHTTPServer):
    # server_close waits for every thread, so that no test leaves one behind
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        kind = sys.exc_info()[0]
        # clients that go away in the middle are what these servers are for
        if kind is not None and not issubclass(kind, ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _handler(server: Loopback, answer: Callable[[Exchange], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # one packet per small answer: otherwise delayed acknowledgements cost 40 ms each
        wbufsize = -1
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            server.hold(self.connection, here=True)

        def finish(self) -> None:
            server.hold(self.connection, here=False)
            try:
                super().finish()
            except (OSError, ValueError):
                self.rfile.close()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            answer(Exchange(self, body, server))

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _any

    return Handler
