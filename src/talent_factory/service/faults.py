"""Every refusal of the service in one JSON form, with the status it deserves and no path of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from talent_factory.core.errors import (
    BaseError,
    FileError,
    KitError,
    PolicyRefused,
    TalentError,
    UsageError,
    WorkspaceBusy,
)
from talent_factory.core.workspace import Workspace
from talent_factory.service.queue import KeyTaken, NoSuchJob, ServiceBusy
from talent_factory.service.wire import Fault, FaultAnswer

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

# The first that fits decides, so the narrower stand before the wider.
_STATUS: tuple[tuple[type[TalentError], int], ...] = (
    (ServiceBusy, 503),
    (WorkspaceBusy, 503),
    (KeyTaken, 409),
    (NoSuchJob, 404),
    (UsageError, 422),
    (KitError, 422),
    (BaseError, 422),
    (PolicyRefused, 403),
    (FileError, 422),
)


class NotThere(TalentError):
    """What the address names does not exist."""


def fault_answer(kind: str, message: str, remedy: str = "") -> dict[str, Any]:
    """The body of a refusal."""
    return FaultAnswer(error=Fault(kind=kind, message=message, remedy=remedy)).model_dump()


def status_of(error: TalentError) -> int:
    """The HTTP status of an error of ours; what is no fault of the asker is 500."""
    if isinstance(error, NotThere):
        return 404
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def hide(text: str, place: Workspace, bases: Mapping[str, str]) -> str:
    """`text` without the paths of the workspace and of the bases."""
    shown = text.replace(str(place.root), "WORKSPACE")
    for name, where in bases.items():
        shown = shown.replace(where, name)
    return shown


def add_handlers(app: FastAPI, place: Workspace, bases: Mapping[str, str]) -> None:
    """Let `app` answer errors in the one form."""
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, TalentError)
        headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, ServiceBusy) else None
        body = fault_answer(
            type(error).__name__, *(hide(text, place, bases) for text in (error.message, error.remedy))
        )
        return JSONResponse(body, status_code=status_of(error), headers=headers)

    async def misfit(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0] if error.errors() else {"loc": ("body",), "msg": "cannot be read"}
        where = ".".join(str(part)[:60] for part in first["loc"])
        body = fault_answer("UsageError", f"{where}: {str(first['msg'])[:300]}", "see /openapi.json")
        return JSONResponse(body, status_code=422)

    async def plain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        body = fault_answer("HTTPError", str(error.detail)[:300], "see /openapi.json")
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)

    async def broken(request: Request, error: Exception) -> Response:
        # the traceback stands in the log of the server, not in the answer
        return JSONResponse(fault_answer("ServerError", "an error of ours, kept in the log"), status_code=500)

    app.add_exception_handler(TalentError, ours)
    app.add_exception_handler(RequestValidationError, misfit)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Exception, broken)
