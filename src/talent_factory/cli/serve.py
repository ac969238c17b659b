"""`talent serve`: kits, mixes, renders and personas of a workspace over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit, reporter

if TYPE_CHECKING:
    from talent_factory.engines.queue import Device
    from talent_factory.service.serve import Running


HostOption = Annotated[str, typer.Option("--host", help="Address to listen on.")]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes any free one.")]
BaseOption = Annotated[
    list[str] | None,
    typer.Option(
        "--base",
        help="A base that requests may name, as for `talent render`; may be repeated.",
        show_default="mini",
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file", help="File of the token; made when missing.", show_default="WORKSPACE/service/token"
    ),
]
NoAuthOption = Annotated[bool, typer.Option("--no-auth", help="Ask for no token; only on loopback.")]
LimitOption = Annotated[
    int, typer.Option("--queue-limit", min=1, max=10_000, help="Jobs that may wait or run at a time.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="auto (every GPU, else the processor), cuda or cpu.")
]
OriginOption = Annotated[
    list[str] | None,
    typer.Option("--allow-origin", help="Origin of pages that may ask from a browser; may be repeated."),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="TALENT_DATABASE",
        help="postgresql:// address of the queue; one with a password belongs into the variable.",
        show_default="a SQLite file of the workspace",
    ),
]
NameOption = Annotated[
    str, typer.Option("--name", help="Name of this machine's workers where several share a database.")
]
KeepOption = Annotated[
    int,
    typer.Option("--keep-days", min=1, help="Days after which a finished job and its images are removed."),
]


def serve(
    host: HostOption = "127.0.0.1",
    port: PortOption = 8084,
    base: BaseOption = None,
    token_file: TokenFileOption = None,
    no_auth: NoAuthOption = False,
    queue_limit: LimitOption = 64,
    device: DeviceOption = "auto",
    allow_origin: OriginOption = None,
    database: DatabaseOption = None,
    name: NameOption = "local",
    keep_days: KeepOption = 30,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer requests about kits, mixes, renders and personas until Ctrl-C; jobs outlive a restart."""
    from talent_factory.core.workspace import check_token, workspace_from
    from talent_factory.service.serve import Serving, check_extra, serve

    check_extra()
    serving = Serving(
        place=workspace_from(workspace),
        host=host,
        port=port,
        token_file=token_file,
        auth=not no_auth,
        queue_limit=queue_limit,
        bases=tuple(base or ()),
        origins=tuple(allow_origin or ()),
        database=database,
        name=check_token(name),
        keep_days=keep_days,
        devices=_devices(device),
    )
    with reporter() as listener:
        serve(serving, ready=lambda running: _show(running, as_json), tell=listener.message)


def _devices(wanted: str) -> tuple[Device, ...]:
    """One place to draw for each GPU; the processor is one by itself."""
    from talent_factory.core.errors import UsageError
    from talent_factory.engines.queue import Device, devices
    from talent_factory.training.devices import count_gpus

    if wanted not in ("auto", "cuda", "cpu"):
        raise UsageError(f"--device {wanted[:40]!r} is none", remedy="choose auto, cuda or cpu")
    if wanted == "cpu":
        # hidden, so that "auto" in the worker finds the processor
        return (Device("cpu", (("CUDA_VISIBLE_DEVICES", ""),)),)
    gpus = count_gpus()
    if wanted == "cuda" and not gpus:
        raise UsageError("there is no GPU here that torch can use", remedy="leave --device out")
    return devices("auto", gpus=gpus)


def _show(running: Running, as_json: bool) -> None:
    token = str(running.token_file) if running.token_file else None
    lines = [f"serving on {running.url}"]
    lines.append(f"token: {token}" if token else "no token is asked for")
    emit(
        {"url": running.url, "token_file": token},
        as_json,
        lambda: console().print("\n".join(lines), markup=False, soft_wrap=True),
    )
    # whoever waits for the address reads a pipe, which holds back what is not pushed
    sys.stdout.flush()
