"""The HTTP core against a server on loopback: what each answer means, and whom the key is shown to."""

from __future__ import annotations

import gc
import gzip
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from servers.loopback import Exchange, Faults, Loopback
from talent_factory.core.errors import (
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    ResultExpired,
    SubmitUnknown,
    UsageError,
)
from talent_factory.providers.address import api_key, endpoint, is_loopback
from talent_factory.providers.http import Answer, Http, Service, retry_after

KEY = "secret-key-0123456789"


class Site:
    """A server whose paths are set by the test; `seen` holds what was asked."""

    def __init__(self) -> None:
        self.paths: dict[str, Callable[[Exchange], None]] = {}
        self.seen: list[Exchange] = []
        self.server = Loopback(self._answer)

    def _answer(self, ask: Exchange) -> None:
        self.seen.append(ask)
        self.paths[ask.path](ask)

    @property
    def url(self) -> str:
        return self.server.url

    def http(self, **settings: float) -> Http:
        service = Service(
            "Example", self.url, key_variable="EXAMPLE_KEY", key_page="https://example.com/keys"
        )
        return Http(service, headers={"authorization": f"Bearer {KEY}"}, **settings)  # type: ignore[arg-type]


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    with site.server:
        yield site


@pytest.fixture
def second() -> Iterator[Site]:
    site = Site()
    with site.server:
        yield site


def says(status: int, data: object = None, **headers: str) -> Callable[[Exchange], None]:
    return lambda ask: ask.json(
        status, data, {name.replace("_", "-"): text for name, text in headers.items()}
    )


# ---------------------------------------------------------------- what an answer means


@pytest.mark.parametrize(
    ("status", "submitting", "otherwise"),
    [
        (400, ProviderRefused, ProviderError),
        (401, ProviderRefused, ProviderRefused),
        (402, ProviderRefused, ProviderRefused),
        (403, ProviderRefused, ProviderRefused),
        (404, ProviderRefused, ProviderError),
        (408, SubmitUnknown, ProviderUnreachable),
        (409, ProviderError, ProviderError),
        (413, ProviderRefused, ProviderError),
        (422, ProviderRefused, ProviderError),
        (429, ProviderBusy, ProviderBusy),
        (500, SubmitUnknown, ProviderUnreachable),
        (502, SubmitUnknown, ProviderUnreachable),
        (503, SubmitUnknown, ProviderUnreachable),
        (302, ProviderError, ProviderError),
    ],
)
def test_each_status_says_what_is_safe_next(
    site: Site, status: int, submitting: type[ProviderError], otherwise: type[ProviderError]
) -> None:
    site.paths["/jobs"] = says(status, {"detail": "because"}, location="/elsewhere")
    http = site.http()
    for submit, kind in ((True, submitting), (False, otherwise)):
        with pytest.raises(ProviderError, match="because") as caught:
            http.post("jobs", {}, submit=submit)
        assert type(caught.value) is kind
        assert "\n" not in caught.value.message
        assert caught.value.remedy
    assert len(site.seen) == 2  # nothing is sent twice


def test_an_answer_that_breaks_off_counts_by_its_status(site: Site) -> None:
    body = b'{"detail": "no credit left, not any"}'
    site.paths["/ok"] = lambda ask: ask.send(201, body, "application/json", cut=5)
    site.paths["/no"] = lambda ask: ask.send(402, body, "application/json", cut=5)
    http = site.http()
    with pytest.raises(SubmitUnknown):
        http.post("ok", {}, submit=True)
    with pytest.raises(ProviderUnreachable):
        http.get("ok")
    with pytest.raises(ProviderRefused, match="no credit"):
        http.post("no", {}, submit=True)


def test_damaged_json_is_lost_for_submissions_and_repeatable_otherwise(site: Site) -> None:
    site.paths["/x"] = lambda ask: ask.send(200, b'{"id": "ab', "application/json")
    with pytest.raises(SubmitUnknown, match="not readable"):
        site.http().post("x", {}, submit=True)
    with pytest.raises(ProviderUnreachable, match="damaged"):
        site.http().get("x")


def test_a_page_is_named_as_such_whatever_it_calls_itself(site: Site) -> None:
    site.paths["/a"] = lambda ask: ask.page(200)
    site.paths["/b"] = lambda ask: ask.send(200, b"  <html>login</html>", "application/json")
    site.paths["/c"] = lambda ask: ask.page(502)
    for path in ("a", "b"):
        with pytest.raises(ProviderError, match="web page instead of JSON") as caught:
            site.http().post(path, {}, submit=True)
        assert type(caught.value) is ProviderError
    with pytest.raises(SubmitUnknown, match="HTTP 502 with a web page"):
        site.http().post("c", {}, submit=True)


def test_a_name_that_does_not_resolve_and_a_closed_port_are_unreachable(site: Site) -> None:
    nowhere = Http(Service("Example", "https://nobody.invalid"))
    with pytest.raises(ProviderUnreachable, match=r"nobody\.invalid") as caught:
        nowhere.post("jobs", {}, submit=True)
    assert "nothing is paid" in caught.value.remedy
    with pytest.raises(ProviderUnreachable):
        Http(Service("Example", "http://127.0.0.1:9")).post("jobs", {}, submit=True)


