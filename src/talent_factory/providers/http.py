"""The one HTTP core of all providers: requests, what their answers mean, and downloads that end whole."""

from __future__ import annotations

import json
import math
import ssl
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from urllib.parse import urljoin, urlsplit

import httpx2

from talent_factory.core.errors import (
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    ResultExpired,
    SubmitUnknown,
)
from talent_factory.providers.address import address_problem, is_loopback, origin

MAX_ANSWER = 64 << 20
MAX_DOWNLOAD = 64 << 20
_MAX_REDIRECTS = 3
_MAX_WAIT_S = 600.0
_QUOTE = 240
# Statuses that would meet the next submission as well: the cast must stop rather than ask again.
_REFUSED_SUBMIT = {400, 401, 402, 403, 404, 405, 413, 415, 422}
_REFUSED = {401, 402, 403}


@dataclass(frozen=True)
class Service:
    """Who is spoken to: a name for messages, the address all paths hang on, and where its key comes from."""

    name: str
    base: str
    key_variable: str = ""
    key_page: str = ""


@dataclass(frozen=True)
class Answer:
    """A JSON answer that has passed the error mapping (or, for a judge, any answer)."""

    status: int
    data: object
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def moment(self) -> datetime | None:
        """The server's own clock (Date header, UTC), or None."""
        return _date(self.headers.get("date", ""))

    def facts(self) -> dict[str, object]:
        """The answer as a JSON object; anything else becomes an empty one."""
        return dict(self.data) if isinstance(self.data, Mapping) else {}


Judge = Callable[[Answer], ProviderError | None]


