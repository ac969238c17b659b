"""Fetch a portrait from an address on the internet without being led anywhere else."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from talent_factory.core.errors import PortraitError
from talent_factory.datagen.addresses import reach_of
from talent_factory.datagen.portrait import MAX_BYTES

_PIECE = 1 << 16
_MAX_URL = 8192
_REDIRECTS = {301, 302, 303, 307, 308}
_OTHER = "download the picture yourself and give the file"
_AGAIN = f"try again, or {_OTHER}"


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one download may cost: `max_bytes` of body, `timeout_s` per wait, `total_s` in all, redirects."""

    max_bytes: int = MAX_BYTES
    timeout_s: float = 15.0
    total_s: float = 120.0
    max_redirects: int = 5


def fetch_portrait(
    url: str,
    *,
    allow_local: bool = False,
    limits: FetchLimits | None = None,
    context: ssl.SSLContext | None = None,
) -> bytes:
    """The bytes of the picture at `url`, still encoded; `normalise` is what decodes and judges them.

    https only, from public addresses only, redirects included: each host is resolved once and the checked
    address is the one connected to, so a name that changes its mind in between gains nothing. Proxies of the
    environment are not used. `allow_local` also takes http and https from this machine and private networks
    when `url` itself lies there (never link-local or metadata addresses, never from a public page's
    redirect). `context` verifies certificates (default: the system's).

    Raises:
        PortraitError: one line that says what was wrong; addresses are shown without their query.
    """
    bounds = limits or FetchLimits()
    until = time.monotonic() + bounds.total_s
    local, target = allow_local, url
    for _ in range(bounds.max_redirects + 1):
        parts = _checked(target, first=target is url, plain=local)
        with _errors(parts):
            answer = _ask(parts, _Trip(bounds, until, local, context or _system_context()))
        if isinstance(answer, bytes):
            return answer
        # a public page must not lead to this network, whatever the user asked for
        local = local and answer.was_local
        target = urljoin(target, answer.location)
    raise PortraitError(
        f"{_shown(parts)} is redirected more than {bounds.max_redirects} times", remedy=_OTHER
    )


@dataclass(frozen=True, slots=True)
class _Trip:
    """What one request is bound by; `until` in seconds of the monotonic clock."""

    limits: FetchLimits
    until: float
    local: bool
    context: ssl.SSLContext

    def left_s(self) -> float:
        """Seconds left of the whole."""
        return max(0.001, self.until - time.monotonic())


@dataclass(frozen=True, slots=True)
class _Redirect:
    location: str
    was_local: bool


class _Checked(http.client.HTTPSConnection):
    """A connection to the address that was checked; the certificate must fit the name all the same."""

    def __init__(self, parts: SplitResult, trip: _Trip) -> None:
        self._tls = parts.scheme == "https"
        self._trip = trip
        self.was_local = False
        super().__init__(
            _ascii_host(parts),
            parts.port or (443 if self._tls else 80),
            timeout=trip.limits.timeout_s,
            context=trip.context,
        )
        if not self._tls:
            self.default_port = 80  # the port that the Host header leaves out

    def connect(self) -> None:
        """Resolve once and take the first address that is allowed and answers; no TLS yet."""
        self.sock, self.was_local = _connected(self.host, int(self.port or 0), self._trip, tls=self._tls)

    def shake_hands(self) -> None:
        """TLS over the open connection: apart from `connect`, so that it is under watch."""
        if self._tls:
            self.sock = self._trip.context.wrap_socket(self.sock, server_hostname=self.host)


