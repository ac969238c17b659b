"""A real server under requests that nobody means well: all are answered in our words, none takes a place."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
import psutil
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_maker import IDENTITY, Service, make_workspace, serving
from talent_factory.service import patience

WORDS = st.one_of(
    st.sampled_from(
        [
            "", ".", "..", "../../etc/passwd", "%2e%2e/x", "a\x00b", "A" * 3000, "0" * 24, "NEAR(", '"', "*",
            IDENTITY, f"{IDENTITY}:nan", f"{IDENTITY}:1e999", f"{IDENTITY}:1@0-nan", f"{IDENTITY}/all=inf",
            f"{IDENTITY}:0.5/te=,=", "avatar.identity.con", "mini", "/etc", "hero",
        ]
    ),
    st.text(max_size=30),
)  # fmt: skip
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([2**63, 10**40, -1, 0, 64, 1e308]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.just("\ud800")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(WORDS, st.just("\ud800")), inner, max_size=4),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    workspace = make_workspace(tmp_path_factory.mktemp("workspace"))
    with serving(workspace, "--queue-limit", "2") as running:
        yield running


@pytest.fixture(scope="module")
def raw(service: Service) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {service.token}"}
    with httpx2.Client(base_url=service.url, headers=headers, trust_env=False, timeout=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def routes(raw: httpx2.Client) -> list[tuple[str, str, dict[str, Any]]]:
    """Every (path, method, description) that the service tells of."""
    told = raw.get("/openapi.json").json()["paths"]
    return [(path, method, about) for path, ways in told.items() for method, about in ways.items()]


@pytest.mark.slow
@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_every_request_is_answered_in_our_words(
    data: st.DataObject, raw: httpx2.Client, service: Service, routes: list[tuple[str, str, dict[str, Any]]]
) -> None:
    path, method, about = data.draw(st.sampled_from(routes))
    asked: dict[str, str] = {}
    headers: dict[str, str] = {}
    for parameter in about.get("parameters", []):
        text = data.draw(WORDS)
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", quote(text, safe=""))
        elif parameter["in"] == "query":
            asked[parameter["name"]] = text
        elif data.draw(st.booleans()):
            headers[parameter["name"]] = quote(text)[:400]
    content = _body(data, raw) if "requestBody" in about else b""
    address = path + (f"?{urlencode(asked)}" if asked and data.draw(st.booleans()) else "")
    headers |= {"Content-Type": "application/json"} if content else {}
    answer = raw.request(method.upper(), address, content=content, headers=headers)
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    assert str(service.workspace).encode() not in answer.content
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"kind", "message", "remedy"}
    if answer.status_code == 202:
        raw.delete(f"/jobs/{answer.json()['id']}")


def _body(data: st.DataObject, raw: httpx2.Client) -> bytes:
    """A request that is wrong in one or two places, or no request at all."""
    kind = data.draw(st.integers(0, 4))
    if kind == 0:
        return data.draw(st.binary(max_size=100))
    if kind == 1:
        return data.draw(st.sampled_from([b"[" * 100_000, b'{"kits":' * 30_000, b"1" * 10_000, b"null"]))
    ask: dict[str, Any] = {"kits": [IDENTITY], "steps": 1, "size": [64, 64], "prompts": ["x"]}
    names = [*raw.get("/openapi.json").json()["components"]["schemas"]["RenderAsk"]["properties"], "\ud800"]
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2)):
        ask[name] = data.draw(VALUES)
    return json.dumps(ask).encode()


def test_a_burst_of_requests_leaves_the_memory_bounded(service: Service, raw: httpx2.Client) -> None:
    raw.post("/mixes", content=b"[" * 200_000)
    server = psutil.Process(service.process.pid)
    before = server.memory_info().rss
    for _ in range(60):
        assert raw.post("/mixes", content=b"[" * 250_000).status_code in (400, 422)
        assert raw.post("/mixes", content=b" " * 400_000).status_code == 413
    assert server.memory_info().rss - before < 64 << 20


@pytest.mark.parametrize("token", [True, False])
def test_who_still_sends_reads_the_refusal_first(service: Service, token: bool) -> None:
    size = 4 << 20
    head = f"POST /mixes HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n"
    head += f"Authorization: Bearer {service.token}\r\n\r\n" if token else "\r\n"
    address = httpx2.URL(service.url)
    with socket.create_connection((address.host, address.port), timeout=60) as connection:
        connection.sendall(head.encode() + b" " * (1 << 20))
        time.sleep(0.5)  # the answer is there by now, and the connection is not reset for what follows
        connection.sendall(b" " * (3 << 20))
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 413" if token else b"HTTP/1.1 401")
    assert answer.endswith(b"}}")


def test_who_sends_without_end_is_cut_off(service: Service) -> None:
    address = httpx2.URL(service.url)
    with socket.create_connection((address.host, address.port), timeout=60) as connection:
        connection.sendall(b"POST /mixes HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        with pytest.raises(OSError):
            for _ in range(1000):
                connection.sendall(piece)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """The address of a server whose answers take longer than it waits for a request."""
    monkeypatch.setattr(patience, "HEAD_SECONDS", 1.0)

    async def app(scope: Any, receive: Any, send: Callable[[dict[str, Any]], Any]) -> None:
        await asyncio.sleep(1.5)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    listener = socket.create_server(("127.0.0.1", 0))
    options: dict[str, Any] = {"http": patience.Connection, "ws": "none", "lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: 127.", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_that_asks_nothing_is_closed(patient: tuple[str, int], said: bytes) -> None:
    with socket.create_connection(patient, timeout=60) as connection:
        connection.sendall(said)
        assert connection.recv(1000) == b""


def test_a_request_that_takes_long_is_answered_and_the_next_must_come_whole(
    patient: tuple[str, int],
) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(patient, timeout=60) as connection:
        for _ in range(2):
            connection.sendall(request)
            assert connection.recv(1000).startswith(b"HTTP/1.1 204")
        connection.sendall(request[:10])
        assert connection.recv(1000) == b""


def test_nothing_of_another_file_is_told(raw: httpx2.Client, tmp_path: Path, service: Service) -> None:
    (service.workspace / "personas").mkdir(exist_ok=True)
    secret = tmp_path / "secret.json"
    secret.write_text('{"id": "leak", "password": "hunter2"}')
    (service.workspace / "personas" / "leak.json").symlink_to(secret)
    (service.workspace / "personas" / "broken.json").write_text('{"id": "broken", "password": "hunter2"')
    for address in ("/personas", "/personas/leak", "/personas/broken"):
        assert "hunter2" not in raw.get(address).text
    assert raw.get("/personas/leak").status_code == 404
    assert raw.get("/personas/broken").status_code == 422
    answer = raw.post("/renders", json={"persona": "leak"})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text