class Http:
    """Requests to one service, from any number of threads.

    Every failure becomes the error that says what is safe next: no connection -> ProviderUnreachable; an
    answer lost or 5xx -> SubmitUnknown for submissions, else ProviderUnreachable (asking again is safe);
    429 -> ProviderBusy; key, credit, input -> ProviderRefused. `headers` carry the key: they go to the
    service's own address only, never to the host of a download, a redirect or a message. `timeout_s` bounds
    each wait for the network, `limit_s` one whole call.
    """

    def __init__(
        self,
        service: Service,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        limit_s: float = 300.0,
        max_connections: int = 48,
    ) -> None:
        self.service = service
        self._headers = dict(headers or {})
        self._limit_s = limit_s
        self._local = is_loopback(service.base)
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, 15.0)),
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            headers={"user-agent": "talent-factory"},
            # a proxy of the environment cannot reach this machine's own loopback
            trust_env=not self._local,
            verify=_tls(),
        )
        # sockets are closed with the object, whether or not its owner remembered to
        self._close = weakref.finalize(self, self._client.close)

    def close(self) -> None:
        """Close all connections; doing so twice is no error."""
        self._close()

    def get(
        self, path: str, *, params: Mapping[str, str] | None = None, judge: Judge | None = None
    ) -> Answer:
        """GET and read JSON. `judge` may name a better error for an answer before the usual mapping does."""
        request = self._request("GET", path, params=dict(params or {}))
        return self._answer(request, submit=False, judge=judge)

    def post(
        self,
        path: str,
        body: object = None,
        *,
        submit: bool = False,
        judge: Judge | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """POST JSON and read JSON. `submit` marks what creates a job: a lost answer is SubmitUnknown."""
        content = json.dumps(body, allow_nan=False).encode() if body is not None else b""
        extra = {"content-type": "application/json"} if body is not None else {}
        request = self._request("POST", path, content=content, headers=extra | dict(headers or {}))
        return self._answer(request, submit=submit, judge=judge)

    def put(self, path: str, *, judge: Judge | None = None) -> Answer:
        """PUT without a body and read JSON; for what may be said twice, such as giving a job up."""
        return self._answer(self._request("PUT", path), submit=False, judge=judge)

    def post_form(
        self,
        path: str,
        *,
        files: Sequence[tuple[str, tuple[str, bytes, str]]],
        data: Mapping[str, str] | None = None,
        submit: bool = False,
        judge: Judge | None = None,
    ) -> Answer:
        """POST a multipart form; `files` are (field, (file name, bytes, media type))."""
        request = self._request("POST", path, files=list(files), data=dict(data or {}))
        return self._answer(request, submit=submit, judge=judge)

    def download(
        self, url: str, *, params: Mapping[str, str] | None = None, max_bytes: int = MAX_DOWNLOAD
    ) -> bytes:
        """All bytes behind a result's address (absolute, or a path of the service).

        Raises ResultExpired when it is gone, ProviderUnreachable when it came incomplete (fetching again
        costs nothing), ProviderError when it is too large or its address is not to be followed.
        """
        target = self._url(url)
        for _ in range(_MAX_REDIRECTS + 1):
            self._check_download(target)
            own = origin(target) == origin(self.service.base)
            headers = {"accept-encoding": "identity"} | (self._headers if own else {})
            request = self._client.build_request("GET", target, headers=headers, params=params or None)
            response, data = self._send(request, submit=False, max_bytes=max_bytes)
            if response.status_code in (301, 302, 303, 307, 308) and "location" in response.headers:
                target, params = urljoin(target, response.headers["location"]), None
                continue
            # with our key on the request, 403 is about the key; without it, about a signature that ran out
            if response.status_code in ({404, 410} if own else {403, 404, 410}):
                raise ResultExpired(
                    f"{self.service.name} no longer keeps the image (HTTP {response.status_code})",
                    remedy="finished images are kept for a limited time; cast the slot again",
                )
            self._raise_for(Answer(response.status_code, None, _headers(response), _text(data)), submit=False)
            return data
        raise ProviderError(
            f"{self.service.name}: the image's address redirects more than {_MAX_REDIRECTS} times"
        )

    def say(self, text: object) -> str:
        """A foreign text as one short line without keys, fit for a message."""
        line = " ".join(str(text).split())
        for value in self._headers.values():
            secret = value.split(" ")[-1]
            if len(secret) >= 6:
                line = line.replace(secret, "***")
        return line if len(line) <= _QUOTE else line[: _QUOTE - 1] + "…"

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        files: list[tuple[str, tuple[str, bytes, str]]] | None = None,
        data: dict[str, str] | None = None,
    ) -> httpx2.Request:
        url = self._url(path)
        if origin(url) != origin(self.service.base):
            raise ProviderError(f"{self.service.name} sent us to another host, {self.say(url)}: not followed")
        everything = self._headers | {"accept": "application/json"} | dict(headers or {})
        return self._client.build_request(
            method, url, params=params or None, content=content, headers=everything, files=files, data=data
        )

    def _url(self, path: str) -> str:
        return path if "://" in path else f"{self.service.base}/{path.lstrip('/')}"

    def _answer(self, request: httpx2.Request, *, submit: bool, judge: Judge | None) -> Answer:
        response, body = self._send(request, submit=submit, max_bytes=MAX_ANSWER)
        text = _text(body)
        try:
            data: object = json.loads(body) if body.strip() else None
            broken = False
        except (ValueError, RecursionError):
            data, broken = None, True
        answer = Answer(response.status_code, data, _headers(response), text)
        better = judge(answer) if judge is not None else None
        if better is not None:
            raise better
        self._raise_for(answer, submit=submit)
        if broken and _is_page(answer):
            host = urlsplit(str(request.url)).netloc
            raise ProviderError(
                f"{self.service.name} answered a web page instead of JSON ({host})",
                remedy="check the endpoint and whether a proxy or a login page stands between",
            )
        if broken and submit:
            raise self._lost("its answer is not readable")
        if broken:
            raise ProviderUnreachable(f"{self.service.name} sent a damaged answer", remedy="try again")
        return answer

    def _send(
        self, request: httpx2.Request, *, submit: bool, max_bytes: int
    ) -> tuple[httpx2.Response, bytes]:
        """One exchange, streamed, with its time and size bounded; the status is not judged here."""
        name, until, parts, size = self.service.name, time.monotonic() + self._limit_s, [], 0
        response: httpx2.Response | None = None
        try:
            response = self._client.send(request, stream=True)
            try:
                for piece in response.iter_bytes():
                    size += len(piece)
                    parts.append(piece)
                    if size > max_bytes:
                        raise self._too_large(max_bytes, submit=submit)
                    if time.monotonic() > until:
                        raise httpx2.ReadTimeout(f"no end after {self._limit_s:.0f} s", request=request)
            finally:
                response.close()
        except (
            httpx2.ConnectError,
            httpx2.ConnectTimeout,
            httpx2.PoolTimeout,
            httpx2.ProxyError,
            httpx2.UnsupportedProtocol,
        ) as error:
            host = urlsplit(str(request.url)).netloc
            raise ProviderUnreachable(
                f"cannot reach {name} at {host}: {self.say(error) or type(error).__name__}",
                remedy="check the network and the endpoint; nothing was sent and nothing is paid",
            ) from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            if response is not None and response.status_code >= 400:
                return response, b"".join(parts)  # the status says enough
            if submit:
                raise self._lost(self.say(error) or type(error).__name__) from None
            raise ProviderUnreachable(
                f"the answer of {name} came incomplete: {self.say(error) or type(error).__name__}",
                remedy="try again; nothing is paid twice for that",
            ) from None
        return response, b"".join(parts)

    def _raise_for(self, answer: Answer, *, submit: bool) -> None:
        """Raise what a status means; return for 2xx."""
        name, status = self.service.name, answer.status
        if 200 <= status < 300:
            return
        why = self.say(_detail(answer)) or f"HTTP {status}"
        if status == 429:
            wait = retry_after(answer)
            raise ProviderBusy(
                f"{name} asks to wait {wait:g} s: {why}", remedy="nothing was paid", retry_after_s=wait
            )
        if status >= 500 or status == 408:
            if submit:
                raise self._lost(f"HTTP {status}: {why}")
            raise ProviderUnreachable(f"{name} answered HTTP {status}: {why}", remedy="try again later")
        if status in (_REFUSED_SUBMIT if submit else _REFUSED):
            raise ProviderRefused(f"{name} refused (HTTP {status}): {why}", remedy=self._remedy(status))
        raise ProviderError(
            f"{name} answered HTTP {status}: {why}", remedy="check the model and the endpoint"
        )

    def _remedy(self, status: int) -> str:
        variable, page = self.service.key_variable, self.service.key_page
        if status in (401, 403) and variable:
            return f"check {variable}; keys are made at {page}"
        if status == 402:
            return f"add credit to the account behind {variable or 'the key'} ({page}), then resume"
        if status in (404, 405):
            return "check the model's name and the endpoint"
        return "change the input that is named; nothing was paid"

    def _lost(self, why: str) -> SubmitUnknown:
        return SubmitUnknown(
            f"the answer of {self.service.name} to a submission was lost: {why}",
            remedy="the job may exist and be paid: resume looks for it before anything is sent again",
        )

    def _too_large(self, limit: int, *, submit: bool) -> ProviderError:
        if submit:
            return self._lost(f"it is larger than {limit >> 20} MiB")
        return ProviderError(f"{self.service.name} sent more than {limit >> 20} MiB: refused")

    def _check_download(self, url: str) -> None:
        problem = address_problem(url, plain=self._local)
        if problem:
            raise ProviderError(
                f"{self.service.name} gave an address for the image that is not followed: {self.say(problem)}"
            )


