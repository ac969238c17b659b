"""A portrait from the internet: real servers, and none of the ways to be led elsewhere works."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from servers.loopback import Exchange, Loopback
from talent_factory.core.errors import PortraitError
from talent_factory.datagen import remote
from talent_factory.datagen.remote import FetchLimits, fetch_portrait, looks_like_picture

HOST = "pictures.example"
QUICK = FetchLimits(timeout_s=20, total_s=60)
Answer = Callable[[Exchange], None]


def encoded(kind: str) -> bytes:
    out = BytesIO()
    Image.effect_noise((96, 80), 50).convert("RGB").save(out, kind)
    return out.getvalue()


PNG = encoded("PNG")


def picture(exchange: Exchange) -> None:
    exchange.send(200, PNG, "image/png")


def redirect(to: str, status: int = 302) -> Answer:
    return lambda exchange: exchange.send(status, b"", "text/plain", {"Location": to})


def complaint(url: str, *, limits: FetchLimits = QUICK, allow_local: bool = True, **more: object) -> str:
    with pytest.raises(PortraitError) as caught:
        fetch_portrait(url, allow_local=allow_local, limits=limits, **more)  # type: ignore[arg-type]
    error = caught.value
    assert "\n" not in error.message
    assert error.message.isprintable()
    assert error.remedy
    assert error.__cause__ is None
    return error.message


class Names:
    """A resolver that is asked instead of the network; counts the questions."""

    def __init__(self, **known: str) -> None:
        self.known = {name.replace("_", "."): address for name, address in known.items()}
        self.asked: list[str] = []
        self._real = socket.getaddrinfo

    def __call__(self, host: str, port: int, **_: object) -> list[object]:
        self.asked.append(host)
        address = self.known.get(host, host)
        return list(self._real(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    resolver = Names(pictures_example="127.0.0.1", inside_example="10.1.2.3", rebound_example="127.0.0.1")
    monkeypatch.setattr(remote.socket, "getaddrinfo", resolver)
    return resolver


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate with its key, for `pictures.example`."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def secured(answer: Answer, certificate: Path, hellos: list[str | None]) -> Iterator[int]:
    """A server that talks TLS; yields its port and notes the names it is asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def noted(_: object, name: str | None, __: object) -> None:
        hellos.append(name)

    context.sni_callback = noted
    server = Loopback(answer)
    port = int(server.url.rpartition(":")[2])
    # hands are shaken in the request's own thread, so that a failed one does not stop the server
    server._http.socket = context.wrap_socket(
        server._http.socket, server_side=True, do_handshake_on_connect=False
    )
    with server:
        yield port


