"""The review page on this machine: a small HTTP server on 127.0.0.1 with a secret in its address.

Only a request that carries the secret in its path and names this very host is answered, so neither another
user's program nor a web page in the same browser can read the images or decide about them.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from talent_factory.core.errors import TalentError, UsageError
from talent_factory.datagen.quality.verdict import worst_verdict
from talent_factory.datagen.review.book import Choice, Decision, decide, load_review
from talent_factory.datagen.review.gallery import Gallery, Picture

_ASSETS = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MAX_BODY = 4096
_THUMB_SIDE = 320
_CHOICES: dict[str, Choice | None] = {"keep": "keep", "reject": "reject", "clear": None}


class ReviewServer:
    """Serves one gallery at `url` until someone presses Done; a decision is on disk before it is answered."""

    def __init__(self, gallery: Gallery, *, port: int = 0) -> None:
        """Listen on `port` (0: any free one). Raises UsageError where that is taken or not allowed."""
        self.gallery = gallery
        self.done = threading.Event()
        self._by_digest = {picture.sha256: picture for picture in gallery.pictures}
        self._writing = threading.Lock()
        self._secret = secrets.token_urlsafe(24)
        try:
            self._http = ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, self))
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be listened on: {error.strerror}",
                remedy="leave --port out: any free one is taken",
            ) from None
        self._http.daemon_threads = True

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """The address of the page, secret included."""
        return f"http://127.0.0.1:{self.port}/{self._secret}/"

    @contextmanager
    def running(self) -> Iterator[ReviewServer]:
        """Answer requests in the background as long as the block lasts."""
        thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="review", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()

    def admits(self, host: str, secret: str) -> bool:
        """Whether a request with this Host header and this first part of its path is ours to answer."""
        ours = host in (f"127.0.0.1:{self.port}", f"localhost:{self.port}")
        return ours and hmac.compare_digest(secret.encode(), self._secret.encode())

    def picture(self, digest: str) -> Picture | None:
        """The picture with this digest."""
        return self._by_digest.get(digest)

    def state(self) -> dict[str, object]:
        """All that the page shows."""
        book = load_review(self.gallery.folder)
        return {
            "name": self.gallery.name,
            "source": self.gallery.source is not None,
            "images": [
                {
                    "number": picture.number,
                    "title": picture.title,
                    "detail": picture.detail,
                    "sha256": picture.sha256,
                    "verdict": worst_verdict(picture.checks),
                    "checks": [check.model_dump() for check in picture.checks],
                    "choice": book.choice(picture.sha256),
                }
                for picture in self.gallery.pictures
            ],
        }

    def choose(self, picture: Picture, choice: Choice | None) -> None:
        """Write one decision down."""
        made = None if choice is None else Decision(choice=choice, image=picture.path.name)
        with self._writing:
            decide(self.gallery.folder, {picture.sha256: made})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "talent", ""
    timeout: ClassVar[float | None] = 30

    def __init__(self, review: ReviewServer, *args: Any) -> None:
        self.review = review
        super().__init__(*args)

    def do_GET(self) -> None:
        """The page, its parts, its data, and the images."""
        route = self._route()
        if route is None:
            return
        if route in _ASSETS:
            name, kind = _ASSETS[route]
            self._send(files("talent_factory.datagen.review").joinpath(name).read_bytes(), kind)
        elif route == "data.json":
            self._json(self.review.state())
        elif route == "source" and self.review.gallery.source is not None:
            self._picture(self.review.gallery.source, side=2 * _THUMB_SIDE)
        elif route.startswith(("image/", "thumb/")):
            kind, _, digest = route.partition("/")
            picture = self.review.picture(digest)
            if picture is None:
                self._refuse(HTTPStatus.NOT_FOUND)
            else:
                self._picture(picture.path, side=_THUMB_SIDE if kind == "thumb" else None)
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """One decision, or the end of the review."""
        route = self._route()
        if route is None:
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY or not self._same_origin():
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        body = self.rfile.read(int(length))
        if route == "done":
            self._json({"done": True})
            self.review.done.set()
        elif route == "decide":
            self._decide(body)
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the command, and addresses hold the secret."""

    def _decide(self, body: bytes) -> None:
        try:
            wish = json.loads(body)
            picture = self.review.picture(str(wish["sha256"]))
            choice = _CHOICES[str(wish["choice"])]
        except (ValueError, KeyError, TypeError, RecursionError):
            picture, choice = None, None
        if picture is None:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        try:
            self.review.choose(picture, choice)
        except TalentError as error:
            self._json({"error": error.message}, HTTPStatus.INSUFFICIENT_STORAGE)
            return
        self._json({"choice": choice})

    def _route(self) -> str | None:
        """What is asked for behind the secret; a request without it is refused here, with None."""
        secret, _, route = self.path.partition("?")[0].lstrip("/").partition("/")
        if self.review.admits(self.headers.get("Host", ""), secret):
            return route
        self._refuse(HTTPStatus.FORBIDDEN)
        return None

    def _same_origin(self) -> bool:
        origin = self.headers.get("Origin")
        return (
            self.headers.get("Content-Type", "").startswith("application/json")
            and self.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
            and (origin is None or origin == f"http://{self.headers.get('Host', '')}")
        )

    def _picture(self, path: Path, *, side: int | None) -> None:
        try:
            data, kind = _bytes_of(path, side)
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        self._send(data, kind)

    def _json(self, document: object, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(document).encode(), "application/json", status)

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._send(status.phrase.encode(), "text/plain; charset=utf-8", status)

    def _send(self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        try:
            self.send_response(status)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(data))),
                ("Content-Security-Policy", _POLICY),
                ("X-Content-Type-Options", "nosniff"),
                ("Referrer-Policy", "no-referrer"),
                ("Cache-Control", "no-store"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the page moved on before the image came


def _bytes_of(path: Path, side: int | None) -> tuple[bytes, str]:
    """The image at `path` as it is, or as a JPEG of at most `side` pixels, with its media type."""
    with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as image:
        kind = Image.MIME[image.format or "PNG"]
        if side is None:
            return path.read_bytes(), kind
        small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.BOX)
    stream = BytesIO()
    small.save(stream, "JPEG", quality=85)
    return stream.getvalue(), "image/jpeg"