def test_silence_ends_with_the_time_limit(site: Site) -> None:
    site.paths["/hang"] = lambda ask: ask.hang()
    http = site.http(timeout_s=0.2)
    with pytest.raises(SubmitUnknown):
        http.post("hang", {}, submit=True)
    with pytest.raises(ProviderUnreachable):
        http.get("hang")


def test_an_answer_that_drips_ends_with_the_limit_of_the_whole_call(site: Site) -> None:
    def drip(ask: Exchange) -> None:
        wire = ask._handler.wfile
        wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while not site.server.stopping.wait(0.01):
            wire.write(b" ")
            wire.flush()

    site.paths["/drip"] = drip
    with pytest.raises(ProviderUnreachable, match="no end after"):
        site.http(limit_s=0.3).get("drip")


def test_a_judge_may_know_better(site: Site) -> None:
    site.paths["/x"] = says(400, {"error": {"code": "policy", "message": "too strange"}})

    def judge(answer: Answer) -> ProviderError | None:
        return ResultExpired(f"judged {answer.status}") if "error" in answer.facts() else None

    with pytest.raises(ResultExpired, match="judged 400"):
        site.http().get("x", judge=judge)
    with pytest.raises(ProviderRefused, match="too strange"):
        site.http().post("x", {}, submit=True)


@pytest.mark.parametrize(
    ("headers", "data", "seconds"),
    [
        ({"retry-after": "7"}, None, 7.0),
        ({"retry-after": "7"}, {"retry_after": 3}, 7.0),
        ({}, {"retry_after": 3.5}, 3.5),
        ({}, {"retry_after": "soon"}, 5.0),
        ({}, ["no object"], 5.0),
        ({"retry-after": "-3"}, None, 0.0),
        ({"retry-after": "1e9"}, None, 600.0),
        ({"retry-after": "nan"}, {"retry_after": 2}, 2.0),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], data: object, seconds: float) -> None:
    assert retry_after(Answer(429, data, headers)) == seconds


def test_a_date_to_wait_for_is_read_by_the_servers_clock() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    later = now.replace(second=42)
    headers = {"date": format_datetime(now, usegmt=True), "retry-after": format_datetime(later, usegmt=True)}
    assert retry_after(Answer(429, None, headers)) == 42.0
    assert Answer(200, None, headers).moment == now
    assert Answer(200, None, {"date": "yesterday"}).moment is None


# ---------------------------------------------------------------- whom the key is shown to


def test_the_key_is_sent_to_the_service_and_to_nobody_else(site: Site, second: Site) -> None:
    second.paths["/out"] = lambda ask: ask.send(200, b"image", "image/png")
    second.paths["/back"] = says(302, None, location=f"{site.url}/own")
    site.paths["/own"] = lambda ask: ask.send(200, b"own", "image/png")
    site.paths["/away"] = says(302, None, location=f"{second.url}/out")
    http = site.http()
    assert http.download(f"{second.url}/out") == b"image"
    assert http.download("away") == b"image"
    assert http.download(f"{second.url}/back") == b"own"
    assert all("authorization" not in ask.headers for ask in second.seen)
    assert all(ask.headers["authorization"] == f"Bearer {KEY}" for ask in site.seen)
    with pytest.raises(ProviderError, match="another host"):
        http.get(f"{second.url}/out")
    assert len(second.seen) == 3


def test_a_service_that_repeats_the_key_does_not_make_us_show_it(site: Site) -> None:
    site.paths["/x"] = says(401, {"detail": f"the key {KEY} is wrong\n" + "blah " * 200})
    http = site.http()
    with pytest.raises(ProviderRefused) as caught:
        http.get("x")
    assert KEY not in str(caught.value)
    assert "***" in caught.value.message
    assert len(caught.value.message) < 400
    assert "EXAMPLE_KEY" in caught.value.remedy
    assert "https://example.com/keys" in caught.value.remedy
    assert KEY not in repr(http)
    assert caught.value.__cause__ is None


# ---------------------------------------------------------------- downloads


def test_a_download_is_whole_or_an_error(site: Site) -> None:
    data = bytes(range(256)) * 1000
    site.paths["/whole"] = lambda ask: ask.send(200, data, "image/png")
    site.paths["/cut"] = lambda ask: ask.send(200, data, "image/png", cut=1)
    http = site.http()
    assert http.download("whole") == data
    assert http.download(f"{site.url}/whole") == data
    with pytest.raises(ProviderUnreachable, match="incomplete"):
        http.download("cut")


def test_a_download_has_a_cap_also_when_it_is_packed(site: Site) -> None:
    packed = gzip.compress(bytes(8 << 20))
    site.paths["/plain"] = lambda ask: ask.send(200, bytes(2 << 20), "image/png")
    site.paths["/packed"] = lambda ask: ask.send(200, packed, "image/png", {"Content-Encoding": "gzip"})
    for path in ("plain", "packed"):
        with pytest.raises(ProviderError, match="more than 1 MiB"):
            site.http().download(path, max_bytes=1 << 20)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, ResultExpired), (410, ResultExpired), (500, ProviderUnreachable)]
)
def test_images_that_are_gone(site: Site, status: int, kind: type[ProviderError]) -> None:
    site.paths["/x"] = says(status)
    with pytest.raises(kind):
        site.http().download("x")