@pytest.fixture
def trust(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def test_a_picture_over_tls(names: Names, certificate: Path, trust: ssl.SSLContext) -> None:
    seen: list[dict[str, str]] = []

    def answer(exchange: Exchange) -> None:
        seen.append(exchange.headers)
        picture(exchange)

    hellos: list[str | None] = []
    with secured(answer, certificate, hellos) as port:
        url = f"https://{HOST}:{port}/a/ada%20 1.png?sig=x y&b=%2F"
        assert fetch_portrait(url, allow_local=True, context=trust, limits=QUICK) == PNG
    # connected to the checked address, but by name for TLS and for the server
    assert hellos == [HOST]
    assert seen[0]["host"] == f"{HOST}:{port}"
    assert seen[0]["accept-encoding"] == "identity"
    assert names.asked == [HOST]


def test_a_certificate_of_another_name_is_refused(
    names: Names, certificate: Path, trust: ssl.SSLContext
) -> None:
    with secured(picture, certificate, []) as port:
        message = complaint(f"https://rebound.example:{port}/x.png", context=trust)
        assert "certificate" in message
        assert "certificate" in complaint(f"https://{HOST}:{port}/x.png")  # the system does not know it


def test_this_network_is_refused_unless_asked(names: Names, certificate: Path, trust: ssl.SSLContext) -> None:
    with secured(picture, certificate, []) as port:
        for host in (HOST, "127.0.0.1", "[::ffff:127.0.0.1]"):
            url = f"https://{host}:{port}/x.png"
            assert "public internet" in complaint(url, allow_local=False, context=trust)
    assert names.asked


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "0.0.0.0", "[fe80::1]", "224.0.0.1", "100.100.100.200", "[fd00:ec2::254]"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_metadata_and_the_like_are_refused_even_when_asked(names: Names, host: str, scheme: str) -> None:
    assert "public internet" in complaint(f"{scheme}://{host}/latest/meta-data/")


def test_a_name_is_resolved_once_so_that_it_cannot_change_its_mind(
    monkeypatch: pytest.MonkeyPatch, names: Names
) -> None:
    connected: list[tuple[str, int]] = []

    class Watched(socket.socket):
        def connect(self, address: tuple[str, int]) -> None:  # type: ignore[override]
            connected.append(address)
            # whoever asks again gets another answer
            names.known[HOST] = "10.9.9.9"
            super().connect(address)

    with Loopback(picture) as server:
        monkeypatch.setattr(remote.socket, "socket", Watched)
        port = int(server.url.rpartition(":")[2])
        assert fetch_portrait(f"http://{HOST}:{port}/x.png", allow_local=True, limits=QUICK) == PNG
    assert names.asked == [HOST]
    assert connected == [("127.0.0.1", port)]


@pytest.mark.parametrize(
    "target",
    [
        "https://127.0.0.1/x.png",
        "https://inside.example/x.png",
        "https://169.254.169.254/latest",
        "https://[::1]/x.png",
        "https://[::ffff:10.0.0.1]/",
        "//inside.example/x.png",
    ],
)
@pytest.mark.parametrize("allow_local", [True, False])
def test_a_public_page_does_not_lead_into_this_network(
    target: str,
    allow_local: bool,
    names: Names,
    certificate: Path,
    trust: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = remote.reach_of
    calls: list[str] = []

    def reach(address: str) -> str:
        calls.append(address)
        # the first server plays one on the internet
        return "public" if len(calls) == 1 else real(address)

    monkeypatch.setattr(remote, "reach_of", reach)
    with secured(redirect(target), certificate, []) as port:
        message = complaint(f"https://{HOST}:{port}/x.png", context=trust, allow_local=allow_local)
    assert "public internet" in message
    assert len(calls) >= 2


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://pictures.example/x.png", "not encrypted"),
        ("ftp://pictures.example/x.png", "no https address"),
        ("file:///etc/passwd", "no https address"),
        ("https://user:word@pictures.example/", "user name"),
        ("https://pictures.example:99999/", "no web address"),
        ("", "nowhere"),
    ],
)
def test_redirects_are_checked_like_the_first_address(
    target: str,
    words: str,
    names: Names,
    certificate: Path,
    trust: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "reach_of", lambda _: "public")
    with secured(redirect(target), certificate, []) as port:
        message = complaint(f"https://{HOST}:{port}/x.png", context=trust, allow_local=False)
    assert words in message
    assert "word@" not in message


def test_redirects_are_followed_and_counted(names: Names) -> None:
    def answer(exchange: Exchange) -> None:
        hops = int(exchange.path.removeprefix("/"))
        redirect(f"{hops - 1}", 307)(exchange) if hops else picture(exchange)

    with Loopback(answer) as server:
        assert fetch_portrait(f"{server.url}/5", allow_local=True, limits=QUICK) == PNG
        assert "more than 5 times" in complaint(f"{server.url}/6")


