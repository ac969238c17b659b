"""What every request passes before it reaches a route: host, origin, token, size; and what is counted."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 256 * 1024
OPEN_PATHS = frozenset(("/health",))
_BODY_SECONDS = 20.0
_DRAINED = 64 * MAX_BODY
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:]*)(?::\d+)?")


class Counts:
    """How many requests were answered, by status."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()


class Refusal(NamedTuple):
    """Why a request is turned away; `unread` where the asker may have more to say."""

    status: int
    kind: str
    message: str
    unread: bool = True


class Gate:
    """ASGI middleware that lets through what is ours to answer, and turns the rest away with one line.

    `hosts` are the host names that a request may call us by (None: any), `origins` the pages of other hosts
    that may ask from a browser; without a `token` nobody is asked for one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: Collection[str] | None,
        origins: Collection[str],
        counts: Counts,
    ) -> None:
        self._app = app
        self._token = token.encode() if token else None
        self._hosts = hosts
        self._origins = frozenset(origins)
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts.answers[message["status"]] += 1
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is None:
            body = await _whole_body(receive)
            if isinstance(body, bytes):
                await self._app(scope, _replayed(body, receive), counted)
                return
            refusal = body
        await _refuse(receive, counted, refusal)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Refusal | None:
        host = _HOST.fullmatch(headers.get(b"host", b"").decode("latin-1").lower())
        if self._hosts is not None and (host is None or host[1] not in self._hosts):
            # a page of the web whose name points to this machine would otherwise speak as the user
            return Refusal(421, "WrongHost", "this service does not answer under that name")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and origin not in self._origins:
            return Refusal(403, "WrongOrigin", "pages of that origin may not ask here; see --allow-origin")
        preflight = scope["method"] == "OPTIONS" and bool(origin)
        if self._token is None or scope["path"] in OPEN_PATHS or preflight:
            return None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
            return None
        return Refusal(401, "Unauthorized", "a valid token is needed")


async def _whole_body(receive: Receive) -> bytes | Refusal:
    """The body of a request, or why it is not waited for any longer."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MAX_BODY:
                    return Refusal(413, "TooLarge", f"the body is larger than {MAX_BODY} bytes", unread=more)
                if not more:
                    return bytes(body)
    except TimeoutError:
        return Refusal(408, "TooSlow", f"the body did not come within {_BODY_SECONDS:g} s", unread=False)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives the body first, then what the connection says: that the asker went away."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(receive: Receive, send: Send, refusal: Refusal) -> None:
    """Answer at once, and close when the asker has read it or has sent enough.

    A connection that is closed while bytes of the asker are unread is reset, and a reset may throw the answer
    away before it is read (RFC 9112, 9.6).
    """
    from starlette.responses import JSONResponse

    remedy = "send the header Authorization: Bearer TOKEN" if refusal.status == 401 else ""
    body = {"error": {"kind": refusal.kind, "message": refusal.message, "remedy": remedy}}
    headers = {"Connection": "close"}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    response = JSONResponse(body, status_code=refusal.status, headers=headers)
    await send({"type": "http.response.start", "status": refusal.status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    if refusal.unread:
        await _drain(receive)
    await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive) -> None:
    """Read what the asker still sends, and forget it, until it ends or is too much."""
    left = _DRAINED
    with suppress(TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return
