"""A typed client of the service: what its answers mean as records, its refusals as errors of the house."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from talent_factory.core.errors import (
    BaseError,
    KitError,
    PolicyRefused,
    TalentError,
    UsageError,
)
from talent_factory.service.wire import (
    FINAL,
    BaseSummary,
    Event,
    Fault,
    FaultAnswer,
    Health,
    Job,
    JobPage,
    KitDetail,
    KitPage,
    KitSummary,
    MixAnswer,
    MixAsk,
    PersonaPage,
    RenderAsk,
)

Answer = TypeVar("Answer", bound=BaseModel)
_RETRY_SECONDS = 1.0
# What a service that is full or being restarted answers, and a proxy in front of one.
_AWAY = frozenset((502, 503, 504))
_ERRORS: dict[str, type[TalentError]] = {
    "UsageError": UsageError,
    "ConfigError": UsageError,
    "KeyTaken": UsageError,
    "KitError": KitError,
    "BaseError": BaseError,
    "PolicyRefused": PolicyRefused,
}


class ServiceFault(TalentError):
    """The service refused or failed: `status` is HTTP's, `retry_after_s` what it asks to wait for."""

    def __init__(
        self, message: str, *, remedy: str = "", status: int = 0, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.retry_after_s = retry_after_s


class FoundryClient:
    """Speaks with one service; use it as a context manager. Safe for several threads."""

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 30.0) -> None:
        """`url` such as http://127.0.0.1:8084; `token` is the content of the service's token file."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = timeout
        # no proxy and no .netrc of the environment: the token goes to that address alone
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> Health:
        """Whether the service works."""
        return self._get("/health", Health)

    def bases(self) -> list[BaseSummary]:
        """The bases that requests may name."""
        return [BaseSummary.model_validate(item) for item in self._send("GET", "/bases").json()]

    def kits(
        self,
        *,
        kind: str | None = None,
        base: str | None = None,
        family: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> KitPage:
        """Valid kits by id: of a kind, made for a base in its maker's words, of a family of bases."""
        return self._get("/kits", KitPage, kind=kind, base=base, family=family, limit=limit, offset=offset)

    def kit(self, talent_id: str) -> KitDetail:
        """One kit with its prompts and manifest."""
        return self._get(f"/kits/{_part(talent_id)}", KitDetail)

    def kit_preview(self, talent_id: str) -> bytes:
        """The picture of a kit as PNG."""
        return self._send("GET", f"/kits/{_part(talent_id)}/preview").content

    def search(self, text: str, *, limit: int = 20) -> list[KitSummary]:
        """Kits whose words fit best."""
        found = self._send("GET", "/search", params={"q": text, "limit": limit}).json()
        return [KitSummary.model_validate(item) for item in found]

    def check_mix(self, ask: MixAsk) -> MixAnswer:
        """Whether kits can be used together. Raises UsageError, KitError or BaseError."""
        return _read(self._send("POST", "/mixes", body=ask), MixAnswer)

    def render(self, ask: RenderAsk, *, key: str | None = None) -> Job:
        """Send a job; with the same `key` it may be sent again without being drawn twice."""
        headers = {"Idempotency-Key": key} if key else {}
        return _read(self._send("POST", "/renders", body=ask, headers=headers), Job)

    def jobs(self, *, limit: int = 50, offset: int = 0) -> JobPage:
        """Jobs, the newest first."""
        return self._get("/jobs", JobPage, limit=limit, offset=offset)

    def job(self, job_id: str) -> Job:
        """How far a job is."""
        return self._get(f"/jobs/{_part(job_id)}", Job)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job."""
        return _read(self._send("DELETE", f"/jobs/{_part(job_id)}"), Job)

    def image(self, job_id: str, number: int) -> bytes:
        """Image 1, 2, ... of a job as PNG."""
        return self._send("GET", f"/jobs/{_part(job_id)}/images/{number}").content

    def job_preview(self, job_id: str) -> bytes:
        """What is being drawn, as PNG."""
        return self._send("GET", f"/jobs/{_part(job_id)}/preview").content

    def sheet(self, job_id: str) -> bytes:
        """All images of a finished job on one page, as PNG."""
        return self._send("GET", f"/jobs/{_part(job_id)}/sheet").content

    def personas(self) -> PersonaPage:
        """Saved personas."""
        return self._get("/personas", PersonaPage)

    def persona(self, persona_id: str) -> dict[str, Any]:
        """One persona as it is saved."""
        found: dict[str, Any] = self._send("GET", f"/personas/{_part(persona_id)}").json()
        return found

    def events(self, job_id: str, *, after: int = 0, patience: float = 60.0) -> Iterator[Event]:
        """What happens to a job after event `after`, until it is over; goes on where a connection broke.

        The last event's kind is done, failed or cancelled. Raises ServiceFault when the service cannot be
        reached, or takes nobody in, for `patience` seconds.
        """
        lost_since: float | None = None
        while True:
            try:
                with self._follow(job_id, after) as lines:
                    lost_since = None
                    for event in _events(lines):
                        after = event.id
                        yield event
                        if event.kind in FINAL:
                            return
            except (httpx2.TransportError, ServiceFault) as error:
                if isinstance(error, ServiceFault) and error.status not in _AWAY:
                    raise
                # a job may wait for hours without an event: what counts is how long nobody answers
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > patience:
                    raise error if isinstance(error, ServiceFault) else _unreachable(error) from error
            time.sleep(_RETRY_SECONDS)

    def wait(self, job_id: str, *, patience: float = 60.0) -> Job:
        """Wait until a job is over and return it; its state says how it ended."""
        for _ in self.events(job_id, patience=patience):
            pass
        return self.job(job_id)

    @contextmanager
    def _follow(self, job_id: str, after: int) -> Iterator[Iterator[str]]:
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        # the service says something every 15 seconds, so a longer silence is a broken connection
        timeout = httpx2.Timeout(self._timeout, read=max(self._timeout, 45.0))
        path = f"/jobs/{_part(job_id)}/events"
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if response.status_code >= 400:
                response.read()
                raise _fault(response)
            yield response.iter_lines()

    def _get(self, path: str, model: type[Answer], **params: str | int | None) -> Answer:
        given = {name: value for name, value in params.items() if value is not None}
        return _read(self._send("GET", path, params=given), model)

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: BaseModel | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        try:
            response = self._http.request(
                method,
                path,
                params=dict(params or {}),
                json=None if body is None else body.model_dump(mode="json", exclude_unset=True),
                headers=dict(headers or {}),
            )
        except httpx2.TransportError as error:
            raise _unreachable(error) from error
        if response.status_code >= 400:
            raise _fault(response)
        return response


def _events(lines: Iterator[str]) -> Iterator[Event]:
    """Events out of the text form of server-sent events; comments and half an event are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            if {"id", "event", "data"} <= fields.keys():
                yield Event(id=int(fields["id"]), kind=fields["event"], data=json.loads(fields["data"]))
            fields = {}


def _part(text: str) -> str:
    """`text` as one part of a path, whatever stands in it."""
    return quote(text, safe="")


def _read(response: httpx2.Response, model: type[Answer]) -> Answer:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise ServiceFault(
            f"the answer is no {model.__name__}: {error.error_count()} fields",
            remedy="use a client of the service's version",
            status=response.status_code,
        ) from None


def _fault(response: httpx2.Response) -> TalentError:
    try:
        fault = FaultAnswer.model_validate_json(response.content).error
    except ValidationError:
        fault = Fault(kind="HTTPError", message=f"the service answered {response.status_code}")
    if fault.kind in _ERRORS:
        return _ERRORS[fault.kind](fault.message, remedy=fault.remedy)
    wait = response.headers.get("Retry-After", "")
    return ServiceFault(
        fault.message,
        remedy=fault.remedy,
        status=response.status_code,
        retry_after_s=float(wait) if wait.isdecimal() else None,
    )


def _unreachable(error: Exception) -> ServiceFault:
    return ServiceFault(f"the service cannot be reached: {error}", remedy="start it: talent serve")