@pytest.mark.parametrize(
    "url",
    [
        *("", "ada.png", "/etc/passwd", "file:///etc/passwd", "ftp://h/x", "data:image/png;base64,AAAA"),
        *(
            "https:///x",
            "http://pictures.example/x.png",
            "https://u:p@h/x",
            "https://h:99999/",
            "https://a\nb/",
        ),
        *("https://[::1", "https://h/\0", "https://" + "a" * 9000, "s3://bucket/x", "https://\ud800/"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_asked(url: str, names: Names) -> None:
    complaint(url, allow_local=False)
    assert names.asked == []


def test_plain_http_is_for_this_network_only(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "reach_of", lambda _: "public")
    assert "not encrypted" in complaint("http://8.8.8.8/x.png", allow_local=False)
    assert "not encrypted" in complaint("http://8.8.8.8/x.png")


def large(exchange: Exchange) -> None:
    exchange.send(200, PNG + bytes(300_000), "image/png")


def endless(exchange: Exchange) -> None:
    """A picture without an announced length that does not end."""
    handler = exchange._handler
    handler.send_response_only(200)
    handler.end_headers()
    handler.close_connection = True
    handler.wfile.write(PNG)
    while not exchange._server.stopping.is_set():
        try:
            handler.wfile.write(bytes(65536))
            handler.wfile.flush()
        except OSError:
            return


def test_caps_on_size(names: Names) -> None:
    small = FetchLimits(max_bytes=200_000, timeout_s=20, total_s=60)
    for answer in (large, endless):
        with Loopback(answer) as server:
            assert "larger than" in complaint(f"{server.url}/x.png?signature=secret", limits=small)


def dripping(exchange: Exchange) -> None:
    """One byte of a header at a time, each in time for a bound per read."""
    handler = exchange._handler
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not exchange._server.stopping.wait(0.02):
        try:
            handler.wfile.write(b"a")
            handler.wfile.flush()
        except OSError:
            return


def unfinished(exchange: Exchange) -> None:
    """A whole picture without a length, and then nothing: when it ends, nobody knows if that was all."""
    handler = exchange._handler
    handler.send_response_only(200)
    handler.end_headers()
    handler.close_connection = True
    handler.wfile.write(PNG)
    handler.wfile.flush()
    exchange._server.stopping.wait()


@pytest.mark.parametrize("answer", [dripping, unfinished, Exchange.hang])
def test_caps_on_time(names: Names, answer: Answer) -> None:
    with Loopback(answer) as server:
        limits = FetchLimits(timeout_s=30, total_s=0.5)
        assert "took too long" in complaint(f"{server.url}/x.png", limits=limits)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda exchange: exchange.page(), "a web page"),
        (lambda exchange: exchange.send(200, b"", "image/png"), "empty"),
        (lambda exchange: exchange.send(200, b"%PDF-1.7 and more of it", "image/png"), "something else"),
        (lambda exchange: exchange.send(200, b"\x7fELF", "image/png"), "something else"),
        (lambda exchange: exchange.send(404, b"", "text/plain"), "nothing is there"),
        (lambda exchange: exchange.send(403, b"", "text/plain"), "expired"),
        (lambda exchange: exchange.send(500, b"", "text/plain"), "error (500)"),
        (lambda exchange: exchange.send(200, PNG, "image/png", {"Content-Encoding": "gzip"}), "packed"),
        (lambda exchange: exchange.send(200, PNG, "image/png", cut=20), "cut short"),
        (Exchange.reset, "cannot be fetched"),
    ],
)
def test_answers_that_are_no_picture(names: Names, answer: Answer, words: str) -> None:
    with Loopback(answer) as server:
        message = complaint(f"{server.url}/x.png?signature=secret")
    assert words in message
    assert "secret" not in message
    assert server.url in message


def test_nobody_there(names: Names) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        assert "cannot be fetched" in complaint(f"http://127.0.0.1:{taken.getsockname()[1]}/x.png")
    assert "no host nobody.example" in complaint("https://nobody.example/x.png", allow_local=False)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_kind_that_portraits_may_have_is_known_by_its_first_bytes(kind: str) -> None:
    data = encoded(kind)
    assert looks_like_picture(data[:16])
    assert not looks_like_picture(b"x" + data[:16])
    with Loopback(lambda exchange: exchange.send(200, data, "application/octet-stream")) as server:
        assert fetch_portrait(f"{server.url}/x", allow_local=True, limits=QUICK) == data