def _connected(host: str, port: int, trip: _Trip, *, tls: bool) -> tuple[socket.socket, bool]:
    """(socket, whether it leads to a local address) for the first allowed address of `host` that answers."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    allowed = []
    for family, kind, protocol, _, address in found:
        reach = reach_of(str(address[0]))
        if reach == "local" and trip.local:
            allowed.append((family, kind, protocol, address, True))
        elif reach == "public" and tls:
            allowed.append((family, kind, protocol, address, False))
    if not allowed:
        plain = any(reach_of(str(item[4][0])) == "public" for item in found) and not tls
        raise _Forbidden("is not encrypted (http)" if plain else "is not on the public internet")
    failure: OSError = OSError("no address")
    for family, kind, protocol, address, local in allowed[:4]:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(min(trip.limits.timeout_s, trip.left_s()))
            sock.connect(address)
            return sock, local
        except OSError as error:
            sock.close()
            failure = error
    raise failure


class _Forbidden(Exception):
    """No address of the host is one that may be connected to; says why."""


def _ask(parts: SplitResult, trip: _Trip) -> bytes | _Redirect:
    """One request: the picture, or where it has gone."""
    connection = _Checked(parts, trip)
    try:
        connection.connect()
        with _watched(connection.sock, trip.left_s()) as late:
            try:
                answer = _exchange(connection, parts, trip)
            except (OSError, http.client.HTTPException, ValueError, PortraitError):
                if not late.is_set():
                    raise
            # a body without a length ends where the connection does, even where it was us who ended it
            if late.is_set():
                raise TimeoutError
            return answer
    finally:
        connection.close()


def _exchange(connection: _Checked, parts: SplitResult, trip: _Trip) -> bytes | _Redirect:
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    headers = {
        "Accept": "image/*",
        # a body that unpacks itself could grow past every cap
        "Accept-Encoding": "identity",
        "User-Agent": "talent-factory",
        "Connection": "close",
    }
    connection.shake_hands()
    connection.request("GET", f"{path}?{query}" if query else path, headers=headers)
    with connection.getresponse() as answer:
        return _judged(answer, connection.was_local, parts, trip)


def _judged(
    answer: http.client.HTTPResponse, was_local: bool, parts: SplitResult, trip: _Trip
) -> bytes | _Redirect:
    if answer.status in _REDIRECTS:
        location = answer.getheader("Location", "")
        if not location:
            raise PortraitError(f"{_shown(parts)} redirects to nowhere", remedy=_OTHER)
        # headers are read as Latin-1, while those who do not escape mean UTF-8
        meant = location.encode("latin-1").decode("utf-8", "replace")
        return _Redirect(meant, was_local)
    if answer.status != 200:
        raise _refusal(parts, answer.status)
    if answer.getheader("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise PortraitError(
            f"{_shown(parts)} sends a packed answer, though none was asked for", remedy=_OTHER
        )
    return _body(answer, parts, trip)


def _body(answer: http.client.HTTPResponse, parts: SplitResult, trip: _Trip) -> bytes:
    limit = trip.limits.max_bytes
    if (announced := answer.length) is not None and announced > limit:
        raise _too_large(parts, limit)
    pieces: list[bytes] = []
    size = 0
    while piece := answer.read1(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise _too_large(parts, limit)
        # the first bytes tell: no need to take megabytes of something else
        if len(pieces[0]) < 16 and len(pieces) > 1:
            pieces = [b"".join(pieces)]
        if len(pieces) == 1 and len(pieces[0]) >= 16 and not looks_like_picture(pieces[0]):
            raise _no_picture(parts, pieces[0])
    if announced is not None and size < announced:
        raise http.client.IncompleteRead(b"", announced - size)
    data = b"".join(pieces)
    if not looks_like_picture(data):
        raise _no_picture(parts, data)
    return data


@contextmanager
def _watched(sock: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Break the connection after `seconds`: bounds per read alone let a dripping server go on for ever."""
    late = threading.Event()
    # a second handle on the same connection: it stays good when TLS takes the first one over
    handle = sock.dup()

    def cut() -> None:
        late.set()
        with suppress(OSError):  # the other side was quicker
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()
        handle.close()


def looks_like_picture(data: bytes) -> bool:
    """Whether the first bytes are those of a format that portraits may have."""
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")):
        return True
    if data[:4] == b"RIFF":
        return data[8:12] == b"WEBP"
    if data[:2] == b"BM":
        return data[6:10] == b"\0\0\0\0"
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS


