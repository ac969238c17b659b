"""Run the service: one server process, one worker process for each device, until a signal asks to end."""

from __future__ import annotations

import os
import secrets
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from talent_factory.core.errors import UsageError
from talent_factory.core.stop import graceful_stop
from talent_factory.core.workspace import Workspace, exclusive
from talent_factory.engines.queue import Device
from talent_factory.service.places import service_folder

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from talent_factory.core.stop import StopSignal
    from talent_factory.service.queue import Jobs

TOKEN_FILE = "token"
_EXTRA = ("fastapi", "uvicorn", "dbos")
_FAREWELL_SECONDS = 5
_SWEEP_SECONDS = 3600.0
_CONNECTIONS = 512


@dataclass(frozen=True)
class Serving:
    """How the service runs; where `token_file` or `database` is None they lie in WORKSPACE/service.

    `name` tells the workers of several machines at one database apart; it must stay the same over restarts.
    """

    place: Workspace
    host: str = "127.0.0.1"
    port: int = 8084
    token_file: Path | None = None
    auth: bool = True
    queue_limit: int = 64
    bases: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    database: str | None = None
    name: str = "local"
    keep_days: int = 30
    devices: tuple[Device, ...] = (Device("this machine"),)


@dataclass(frozen=True)
class Running:
    """Where a service that runs can be reached; `token_file` None where nobody is asked for a token."""

    url: str
    token_file: Path | None


def check_extra() -> None:
    """Raise UsageError when the libraries of the service are not installed."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the service needs {', '.join(missing)}", remedy="pip install 'talent-factory[service]'"
        )


def serve(serving: Serving, *, ready: Callable[[Running], None], tell: Callable[[str], None]) -> None:
    """Answer requests until SIGTERM or Ctrl-C; `ready` is told once where, `tell` what happens.

    Raises UsageError for what cannot be, BaseError for a base that is not here, WorkspaceBusy when the
    workspace has a service already.
    """
    check_extra()
    _check_exposure(serving)
    with ExitStack() as stack:
        stop = stack.enter_context(graceful_stop("stopping: images in the making are finished first"))
        _make_private(service_folder(serving.place))
        stack.enter_context(exclusive(service_folder(serving.place)))
        listener = stack.enter_context(closing(_listen(serving.host, serving.port)))
        token_path = _token_path(serving)
        token = _read_token(token_path) if token_path is not None else None
        server = stack.enter_context(_built(serving, token, stop, tell))
        port = listener.getsockname()[1]
        host = f"[{serving.host}]" if ":" in serving.host else serving.host
        ready(Running(url=f"http://{host}:{port}", token_file=token_path))
        server.run(sockets=[listener])


@contextmanager
def _built(
    serving: Serving, token: str | None, stop: StopSignal, tell: Callable[[str], None]
) -> Iterator[uvicorn.Server]:
    """The server with its queue, its kits and its workers, which end with the block."""
    from talent_factory.service.api import House, make_app
    from talent_factory.service.crew import Crew
    from talent_factory.service.gate import Counts, Gate
    from talent_factory.service.order import bases_shown, named_bases
    from talent_factory.service.queue import Jobs, database_url, prepare_database
    from talent_factory.service.shelf import Shelf

    url = database_url(serving.place, serving.database)
    bases = named_bases(serving.bases)
    shown = bases_shown(bases)
    prepare_database(url)
    with ExitStack() as stack:
        shelf = stack.enter_context(closing(Shelf(serving.place)))
        # the first look reads every kit; the first who asks is not to wait for all of it
        threading.Thread(target=shelf.kits, name="shelf", daemon=True).start()
        jobs = stack.enter_context(closing(Jobs(serving.place, url, limit=serving.queue_limit)))
        taken = jobs.take_over(serving.name, count=len(serving.devices))
        if taken:
            tell(f"{taken} jobs of devices that are gone wait again")
        crew = Crew(
            serving.place,
            url=url,
            bases=tuple(bases.values()),
            devices=serving.devices,
            name=serving.name,
            tell=tell,
        )
        over = threading.Event()
        sweeper = threading.Thread(target=_sweep, args=(jobs, serving.keep_days, over, tell), name="sweeper")
        stack.callback(sweeper.join)
        stack.callback(over.set)
        sweeper.start()
        stack.callback(crew.stop)
        crew.start()
        counts = Counts()
        house = House(
            place=serving.place,
            bases=bases,
            shown=shown,
            shelf=shelf,
            jobs=jobs,
            counts=counts,
            alive=lambda: sum(post.alive for post in crew.posts),
            ending=lambda: stop.requested,
        )
        gate = Gate(
            _with_origins(make_app(house), serving.origins),
            token=token,
            hosts=_own_names(serving.host),
            origins=serving.origins,
            counts=counts,
        )
        yield _server(gate, stop)


def _sweep(jobs: Jobs, days: int, over: threading.Event, tell: Callable[[str], None]) -> None:
    """Remove jobs that have been over for so many days, now and every hour."""
    from sqlalchemy.exc import SQLAlchemyError

    while True:
        try:
            jobs.forget(older_than=timedelta(days=days))
        except (SQLAlchemyError, OSError) as error:
            # a database that is away for a moment must not end the sweeping of a server that runs for months
            tell(f"old jobs could not be removed ({type(error).__name__}); the next try is in an hour")
        if over.wait(_SWEEP_SECONDS):
            return


def _server(app: object, stop: StopSignal) -> uvicorn.Server:
    """A uvicorn server that ends when `stop` is requested, and leaves signals alone."""
    import uvicorn

    from talent_factory.service.patience import Connection

    class Server(uvicorn.Server):
        def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]
            # ours are caught already; theirs would end the process before the workers are told
            return nullcontext()

        async def on_tick(self, counter: int) -> bool:
            return await super().on_tick(counter) or stop.requested

    return Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            http=Connection,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=32 * 1024,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=_FAREWELL_SECONDS,
        )
    )


def _with_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The application, answering the questions of browsers where pages of other hosts may ask."""
    if not origins:
        return app
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
    )


