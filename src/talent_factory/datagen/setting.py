"""What a program may say about a generation beyond whose images it wants, and what follows from that."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from talent_factory.core.config import nearest
from talent_factory.core.errors import UsageError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.stop import StopSignal, graceful_stop
from talent_factory.core.workspace import Workspace, check_token, workspace_from
from talent_factory.datagen.commission import BY_USER
from talent_factory.datagen.delivery import Delivery
from talent_factory.providers.port import ImageEditor
from talent_factory.storage.catalog import open_store
from talent_factory.storage.keys import checked_id
from talent_factory.storage.port import Store

Kind = Literal["actor", "style"]
STORE_FOLDER = "user_files"


class Extras(TypedDict, total=False):
    """Keyword arguments that both generators take, when they are made or for one call.

    provider: a name ("replicate", "fal", "embedded", …) or an `ImageEditor`; model and base_url go with it.
    store: None for the folder `user_files` of the workspace, another folder, "s3", "s3://BUCKET", a `Store`.
    workspace: where casts lie (default: $TALENT_WORKSPACE or the current folder); out: another folder for
    this cast; token: the trigger word (default: made from the actor's id). dotenv: the file of keys (default:
    `.env`). allow_local: take addresses of this machine and network. reporter, stop: who hears of progress,
    and who may stop the work.
    """

    provider: str | ImageEditor
    model: str | None
    base_url: str | None
    store: str | Path | Store | None
    workspace: Workspace | Path | str | None
    out: Path | str | None
    token: str | None
    dotenv: Path | None
    allow_local: bool
    reporter: Reporter | None
    stop: StopSignal | None
    seed: int
    long_side: int
    budget_usd: float | None
    time_scale: float


@dataclass(frozen=True)
class Setting:
    """One call, ready to run: where, for whom, by whom. `options` are those of the cast."""

    folder: Path
    token: str
    provider: str | ImageEditor
    model: str | None
    base_url: str | None
    dotenv: Path | None
    allow_local: bool
    reporter: Reporter
    stop: StopSignal | None
    delivery: Delivery
    store: str | None
    user_id: str
    actor_id: str
    options: Mapping[str, Any]

    @contextmanager
    def stoppable(self) -> Iterator[StopSignal]:
        """The caller's stop signal, or one that listens to Ctrl-C and SIGTERM."""
        if self.stop is not None:
            yield self.stop
            return
        with graceful_stop() as signal:
            yield signal


def make_setting(
    extras: Mapping[str, Any],
    *,
    kind: Kind,
    user_id: str | int,
    actor_id: str | int,
    options: Collection[str],
    others: Collection[str] = (),
) -> Setting:
    """What `extras` come to; `options` are names that go to the cast, `others` those of the caller.

    Raises UsageError for unknown names and ids that are none, ConfigError for a store without settings.
    """
    known = {*Extras.__annotations__, *options, *others}
    for name in extras:
        if name not in known:
            raise UsageError(
                f"there is no argument {name!r}", remedy=f"did you mean {nearest(name, sorted(known))!r}?"
            )
    user, actor = checked_id("user id", user_id), checked_id("actor id", actor_id)
    place = _workspace(extras.get("workspace"))
    dotenv = extras.get("dotenv")
    store = open_store(extras.get("store"), default=place.root / STORE_FOLDER, dotenv=dotenv)
    out = extras.get("out")
    return Setting(
        folder=Path(out).expanduser() if out else cast_folder(place, user, actor, kind),
        token=check_token(extras.get("token") or token_of(actor)),
        provider=extras.get("provider", "replicate"),
        model=extras.get("model"),
        base_url=extras.get("base_url"),
        dotenv=dotenv,
        allow_local=bool(extras.get("allow_local", False)),
        reporter=cast(Reporter, extras.get("reporter") or SilentReporter()),
        stop=extras.get("stop"),
        delivery=Delivery(store, user_id=user, actor_id=actor, kind=kind),
        store=_written(extras.get("store"), place),
        user_id=user,
        actor_id=actor,
        options={name: extras[name] for name in options if name in extras},
    )


def cast_folder(place: Workspace, user_id: str | int, actor_id: str | int, kind: Kind) -> Path:
    """Where the cast of a user's actor lies in a workspace. Raises UsageError for ids that are none."""
    user, actor = checked_id("user id", user_id), checked_id("actor id", actor_id)
    return place.casts / BY_USER / user / actor / kind


def token_of(actor_id: str | int) -> str:
    """The trigger word made from an id: lower case, `_` for what a token cannot hold, a letter in front."""
    word = re.sub(r"[^a-z0-9_]", "_", str(actor_id).lower())
    return (word if word[:1].isalpha() else f"actor_{word}")[:40]


def _written(store: str | Path | Store | None, place: Workspace) -> str | None:
    """The store as another process, in another folder, finds it again; None for an object of the caller's."""
    if store is None or store == "local":
        return str(place.root / STORE_FOLDER)
    if isinstance(store, str) and (store.strip() == "s3" or "://" in store):
        return store.strip()
    return str(Path(store).absolute()) if isinstance(store, str | Path) else None


def _workspace(given: Workspace | Path | str | None) -> Workspace:
    if isinstance(given, Workspace):
        return given
    return workspace_from(Path(given) if given is not None else None)