_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1", b"heif", b"avif", b"avis"}


@contextmanager
def _errors(parts: SplitResult) -> Iterator[None]:
    """Every way in which the network can fail as one line."""
    where, host = _shown(parts), parts.hostname
    try:
        yield
    except _Forbidden as why:
        raise PortraitError(f"{where} {why}", remedy=_OTHER) from None
    except socket.gaierror:
        raise PortraitError(
            f"{where}: there is no host {host}", remedy=f"check the address, or {_OTHER}"
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise PortraitError(
            f"{where}: the certificate of {host} is not valid ({error.verify_message})", remedy=_OTHER
        ) from None
    except TimeoutError:
        raise PortraitError(f"{where} took too long", remedy=_AGAIN) from None
    except http.client.IncompleteRead:
        raise PortraitError(f"{where}: the download was cut short", remedy=_AGAIN) from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise PortraitError(
            f"{where} cannot be fetched ({_reason(error)})", remedy=f"check the address, or {_OTHER}"
        ) from None


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__


@cache
def _system_context() -> ssl.SSLContext:
    """Verification against the certificates that the HTTP library trusts, made once."""
    import httpx2

    return httpx2.create_ssl_context()


def _checked(url: str, *, first: bool, plain: bool) -> SplitResult:
    """The parts of an address that may be asked; `plain` lets http through, which then reaches local only."""
    problem, parts = "", urlsplit("")
    url = url.strip().replace(" ", "%20") if isinstance(url, str) else "\0"
    if len(url) > _MAX_URL or re.search(r"[\x00-\x1f\x7f]", url):
        problem = "is no web address"
    else:
        try:
            parts = urlsplit(url)
            _, _ = parts.port, _ascii_host(parts)
        except ValueError:
            problem = "is no web address"
    if not problem:
        if parts.scheme not in ("http", "https"):
            problem = "is no https address"
        elif not parts.hostname:
            problem = "names no host"
        elif parts.username is not None or parts.password is not None:
            problem = "holds a user name or password"
        elif parts.scheme == "http" and not plain:
            problem = "is not encrypted (http)"
    if problem:
        what = "the portrait's address" if first else "the portrait's address redirects to one that"
        raise PortraitError(f"{what} {problem}", remedy=f"give an https:// address, or {_OTHER}")
    return parts


def _ascii_host(parts: SplitResult) -> str:
    """The host as it goes over the wire; raises UnicodeError (a ValueError) where there is no such form."""
    host = parts.hostname or ""
    return host if host.isascii() else host.encode("idna").decode("ascii")


def _shown(parts: SplitResult) -> str:
    """The address for messages: no query, as that may hold a signature, and not without end."""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    text = f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return plain if len(plain) <= 160 else f"{plain[:157]}…"


def _refusal(parts: SplitResult, status: int) -> PortraitError:
    if status in (404, 410):
        return PortraitError(f"{_shown(parts)}: nothing is there ({status})", remedy="check the address")
    if status in (401, 403):
        return PortraitError(
            f"{_shown(parts)} may not be read ({status}); a signed address may have expired", remedy=_OTHER
        )
    return PortraitError(f"{_shown(parts)} answers with an error ({status})", remedy=_AGAIN)


def _too_large(parts: SplitResult, limit: int) -> PortraitError:
    return PortraitError(
        f"{_shown(parts)} is larger than the {limit / 2**20:.3g} MiB allowed",
        remedy="save the picture as JPEG or PNG with at most 2048 px on the long side",
    )


def _no_picture(parts: SplitResult, data: bytes) -> PortraitError:
    if not data:
        return PortraitError(f"{_shown(parts)} is empty", remedy="check the address")
    page = data.lstrip()[:1] == b"<"
    return PortraitError(
        f"{_shown(parts)} is {'a web page' if page else 'something else'}, not a picture",
        remedy="give the address of the picture itself (PNG, JPEG, WEBP, HEIC, AVIF, TIFF, GIF or BMP)",
    )