def _make_private(folder: Path) -> None:
    """Make the folder, if it is new, so that only its owner sees the jobs: the token alone would not do."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)


def _check_exposure(serving: Serving) -> None:
    if not serving.auth and not _is_loopback(serving.host):
        raise UsageError(
            f"without a token everybody who reaches {serving.host} could use this service",
            remedy="leave --no-auth out, or --host",
        )
    if "*" in serving.origins:
        raise UsageError("any page of the web could ask", remedy="name the origins: --allow-origin URL")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_names(host: str) -> frozenset[str] | None:
    """The names that requests may call this service by; any where it listens to other machines."""
    return frozenset(("127.0.0.1", "localhost", "[::1]", host)) if _is_loopback(host) else None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"{host}:{port} cannot be listened on: {error.strerror}",
            remedy="name another --port, or 0 for any",
        ) from None
    return listener


def _token_path(serving: Serving) -> Path | None:
    """The file of the token, made with a fresh one at the first start; None without authentication."""
    if not serving.auth:
        return None
    path = serving.token_file or service_folder(serving.place) / TOKEN_FILE
    try:
        # created with its final rights and only if it is not there: at no moment can others read it
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path
    except OSError as error:
        raise UsageError(f"{path} cannot be made: {error.strerror}", remedy="name --token-file") from None
    with os.fdopen(descriptor, "w") as stream:
        stream.write(f"{secrets.token_urlsafe(32)}\n")
    return path


def _read_token(path: Path) -> str:
    """The token in a file that only its owner may read. Raises UsageError otherwise."""
    try:
        mode = path.stat().st_mode
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a token: {error}", remedy="remove it") from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise UsageError(f"others may read the token in {path}", remedy=f"chmod 600 {path}")
    if len(token) < 20 or not token.isascii() or not token.isprintable():
        raise UsageError(
            f"{path} holds no token of 20 characters or more", remedy="remove it: a new one is made"
        )
    return token