def retry_after(answer: Answer, *, default: float = 5.0) -> float:
    """Seconds to wait, from the Retry-After header (seconds or a date) or the body's `retry_after`."""
    header = answer.headers.get("retry-after", "")
    for value in (header, answer.facts().get("retry_after")):
        try:
            seconds = float(str(value))
        except ValueError:
            continue
        if not math.isnan(seconds):
            return min(_MAX_WAIT_S, max(0.0, seconds))
    moment = _date(header)
    if moment is not None:
        now = answer.moment or datetime.now(UTC)
        return min(_MAX_WAIT_S, max(0.0, (moment - now).total_seconds()))
    return default


@cache
def _tls() -> ssl.SSLContext:
    # reading the certificates takes a while; one context serves every client
    return httpx2.create_ssl_context()


def _headers(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _text(body: bytes) -> str:
    return body[:4096].decode("utf-8", "replace")


def _is_page(answer: Answer) -> bool:
    return "html" in answer.headers.get("content-type", "") or answer.text.lstrip().startswith("<")


def _detail(answer: Answer) -> object:
    """The part of an error body that says why."""
    if _is_page(answer):
        return f"HTTP {answer.status} with a web page"
    facts = answer.facts()
    for name in ("detail", "message", "title", "error"):
        value = facts.get(name)
        if isinstance(value, Mapping):
            value = value.get("message") or value
        if value:
            return value
    return answer.text


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