def test_a_refused_signature_is_an_expired_image_but_a_refused_key_is_not(site: Site, second: Site) -> None:
    site.paths["/x"] = second.paths["/x"] = says(403, {"detail": "no"})
    with pytest.raises(ResultExpired):
        site.http().download(f"{second.url}/x")
    with pytest.raises(ProviderRefused):
        site.http().download(f"{site.url}/x")


def test_redirects_end(site: Site) -> None:
    site.paths["/loop"] = says(302, None, location="/loop")
    with pytest.raises(ProviderError, match="redirects more than"):
        site.http().download("loop")
    assert len(site.seen) == 4


@pytest.mark.parametrize(
    "address",
    ["http://example.com/a.png", "file:///etc/passwd", "ftp://127.0.0.1/x", "https://u:p@example.com/"],
)
def test_addresses_that_are_not_followed(site: Site, address: str) -> None:
    site.paths["/hop"] = says(302, None, location=address)
    for start in (address, "hop"):
        with pytest.raises(ProviderError, match="not followed"):
            site.http().download(start)


def test_a_service_in_the_world_cannot_send_us_to_this_machine() -> None:
    http = Http(Service("Example", "https://api.example.com"))
    with pytest.raises(ProviderError, match="not followed"):
        http.download("http://127.0.0.1:8188/secret.png")


# ---------------------------------------------------------------- addresses and keys


def test_the_argument_goes_before_the_variables_and_they_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def where(argument: str | None = None) -> str:
        return endpoint(argument, variables=["ONE_URL", "TWO_URL"], default="https://api.example.com/v1")

    for name in ("ONE_URL", "TWO_URL"):
        monkeypatch.delenv(name, raising=False)
    assert where() == "https://api.example.com/v1"
    monkeypatch.setenv("TWO_URL", "https://two.example.com/")
    assert where() == "https://two.example.com"
    monkeypatch.setenv("ONE_URL", "http://localhost:8000/api/")
    assert where() == "http://localhost:8000/api"
    assert where("https://three.example.com") == "https://three.example.com"


@pytest.mark.parametrize(
    "address",
    [
        "http://api.example.com",
        "http://192.168.0.2",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
        "https://user:pass@example.com",
        "https://example.com/?a=b",
        "https://example.com/#x",
        "https://",
        "api.example.com",
        "file:///tmp/x",
        "http://[::1",
        "https://example.com:port",
    ],
)
def test_other_addresses_are_refused_naming_where_they_stood(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONE_URL", address)
    with pytest.raises(UsageError, match="ONE_URL cannot be used") as caught:
        endpoint(None, variables=["ONE_URL"], default="https://api.example.com")
    assert "pass@" not in str(caught.value)


def test_what_is_this_machine() -> None:
    assert all(map(is_loopback, ["http://localhost", "http://127.8.9.1:80/x", "http://[::1]:1"]))
    assert not any(
        map(is_loopback, ["http://10.0.0.1", "http://localhost.example.com", "http://0.0.0.0", ""])
    )


@pytest.mark.parametrize("bad", ["", "  ", "two words", "line\nend", "smart\u2019quote"])
def test_a_key_that_is_missing_or_broken_names_the_variable(
    bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXAMPLE_KEY", bad)
    with pytest.raises(ProviderRefused, match="EXAMPLE_KEY") as caught:
        api_key(None, variables=["EXAMPLE_KEY"], service="Example", page="https://example.com/keys")
    assert "https://example.com/keys" in caught.value.remedy
    assert not bad.strip() or bad not in str(caught.value)


def test_a_key_comes_from_the_argument_or_any_of_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEW_KEY", raising=False)
    monkeypatch.setenv("OLD_KEY", " abc \n")

    def key(argument: str | None) -> str:
        return api_key(argument, variables=["NEW_KEY", "OLD_KEY"], service="Example", page="")

    assert key(None) == "abc"
    assert key("def") == "def"


# ---------------------------------------------------------------- the ends


def test_connections_close_with_the_object(site: Site) -> None:
    site.paths["/x"] = says(200, {})
    http = site.http()
    http.get("x")
    client = http._client
    seen = weakref.ref(http)
    del http
    gc.collect()
    assert seen() is None
    assert client.is_closed
    other = site.http()
    other.close()
    other.close()


def test_faults_by_chance_follow_from_the_seed() -> None:
    def draws(seed: int) -> list[str]:
        faults = Faults(seed=seed, rates={"submit:429": 0.3, "submit:500": 0.3, "poll:reset": 1.0})
        return [faults.take("submit") for _ in range(300)]

    first = draws(1)
    assert first == draws(1) != draws(2)
    assert {name: 60 < first.count(name) < 120 or first.count(name) for name in ("429", "500")} == {
        "429": True,
        "500": True,
    }
    assert Faults(rates={"poll:reset": 1.0}).take("poll") == "reset"
